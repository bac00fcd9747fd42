package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/mem"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// slow is a store whose Put of one name waits.
type slow struct {
	cache.Store
	name           string
	begun, release chan struct{}
}

func (s *slow) Put(ctx context.Context, name string, body io.Reader, opts cache.PutOptions) error {
	if name == s.name {
		close(s.begun)
		<-s.release
	}
	return s.Store.Put(ctx, name, body, opts)
}

func newMem(t *testing.T) *mem.Store {
	t.Helper()
	m, err := mem.New(mem.Config{MaxBytes: 64 << 20, MaxObject: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestListsDoNotWaitForEachOther: while the disk takes its time with the list of
// one module, those of others are answered.
func TestListsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	store := &slow{newMem(t), "example.com/slow/@v/list", make(chan struct{}), make(chan struct{})}
	mods := []*proxytest.Module{proxytest.Simple(t, "example.com/slow", "v1.0.0")}
	// Two names may share a lock, but not that many.
	for i := range 8 {
		mods = append(mods, proxytest.Simple(t, fmt.Sprintf("example.com/m%d", i), "v1.0.0"))
	}
	w := newWorld(t, options{store: store}, mods...)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	blocked := make(chan answer, 1)
	go func() { blocked <- w.send(ctx, "GET", "/example.com/slow/@v/list") }()
	<-store.begun
	others := make(chan answer, len(mods))
	for _, m := range mods[1:] {
		go func() { others <- w.send(ctx, "GET", "/"+m.Path+"/@v/list") }()
	}
	if a := <-others; a.err != nil || a.text() != "v1.0.0\n" {
		t.Errorf("%d %q, %v", a.status, a.body, a.err)
	}
	close(store.release)
	for range len(mods) - 2 {
		<-others
	}
	if a := <-blocked; a.text() != "v1.0.0\n" {
		t.Errorf("%d %q, %v", a.status, a.body, a.err)
	}
}

// full is a store that has three files of each of many versions.
type full struct {
	cache.Store
	versions int
}

func (f full) List(_ context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	return func(yield func(cache.Entry, error) bool) {
		for _, kind := range []string{"info", "mod", "zip"} {
			for i := range f.versions {
				if !yield(cache.Entry{Name: fmt.Sprintf("%sv1.0.%d.%s", prefix, i, kind)}, nil) {
					return
				}
			}
		}
	}
}

// TestLongLocalList: each version is listed once, however many are here.
func TestLongLocalList(t *testing.T) {
	t.Parallel()
	const n = 20_000
	w := newWorld(t, options{store: full{newMem(t), n}})
	began := time.Now()
	a := w.get("/example.com/m/@v/list", "Disable-Module-Fetch", "true")
	if lines := strings.Split(a.text(), "\n"); a.outcome != access.Hit || len(lines) != n+1 || lines[0] != "v1.0.0" || lines[n-1] != fmt.Sprintf("v1.0.%d", n-1) {
		t.Errorf("%v, %d lines, from %q", a.outcome, len(lines), lines[0])
	}
	t.Log(time.Since(began))
}

// panicking is a Verifier that panics at what it could have left undone.
type panicking struct{ proxy.Verifier }

func (panicking) Prepare(context.Context, module.Version) { panic("boom") }

// TestPreparePanics: a fault of the one who looks ahead is a line in the log.
func TestPreparePanics(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	var log bytes.Buffer
	w := newWorld(t, options{config: func(c *proxy.Config) {
		c.Verifier, c.Logger = panicking{c.Verifier}, slog.New(slog.NewTextHandler(&log, nil))
	}}, m)
	for _, kind := range []string{"mod", "zip"} {
		w.want(w.get(proxytest.Path(t, m.Version, kind)), file(m, kind), access.Miss)
	}
	if s := log.String(); strings.Count(s, "boom") != 2 || !strings.Contains(s, "locks_test.go") {
		t.Errorf("log: %s", s)
	}
}
