package sumdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
)

// ErrClosed is the error of whatever a DB is asked after Close, or was doing
// when it was closed.
var ErrClosed = errors.New("checksum database is closed")

// errPanic is the error of work that panicked.
var errPanic = errors.New("internal error")

// life owns the goroutines of a DB: they belong to no caller, and end with it.
type life struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // orders start before end's wait
	work   sync.WaitGroup
}

func newLife(log *slog.Logger) *life {
	l := &life{log: log}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// closed returns ErrClosed once the life has ended.
func (l *life) closed() error {
	if l.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// start runs f in a goroutine of its own. Its context has the values of ctx,
// and ends with the life. The error is ErrClosed if that is over already; then
// f is not called.
func (l *life) start(ctx context.Context, f func(context.Context)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.closed(); err != nil {
		return err
	}
	l.work.Go(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(l.ctx, cancel)()
		f(ctx)
	})
	return nil
}

// end cancels what is under way and waits for it.
func (l *life) end() {
	l.mu.Lock()
	l.cancel()
	l.mu.Unlock()
	l.work.Wait()
}

// outcome is deferred by whoever parses what a remote has sent, in a goroutine
// that no server recovers: a panic becomes the error of that one piece of work,
// and so does its end with the life.
func (l *life) outcome(what string, err *error) {
	if v := recover(); v != nil {
		l.log.Error("panic at an answer of the checksum database", "what", what, "panic", v, "stack", string(debug.Stack()))
		*err = fmt.Errorf("%s: %w", what, errPanic)
	}
	if *err != nil && l.closed() != nil && !errors.Is(*err, ErrClosed) {
		*err = fmt.Errorf("%w: %w", ErrClosed, *err)
	}
}
