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
