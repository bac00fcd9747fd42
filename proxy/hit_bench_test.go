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
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// cobra is the module that BenchmarkHit asks for.
const (
	cobra       = "github.com/spf13/cobra/@v/"
	cobraCommit = "v1.8.2-0.20240619184213-8cd5ac2f43f2"
)

// manyRules are 1,000 rules with 10,000 patterns, none of them for cobra, and more.
func manyRules(more ...policy.Rule) policy.Rules {
	all := policy.Rules{Rules: more}
	for i := range 1000 {
		r := policy.Rule{Name: fmt.Sprintf("r%d", i), Action: "deny", Reason: "because"}
		for j := range 10 {
			r.Modules = append(r.Modules, fmt.Sprintf("github.com/org%d/repo%d*", i, j))
		}
		all.Rules = append(all.Rules, r)
	}
	return all
}

// BenchmarkHit is what a file from memory costs without net/http: a .mod, which
// rules do not judge, and a .zip, which they do, some of them by what the list and
// the newest go.mod of the module say, or by the tags of a commit.
func BenchmarkHit(b *testing.B) {
	yes := true
	facts := manyRules(
		policy.Rule{Name: "retracted", When: policy.When{Retracted: &yes}, Action: "deny", Reason: "because"},
		policy.Rule{Name: "deprecated", When: policy.When{Deprecated: &yes}, Action: "warn"})
	tags := manyRules(policy.Rule{Name: "old", Versions: []string{"v1.3.0"}, Action: "deny", Reason: "because"})
	for _, c := range []struct {
		name, file string
		rules      policy.Rules
	}{
		{"mod", "v1.10.1.mod", policy.Rules{}}, {"mod with facts", "v1.10.1.mod", facts},
		{"zip", "v1.10.1.zip", policy.Rules{}}, {"zip with 1000 rules", "v1.10.1.zip", manyRules()}, {"zip with facts", "v1.10.1.zip", facts},
		{"zip of a commit with tags", cobraCommit + ".zip", tags},
		{"list", "list", policy.Rules{}}, {"list with facts", "list", facts},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkHit(b, cobra+c.file, c.rules) })
	}
}

func benchmarkHit(b *testing.B, name string, list policy.Rules) {
	h := benchServer(b, list)
	r := httptest.NewRequest(http.MethodGet, "/"+name, nil)
	w := &discard{header: http.Header{}}
	for range 3 { // what rules need to know is found out, and remembered
		h.ServeHTTP(w, r)
	}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}
	if w.status >= 400 {
		b.Fatalf("%s: %d", name, w.status)
	}
}

// benchServer has cobra in its store, and no upstream.
func benchServer(b *testing.B, list policy.Rules) http.Handler {
	store, err := mem.New(mem.Config{MaxBytes: 1 << 20, MaxObject: 1 << 16})
	if err != nil {
		b.Fatal(err)
	}
	put := func(name, text string, opts cache.PutOptions) {
		if err := store.Put(b.Context(), cobra+name, strings.NewReader(text), opts); err != nil {
			b.Fatal(err)
		}
	}
	var versions strings.Builder
	for i := range 12 {
		for j := range 10 { // 120 versions: many, and not the most there are
			v := fmt.Sprintf("v1.%d.%d", i, j)
			fmt.Fprintln(&versions, v)
			put(v+".info", `{"Version":"`+v+`","Time":"2024-01-01T00:00:00Z"}`, cache.PutOptions{})
		}
	}
	put("list", versions.String(), cache.PutOptions{Class: cache.Mutable, Attrs: cache.Attrs{Checked: time.Now()}})
	for _, v := range []string{"v1.11.9", "v1.10.1", cobraCommit} {
		put(v+".mod", "module github.com/spf13/cobra\n\nretract v1.3.0 // broken\n", cache.PutOptions{})
		put(v+".zip", "not looked into", cache.PutOptions{})
	}
	rules, err := policy.New(policy.Config{Private: "git.corp.example/*", Rules: list})
	if err != nil {
		b.Fatal(err)
	}
	chain, err := upstream.New(upstream.Config{List: "off"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = chain.Close() })
	s, err := proxy.New(proxy.Config{Store: store, Public: chain, Policy: rules, ListTTL: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	return access.Handler(s, access.Reports{Log: slog.New(slog.DiscardHandler), Observe: func(*access.Record, time.Duration) {}})
}
