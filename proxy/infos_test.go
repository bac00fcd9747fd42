package proxy_test

import (
	"testing"
	"time"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// TestInfosAreFetchedAhead is a client that asks for the go.mod of all, and then
// for one .info after the other.
func TestInfosAreFetchedAhead(t *testing.T) {
	t.Parallel()
	a, b := proxytest.Simple(t, "example.com/a", "v1.0.0"), proxytest.Simple(t, "example.com/b", "v1.0.0")
	other, gone := proxytest.Simple(t, "example.com/other", "v1.0.0"), proxytest.Simple(t, "example.com/gone", "v1.0.0")
	w := newWorld(t, options{config: func(c *proxy.Config) { c.LookAhead = 4 }}, a, b, other, gone)
	path := func(m *proxytest.Module, kind string) string { return proxytest.Path(t, m.Version, kind) }
	w.up.SetFault(path(gone, "info"), proxytest.Status(404, "not found"))
	for _, m := range []*proxytest.Module{a, b, gone} {
		w.want(w.get(path(m, "mod")), m.Mod, access.Miss)
	}
	w.want(w.get(path(other, "info")), other.Info, access.Miss)
	if n := w.up.Count(path(b, "info")); n != 0 {
		t.Errorf("the .info of a module whose go.mod nobody has waited for has caused %d requests", n)
	}
	w.want(w.get(path(a, "info")), a.Info, access.Miss)
	w.waitStored(b, "info")
	w.want(w.get(path(b, "info")), b.Info, access.Hit)
	if n := w.up.Count(path(b, "info")); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	if got := w.get(path(gone, "info")); got.status != 404 {
		t.Errorf("what is absent is answered %d", got.status)
	}
}

// waitStored waits until a file of m that nobody asks for is stored.
func (w *world) waitStored(m *proxytest.Module, kind string) {
	w.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		o, err := w.store.Checked.Get(w.Context(), w.name(m, kind))
		if err == nil {
			_ = o.Close()
			return
		}
		if time.Now().After(end) {
			w.Fatalf("%v.%s was not fetched ahead", m.Version, kind)
		}
		w.get("/")
	}
}
