package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// What changes is asked for anew although its time is not over, and what was
// absent a moment ago is asked for when it is next wanted.
func TestRefresh(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	next := proxytest.Simple(t, "example.com/m", "v1.1.0")
	w := newWorld(t, options{config: ttl(time.Hour, time.Hour)}, m)
	w.record(next)
	old, moved := infoOf("v1.0.1-0.20240102030405-0123456789ab"), infoOf("v1.0.1-0.20250102030405-123456789abc")
	w.up.SetFile(mainPath, old)
	w.want(w.get(listPath), []byte("v1.0.0\n"), access.Miss)
	w.want(w.get(latestPath), m.Info, access.Miss)
	w.want(w.get(mainPath), old, access.Miss)
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.info"), 404, access.Absent)
	w.up.Add(t, next)
	w.up.SetFile(mainPath, moved)
	w.want(w.get(listPath), []byte("v1.0.0\n"), access.Hit)
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.info"), 404, access.Negative)

	got, later, err := w.server.Refresh(t.Context(), "example.com/m")
	if want := "[{example.com/m/@v/list true <nil>} {example.com/m/@latest true <nil>} {example.com/m/@v/main.info true <nil>}]"; err != nil || later != 0 || fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	w.want(w.get(listPath), []byte("v1.0.0\nv1.1.0\n"), access.Hit)
	w.want(w.get(latestPath), next.Info, access.Hit)
	w.want(w.get(mainPath), moved, access.Hit)
	w.want(w.get("/example.com/m/@v/v1.1.0.info"), next.Info, access.Miss)

	got, _, err = w.server.Refresh(t.Context(), "example.com/m")
	if err != nil || slices.ContainsFunc(got, func(r proxy.Refreshed) bool { return r.Changed || r.Err != nil }) {
		t.Errorf("nothing has changed: %v, %v", got, err)
	}
	// In trouble, and with what is gone, what is here stays of use.
	w.up.SetFault(listPath, proxytest.Status(500, "trouble"))
	got, _, err = w.server.Refresh(t.Context(), "example.com/m")
	if err != nil || got[0].Err == nil || errors.Is(got[0].Err, fs.ErrNotExist) || got[0].Changed {
		t.Errorf("in trouble: %v, %v", got, err)
	}
	w.want(w.get(listPath), []byte("v1.0.0\nv1.1.0\n"), access.Stale)
	if got, _, err := w.server.Refresh(t.Context(), "example.com/nothing"); err != nil || len(got) != 1 || !errors.Is(got[0].Err, fs.ErrNotExist) {
		t.Errorf("what does not exist: %v, %v", got, err)
	}
	if _, _, err := w.server.Refresh(t.Context(), "not a path"); err == nil {
		t.Error("not a path: no error")
	}
}

// announcing is a store that other servers hear of.
type announcing struct {
	*inFleet
	heard func(name string)
}

func (a *announcing) Announce(_ context.Context, name string) error {
	a.heard(name)
	return cache.CheckName(name)
}

// Another server of the fleet does not answer from what it had before either.
func TestRefreshInAFleet(t *testing.T) {
	t.Parallel()
	m, next := proxytest.Simple(t, "example.com/m", "v1.0.0"), proxytest.Simple(t, "example.com/m", "v1.1.0")
	f := &announcing{inFleet: newInFleet(t)}
	w := newWorld(t, options{store: f, config: ttl(time.Hour, time.Hour)}, m)
	second := newWorld(t, options{store: newInFleet(t), config: func(c *proxy.Config) {
		ttl(time.Hour, time.Hour)(c)
		c.Public = chainOf(t, w.up.URL)
	}}, m)
	second.record(next)
	f.heard = second.server.Heard
	second.want(second.get(listPath), []byte("v1.0.0\n"), access.Miss)
	second.wantNo(second.get("/example.com/m/@v/v1.1.0.mod"), 404, access.Absent)
	w.up.Add(t, next)
	second.want(second.get(listPath), []byte("v1.0.0\n"), access.Hit)
	if _, _, err := w.server.Refresh(t.Context(), "example.com/m"); err != nil {
		t.Fatal(err)
	}
	second.want(second.get("/example.com/m/@v/v1.1.0.mod"), next.Mod, access.Miss)
	second.want(second.get(listPath), []byte("v1.0.0\nv1.1.0\n"), access.Miss)
	second.want(second.get(listPath), []byte("v1.0.0\nv1.1.0\n"), access.Hit)
}

// A module has as many answers as it has branches: not all are asked for at once,
// and none is believed that was not.
func TestRefreshIsBounded(t *testing.T) {
	t.Parallel()
	const branches = 120
	w := newWorld(t, options{config: ttl(time.Hour, time.Hour)}, proxytest.Simple(t, "example.com/m", "v1.0.0"))
	branch := func(n int) string { return fmt.Sprintf("/example.com/m/@v/branch%03d.info", n) }
	old, moved := infoOf("v1.0.1-0.20240102030405-0123456789ab"), infoOf("v1.0.1-0.20250102030405-123456789abc")
	for n := range branches {
		w.up.SetFile(branch(n), old)
		w.want(w.get(branch(n)), old, access.Miss)
		w.up.SetFile(branch(n), moved)
	}
	got, later, err := w.server.Refresh(t.Context(), "example.com/m")
	if err != nil || len(got) != 100 || later != branches+1-100 {
		t.Fatalf("%d answers, %d later, %v", len(got), later, err)
	}
	for n := range branches {
		want := access.Hit
		if n >= 99 {
			want = access.Miss
		}
		w.want(w.get(branch(n)), moved, want)
	}
}
