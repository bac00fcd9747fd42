package proxy_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/mem"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/upstream"
)

// discard is a client without a connection.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkHit is what a .mod from memory costs without net/http.
func BenchmarkHit(b *testing.B) {
	store, err := mem.New(mem.Config{MaxBytes: 1 << 20, MaxObject: 1 << 16})
	if err != nil {
		b.Fatal(err)
	}
	const name = "github.com/spf13/cobra/@v/v1.10.1.mod"
	if err := store.Put(b.Context(), name, strings.NewReader("module github.com/spf13/cobra\n"), cache.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	rules, err := policy.New(policy.Config{Private: "git.corp.example/*"})
	if err != nil {
		b.Fatal(err)
	}
	chain, err := upstream.New(upstream.Config{List: "off"})
	if err != nil {
		b.Fatal(err)
	}
	defer chain.Close()
	s, err := proxy.New(proxy.Config{Store: store, Public: chain, Policy: rules})
	if err != nil {
		b.Fatal(err)
	}
	h := access.Handler(s, slog.New(slog.DiscardHandler), func(*access.Record, time.Duration) {})
	r := httptest.NewRequest(http.MethodGet, "/"+name, nil)
	w := &discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}
