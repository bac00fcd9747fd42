package proxy_test

import (
	"fmt"
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

// BenchmarkHit is what a file from memory costs without net/http: a .mod, which
// rules do not judge, and a .zip, which they do.
func BenchmarkHit(b *testing.B) {
	var many policy.Rules
	for i := range 1000 {
		r := policy.Rule{Name: fmt.Sprintf("r%d", i), Action: "deny", Reason: "because"}
		for j := range 10 {
			r.Modules = append(r.Modules, fmt.Sprintf("github.com/org%d/repo%d*", i, j))
		}
		many.Rules = append(many.Rules, r)
	}
	for _, c := range []struct {
		name, kind string
		rules      policy.Rules
	}{{"mod", "mod", policy.Rules{}}, {"zip", "zip", policy.Rules{}}, {"zip with 1000 rules", "zip", many}} {
		b.Run(c.name, func(b *testing.B) { benchmarkHit(b, c.kind, c.rules) })
	}
}

func benchmarkHit(b *testing.B, kind string, list policy.Rules) {
	store, err := mem.New(mem.Config{MaxBytes: 1 << 20, MaxObject: 1 << 16})
	if err != nil {
		b.Fatal(err)
	}
	name := "github.com/spf13/cobra/@v/v1.10.1." + kind
	if err := store.Put(b.Context(), name, strings.NewReader("module github.com/spf13/cobra\n"), cache.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	rules, err := policy.New(policy.Config{Private: "git.corp.example/*", Rules: list})
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
