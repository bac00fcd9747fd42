package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/modgate/modgate/cache"
)

// flights makes sure that every object is fetched once at a time. A flight
// belongs to the server: it runs on a context of its own, and whoever waits for
// it leaves on theirs without harm to the others.
type flights struct {
	log    *slog.Logger
	ctx    context.Context // ends with the server
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // guards what is below, and flight.waiters and flight.lonely
	byName map[string]*flight
	closed bool
}

// flight is one fetch.
type flight struct {
	name   string
	cancel context.CancelCauseFunc
	// ready is closed when spool may be followed, or at the end. Then spool is
	// final; it stays open for those who wait.
	ready    chan struct{}
	spool    *spool // of a file that is too large for body
	followed bool   // ready is closed; only run looks at it
	// done is closed when what is below is final.
	done  chan struct{}
	body  []byte // of small files
	attrs cache.Attrs
	// unkept says that what came may be served but not stored; only run looks
	// at it.
	unkept bool
	err    error

	waiters int
	over    bool        // nobody can join any more
	lonely  *time.Timer // runs while nobody waits
}

// patience is how long a fetch goes on that nobody waits for any more.
const patience = 10 * time.Second

func newFlights(log *slog.Logger) *flights {
	// The server, not a request, owns what runs here; Close ends it.
	ctx, cancel := context.WithCancelCause(context.Background())
	return &flights{log: log, ctx: ctx, cancel: cancel, byName: make(map[string]*flight)}
}

// join returns the flight of name, with the caller as one who waits: they must
// leave it. If there is none, run is started as one with the time limit, and
// first is true. Only run and what it calls write to the flight.
func (g *flights) join(name string, limit time.Duration, run func(context.Context, *flight) error) (f *flight, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.byName[name]; f != nil {
		f.waiters++
		if f.lonely != nil {
			f.lonely.Stop()
			f.lonely = nil
		}
		return f, false
	}
	f = &flight{name: name, waiters: 1, ready: make(chan struct{}), done: make(chan struct{})}
	if g.closed {
		f.err, f.over = errClosed, true
		close(f.ready)
		close(f.done)
		return f, true
	}
	ctx, cancel := context.WithCancelCause(g.ctx)
	f.cancel = cancel
	g.byName[name] = f
	g.wg.Go(func() {
		ctx, stop := context.WithTimeout(ctx, limit)
		defer stop()
		g.finish(f, g.guard(ctx, f, run))
	})
	return f, true
}

// guard runs one fetch. What it panics at is the error of those who wait for
// this one file, and not the end of the process.
func (g *flights) guard(ctx context.Context, f *flight, run func(context.Context, *flight) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("a fetch has panicked: please report this", "name", f.name, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("a fetch has panicked: %v", p)
		}
	}()
	err = run(ctx, f)
	if err != nil && g.ctx.Err() != nil {
		err = errors.Join(err, errClosed)
	}
	return err
}

// finish publishes the result of f.
func (g *flights) finish(f *flight, err error) {
	f.err = err
	if f.spool != nil {
		f.spool.settle(err)
	}
	g.mu.Lock()
	if g.byName[f.name] == f {
		delete(g.byName, f.name)
	}
	f.over = true
	if f.lonely != nil {
		f.lonely.Stop()
	}
	last := f.waiters == 0
	g.mu.Unlock()
	if !f.followed {
		close(f.ready)
	}
	close(f.done)
	f.cancel(nil)
	if last && f.spool != nil {
		f.spool.release()
	}
}

// follow lets those who wait read the spool while it grows.
func (f *flight) follow() {
	f.followed = true
	close(f.ready)
}

// leave ends the caller's wait for f. A fetch that nobody waits for goes on for
// a while, since the client often comes back, and to its end if it is more than
// half done.
func (g *flights) leave(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.waiters--; f.waiters > 0 {
		return
	}
	if !f.over {
		f.lonely = time.AfterFunc(patience, func() { g.abandon(f) })
	} else if f.spool != nil {
		f.spool.release()
	}
}

func (g *flights) abandon(f *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.waiters > 0 || f.over {
		return
	}
	select {
	case <-f.ready:
		if s := f.spool; s != nil && s.size() > s.total/2 {
			return
		}
	default:
	}
	// Whoever comes now must not wait for what is about to fail.
	delete(g.byName, f.name)
	f.cancel(context.Canceled)
}

// close ends all flights and waits for them. No new one starts.
func (g *flights) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel(errClosed)
	g.wg.Wait()
}
