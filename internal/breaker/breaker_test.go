package breaker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/internal/breaker"
)

func TestOneFailureOpensAndProbesClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var probes atomic.Int32
		b := breaker.New(breaker.Config{Name: "x", Interval: time.Second, Probe: func(context.Context) error {
			if probes.Add(1) < 3 {
				return errors.New("still ill")
			}
			return nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		for range 2 {
			if b.Open() {
				t.Fatal("open before any failure")
			}
			probes.Store(0)
			b.Trip(errors.New("ill"))
			b.Trip(errors.New("ill again"))
			if !b.Open() {
				t.Fatal("closed after a failure")
			}
			time.Sleep(2500 * time.Millisecond)
			if n := probes.Load(); n != 2 || !b.Open() {
				t.Fatalf("%d probes, open %v after 2.5 s", n, b.Open())
			}
			if now := b.Trouble(); now.Err.Error() != "still ill" || time.Since(now.Since) < 2*time.Second {
				t.Fatalf("the trouble is %v since %v, and not what the last probe found", now.Err, now.Since)
			}
			time.Sleep(time.Second)
			if n := probes.Load(); n != 3 || b.Open() || b.Trouble() != nil {
				t.Fatalf("%d probes, open %v after 3.5 s", n, b.Open())
			}
			time.Sleep(time.Minute)
			if n := probes.Load(); n != 3 {
				t.Fatalf("a server that is well was probed (%d)", n)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A server that answers probes and nothing else has one trouble, and is waited
// for once.
func TestTroubleThatComesBackIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{Name: "x", Interval: time.Second, Probe: func(context.Context) error { return nil }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		const most = 5 * time.Second
		ill := errors.New("ill")
		began := time.Now()
		waited := func() bool {
			now := time.Now()
			b.Trip(ill)
			return b.Again(ctx, ill, now, most)
		}
		for n := 0; n < 50 && waited(); n++ {
			time.Sleep(400 * time.Millisecond) // an answer that does not come
		}
		if d := time.Since(began); d < most-time.Second || d > most+time.Second {
			t.Errorf("waited for %v, want %v", d, most)
		}
		time.Sleep(3 * time.Second)
		again := time.Now()
		b.Trip(ill)
		if tr := b.Trouble(); !tr.Since.Equal(again) {
			t.Errorf("trouble after a while is since %v before", again.Sub(tr.Since))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
