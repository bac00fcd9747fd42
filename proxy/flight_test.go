package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestFlightLeaderLeaves: the one who asked first goes away, and the 50 who
// follow get what they came for, by one fetch.
func TestFlightLeaderLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFlights(quiet())
		var fetches atomic.Int32
		finish := make(chan struct{})
		run := func(ctx context.Context, f *flight) error {
			fetches.Add(1)
			select {
			case <-finish:
				f.body = []byte("content")
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		leader, first := g.join("x", time.Hour, run)
		if !first {
			t.Error("the leader is not the first")
		}
		var wg sync.WaitGroup
		for range 50 {
			f, first := g.join("x", time.Hour, run)
			if first || f != leader {
				t.Error("a follower leads")
			}
			wg.Go(func() {
				defer g.leave(f)
				if err := wait(t.Context(), f.done); err != nil || f.err != nil || string(f.body) != "content" {
					t.Errorf("follower: %v, %v, %q", err, f.err, f.body)
				}
			})
		}
		g.leave(leader)
		time.Sleep(10 * patience)
		close(finish)
		wg.Wait()
		if n := fetches.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if len(g.byName) != 0 {
			t.Errorf("left behind: %v", g.byName)
		}
		g.close()
	})
}

func TestFlightPatience(t *testing.T) {
	t.Parallel()
	// total is announced and n bytes of it came when the last one left.
	fly := func(t *testing.T, n, total int64, stay time.Duration) (cancelled time.Duration, g *flights) {
		g = newFlights(quiet())
		start := time.Now()
		stopped := make(chan time.Duration, 1)
		f, _ := g.join("x", time.Hour, func(ctx context.Context, f *flight) error {
			if total > 0 {
				f.spool = newSpool(nil, nil, total)
				f.spool.Write(make([]byte, n))
				f.follow()
			}
			select {
			case <-ctx.Done():
				stopped <- time.Since(start)
				return ctx.Err()
			case <-time.After(stay):
				stopped <- 0
				return nil
			}
		})
		g.leave(f)
		return <-stopped, g
	}
	for _, c := range []struct {
		name      string
		n, total  int64
		stay      time.Duration
		cancelled time.Duration
	}{
		{"nothing came yet", 0, 0, time.Minute, patience},
		{"half came", 500, 1000, time.Minute, patience},
		{"more than half came", 501, 1000, time.Minute, 0},
		{"it is over before patience is", 0, 0, patience - 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, g := fly(t, c.n, c.total, c.stay)
				if got != c.cancelled {
					t.Errorf("cancelled after %v, want %v", got, c.cancelled)
				}
				g.close()
			})
		})
	}
	t.Run("one who comes back in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newFlights(quiet())
			run := func(ctx context.Context, f *flight) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Minute):
					return nil
				}
			}
			f, _ := g.join("x", time.Hour, run)
			g.leave(f)
			time.Sleep(patience - time.Second)
			again, first := g.join("x", time.Hour, run)
			if first || again != f {
				t.Error("fetched twice")
			}
			time.Sleep(2 * patience)
			if err := wait(t.Context(), again.done); err != nil || again.err != nil {
				t.Error(err, again.err)
			}
			g.leave(again)
			g.close()
		})
	})
	t.Run("one who comes while a lonely fetch is being given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := newFlights(quiet())
			f, _ := g.join("x", time.Hour, func(ctx context.Context, f *flight) error {
				<-ctx.Done()
				time.Sleep(time.Second) // until it has cleaned up
				return ctx.Err()
			})
			g.leave(f)
			time.Sleep(patience + time.Millisecond)
			again, first := g.join("x", time.Hour, func(context.Context, *flight) error {
				time.Sleep(time.Minute)
				return nil
			})
			if !first {
				t.Error("the new one shares the fate of the old")
			}
			time.Sleep(2 * time.Second)
			g.mu.Lock()
			kept := g.byName["x"]
			g.mu.Unlock()
			if kept != again {
				t.Error("the end of the old one has removed the new one")
			}
			if err := wait(t.Context(), again.done); err != nil || again.err != nil {
				t.Error(err, again.err)
			}
			g.leave(again)
			g.close()
		})
	})
}

func TestFlightLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFlights(quiet())
		f, _ := g.join("x", time.Minute, func(ctx context.Context, f *flight) error { <-ctx.Done(); return ctx.Err() })
		start := time.Now()
		<-f.done
		if d := time.Since(start); d != time.Minute || answerFor(f.err).status != 504 {
			t.Errorf("after %v: %v", d, f.err)
		}
		g.leave(f)
		g.close()
	})
}

// TestFlightPanic: what one fetch panics at is the error of those who wait for
// it, and a line in the log; the next fetch of the name is a new one.
func TestFlightPanic(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	g := newFlights(slog.New(slog.NewTextHandler(&log, nil)))
	release := make(chan struct{})
	f, _ := g.join("x", time.Hour, func(_ context.Context, f *flight) error {
		f.spool = newSpool(nil, nil, heldBack+10)
		f.spool.Write(make([]byte, 5))
		f.follow()
		<-release
		panic("boom")
	})
	follower, _ := g.join("x", time.Hour, nil)
	<-f.ready
	close(release)
	_, err := io.ReadAll(&spoolReader{ctx: t.Context(), s: follower.spool})
	<-follower.done
	if err == nil || err != follower.err || answerFor(err).status != 502 {
		t.Errorf("followers see %v and %v", err, follower.err)
	}
	g.leave(f)
	g.leave(follower)
	again, first := g.join("x", time.Hour, func(context.Context, *flight) error { return nil })
	<-again.done
	if !first || again.err != nil {
		t.Errorf("the next one: %v, %v", first, again.err)
	}
	g.leave(again)
	g.close()
	if s := log.String(); !strings.Contains(s, "boom") || !strings.Contains(s, "flight_test.go") {
		t.Errorf("log: %s", s)
	}
}

// TestFlightsClose: the end of the server ends all fetches, and who comes after
// it is told so, without harm later.
func TestFlightsClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFlights(quiet())
		var running []*flight
		for _, name := range []string{"a", "b"} {
			f, _ := g.join(name, time.Hour, func(ctx context.Context, f *flight) error { <-ctx.Done(); return ctx.Err() })
			running = append(running, f)
		}
		g.close()
		late, _ := g.join("c", time.Hour, func(context.Context, *flight) error {
			t.Error("a fetch was started after the end")
			return nil
		})
		for _, f := range append(running, late) {
			<-f.ready
			<-f.done
			if !errors.Is(f.err, errClosed) || answerFor(f.err).status != 503 {
				t.Errorf("%s: %v", f.name, f.err)
			}
			g.leave(f)
		}
		time.Sleep(2 * patience) // no timer may find a flight that never flew
	})
}

// TestFlightSpoolIsClosedOnce everybody has left, and not before.
func TestFlightSpoolIsClosed(t *testing.T) {
	t.Parallel()
	d := &spoolDir{dir: t.TempDir()}
	g := newFlights(quiet())
	f, _ := g.join("x", time.Hour, func(_ context.Context, f *flight) error {
		f.spool = newSpool(d.newFile, d.drop, 2*inMemory)
		f.spool.Write(make([]byte, 2*inMemory))
		f.spool.end()
		return nil
	})
	second, _ := g.join("x", time.Hour, nil)
	<-f.done
	g.leave(f)
	if got, err := io.ReadAll(&spoolReader{ctx: t.Context(), s: second.spool}); err != nil || len(got) != 2*inMemory {
		t.Errorf("the second reads %d bytes, %v", len(got), err)
	}
	g.leave(second)
	if d.left(t) != 0 {
		t.Error("the file is left")
	}
	g.close()
}

func TestSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		s.most = 1
		for range 2 {
			if err := s.take(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got := make(chan error)
		go func() { got <- s.take(t.Context()) }()
		synctest.Wait()
		if err := s.take(t.Context()); !errors.Is(err, errBusy) {
			t.Errorf("more wait than may: %v", err)
		}
		s.give()
		if err := <-got; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.take(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("waits for nobody: %v", err)
		}
		if n := s.waiting.Load(); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

func TestNegative(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNegative()
		n.remember("x")
		time.Sleep(time.Second)
		if n.fresh("x", time.Second) || !n.fresh("x", time.Second+1) || n.fresh("y", time.Hour) || n.fresh("x", 0) {
			t.Error("wrong about the time")
		}
		n.forget("x")
		if n.fresh("x", time.Hour) {
			t.Error("not forgotten")
		}
	})
}
