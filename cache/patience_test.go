package cache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/breaker"
)

// guarded is a fast store that is left alone while it is in trouble.
type guarded struct {
	*fast
	*breaker.Breaker
}

func (g *guarded) guard(ask func() error) error {
	if g.Open() {
		return breaker.ErrOpen
	}
	err := ask()
	if err == errFar {
		g.Trip(err)
	}
	return err
}

func (g *guarded) Lease(ctx context.Context, name string) (release func(), holder string, err error) {
	err = g.guard(func() error { release, holder, err = g.fast.Lease(ctx, name); return err })
	return release, holder, err
}

func (g *guarded) Get(ctx context.Context, name string) (o *cache.Object, err error) {
	err = g.guard(func() error { o, err = g.fast.Get(ctx, name); return err })
	return o, err
}

// What others have or do is not known while Redis is in trouble. Trouble that has
// just begun is waited for, by those who would fetch, and by them alone.
func TestSharedWaitsForShortTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.replica(t, openMem(t), cache.SharedConfig{})
		g := &guarded{fast: &fast{f.redis, 99}}
		g.Breaker = breaker.New(breaker.Config{Name: "x", Probe: func(ctx context.Context) error { return f.redis.trouble(ctx) }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		b, err := cache.NewShared(openMem(t), cache.SharedConfig{Fast: g, Patience: 3 * time.Second})
		must(t, err)
		took := func(want time.Duration, ask func()) {
			t.Helper()
			began := time.Now()
			ask()
			if d := time.Since(began); d != want {
				t.Errorf("it took %v, want %v", d, want)
			}
		}
		trouble := func(d time.Duration) {
			f.redis.down.Store(true)
			time.AfterFunc(d, func() { f.redis.down.Store(false) })
		}

		release, holder, err := a.Lease(t.Context(), aZip)
		must(t, err)
		trouble(1100 * time.Millisecond)
		took(1500*time.Millisecond, func() { // the third probe
			if r, h, err := b.Lease(t.Context(), aZip); r != nil || h != holder || err != nil {
				t.Errorf("got it: %v, holder %q: %v", r != nil, h, err)
			}
		})
		put(t, a, aZip, []byte("zip"), cache.Immutable)
		release()
		trouble(100 * time.Millisecond)
		took(0, func() {
			if _, err := b.Get(t.Context(), aZip); err == nil {
				t.Error("read from a Redis that is down")
			}
		})
		took(500*time.Millisecond, func() {
			o, err := b.Look(t.Context(), aZip)
			if err != nil {
				t.Fatal(err)
			}
			must(t, o.Close())
		})

		time.Sleep(time.Second) // else it is the same trouble
		trouble(time.Hour)
		took(3*time.Second, func() {
			if _, _, err := b.Lease(t.Context(), "other.zip"); err == nil {
				t.Error("got a lease of a Redis that is down")
			}
		})
		took(0, func() {
			_, _, err1 := b.Lease(t.Context(), "third.zip")
			_, err2 := b.Look(t.Context(), "third.zip")
			if err1 == nil || err2 == nil {
				t.Error(err1, err2)
			}
		})
		a.end()
		cancel()
		must(t, <-done)
		time.Sleep(2 * time.Hour) // the timers
	})
}
