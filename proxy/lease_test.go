package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	neturl "net/url"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream"
)

// inFleet is a store that another server of a fleet uses as well.
type inFleet struct {
	*disk.Store
	mu sync.Mutex
	// All below is guarded by mu. other is who else has all leases; asked is
	// called when one is asked for, with how often that was before.
	other    string
	asked    func(n int)
	n        int
	err      error
	held     map[string]bool
	released int
}

func (f *inFleet) Lease(_ context.Context, name string) (func(), string, error) {
	f.mu.Lock()
	asked, n := f.asked, f.n
	f.n++
	f.mu.Unlock()
	if asked != nil {
		asked(n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
		return nil, "", f.err
	case f.other != "":
		return nil, f.other, nil
	case f.held[name]:
		return nil, "me, twice", nil
	}
	f.held[name] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.held, name)
		f.released++
	}, "me", nil
}

func (f *inFleet) Look(ctx context.Context, name string) (*cache.Object, error) {
	return f.Get(ctx, name)
}

func (f *inFleet) Announce(context.Context, string) error { return errors.ErrUnsupported }

func newInFleet(t *testing.T) *inFleet {
	d, err := disk.New(disk.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &inFleet{Store: d, held: map[string]bool{}}
}

// holder makes another server have the leases, until it has been asked for n
// times: then do is called.
func (f *inFleet) holder(n int, do func()) {
	f.other, f.asked = "other", func(i int) {
		if i == n {
			do()
		}
	}
}

func (f *inFleet) setOther(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.other = name
}

func TestOneFetchPerFleet(t *testing.T) {
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	zip, list := "/example.com/m/@v/v1.0.0.zip", "/example.com/m/@v/list"
	listed := []byte("v0.9.0\nv1.0.0\n")
	for _, c := range []struct {
		about    string
		prepare  func(f *inFleet, w *world)
		fetches  int // of each of the two files
		outcome  access.Outcome
		listBody []byte
	}{
		{"the lease is free", func(*inFleet, *world) {}, 1, access.Miss, []byte("v1.0.0\n")},
		{"leases are out of reach", func(f *inFleet, _ *world) { f.err = errors.New("redis is down") }, 1, access.Miss, []byte("v1.0.0\n")},
		{"there are no leases", func(f *inFleet, _ *world) { f.err = errors.ErrUnsupported }, 1, access.Miss, []byte("v1.0.0\n")},
		{"another server fetches", func(f *inFleet, w *world) {
			f.holder(3, func() {
				w.must(f.Put(t.Context(), zip[1:], bytes.NewReader(m.Zip), cache.PutOptions{}))
				w.must(f.Put(t.Context(), list[1:], bytes.NewReader(listed), cache.PutOptions{Class: cache.Mutable, Attrs: cache.Attrs{Checked: time.Now()}}))
				f.setOther("")
			})
		}, 0, access.Miss, listed},
		{"another server fetches, and a third one looks", func(f *inFleet, w *world) {
			f.holder(3, func() {
				w.must(f.Put(t.Context(), zip[1:], bytes.NewReader(m.Zip), cache.PutOptions{}))
				w.must(f.Put(t.Context(), list[1:], bytes.NewReader(listed), cache.PutOptions{Class: cache.Mutable, Attrs: cache.Attrs{Checked: time.Now()}}))
				f.setOther("third")
			})
		}, 0, access.Miss, listed},
		{"the other server dies", func(f *inFleet, w *world) { f.holder(3, func() { f.setOther("") }) }, 1, access.Miss, []byte("v1.0.0\n")},
		{"redis dies while the other fetches", func(f *inFleet, w *world) {
			f.holder(3, func() { f.mu.Lock(); f.err = errors.New("down"); f.mu.Unlock() })
		}, 1, access.Miss, []byte("v1.0.0\n")},
	} {
		t.Run(c.about, func(t *testing.T) {
			f := newInFleet(t)
			w := newWorld(t, options{store: f}, m)
			c.prepare(f, w)
			a := w.get(zip)
			if a.status != 200 || !bytes.Equal(a.body, m.Zip) {
				t.Errorf("zip: %d, %d bytes, %v", a.status, len(a.body), a.cause)
			}
			f.mu.Lock()
			f.n = 0
			if f.asked != nil {
				f.other = "other"
			}
			if c.fetches == 1 && c.about != "leases are out of reach" && f.err != nil && !errors.Is(f.err, errors.ErrUnsupported) {
				f.err = nil
			}
			f.mu.Unlock()
			if c.fetches == 0 {
				w.must(f.Delete(t.Context(), list[1:]))
			}
			if a := w.get(list); a.status != 200 || !bytes.Equal(a.body, c.listBody) {
				t.Errorf("list: %d, %q, %v", a.status, a.body, a.cause)
			}
			for _, path := range []string{zip, list} {
				if n := w.up.Count(path); n != c.fetches {
					t.Errorf("%s was fetched %d times, want %d", path, n, c.fetches)
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.held) > 0 {
				t.Errorf("leases are kept: %v", f.held)
			}
		})
	}
}

// Servers of a fleet that are asked for the same fetch it once between them.
func TestTwoServersFetchOnce(t *testing.T) {
	var mods []*proxytest.Module
	for i := range 20 {
		mods = append(mods, proxytest.Simple(t, "example.com/m", fmt.Sprintf("v1.%d.0", i)))
	}
	f := newInFleet(t)
	w := newWorld(t, options{store: f}, mods...)
	second := newWorld(t, options{store: f, config: func(c *proxy.Config) { c.Public = chainOf(t, w.up.URL) }}, mods...)
	var wg sync.WaitGroup
	for _, m := range mods {
		for _, kind := range []string{"zip", "mod", "info"} {
			for _, server := range []*world{w, second} {
				wg.Go(func() {
					a := server.send(t.Context(), "GET", "/"+w.name(m, kind))
					if a.err != nil || a.status != 200 || !bytes.Equal(a.body, file(m, kind)) {
						t.Errorf("%v.%s: %d, %v", m.Version, kind, a.status, a.err)
					}
				})
			}
		}
	}
	wg.Wait()
	for _, m := range mods {
		for _, kind := range []string{"zip", "mod", "info"} {
			if n := w.up.Count("/" + w.name(m, kind)); n != 1 {
				t.Errorf("%v.%s was fetched %d times", m.Version, kind, n)
			}
		}
	}
}

// What another server has brought while we failed is served.
func TestFailedFetchLooksOnceMore(t *testing.T) {
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	for about, status := range map[string]int{"in trouble": 500, "refused": 403} {
		for _, kind := range []string{"info", "mod", "zip"} {
			t.Run(about+" "+kind, func(t *testing.T) {
				f := newInFleet(t)
				f.err = errors.New("redis is down")
				w := newWorld(t, options{store: f}, m)
				name := w.name(m, kind)
				fault := func(x proxytest.Exchange) {
					sum := fmt.Sprintf("%x", sha256.Sum256(file(m, kind)))
					if err := f.Put(context.Background(), name, bytes.NewReader(file(m, kind)), cache.PutOptions{Attrs: cache.Attrs{SHA256: sum}}); err != nil {
						t.Error(err)
					}
					http.Error(x.W, "no", status)
				}
				w.up.SetFault("/"+name, fault)
				w.up2.SetFault("/"+name, fault)
				if a := w.get("/" + name); a.status != 200 || !bytes.Equal(a.body, file(m, kind)) {
					t.Errorf("%d %s", a.status, a.text())
				}
				w.must(f.Delete(t.Context(), name))
				w.up.SetFault("/"+name, proxytest.Status(status, "no"))
				w.up2.SetFault("/"+name, proxytest.Status(status, "no"))
				if a := w.get("/" + name); a.status == 200 {
					t.Errorf("%d, and it is nowhere", a.status)
				}
			})
		}
	}
}

// chainOf is a source that another server of a fleet has as well.
func chainOf(t *testing.T, url string) proxy.Source {
	t.Helper()
	c, err := upstream.New(upstream.Config{List: url, Proxy: func(*http.Request) (*neturl.URL, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
