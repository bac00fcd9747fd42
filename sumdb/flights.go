package sumdb

import (
	"context"
	"sync"
	"time"
)

// flights runs at most one function per name at a time. A run belongs to the
// life: it has a context of its own that ends after timeout, and whoever waits
// for it leaves on his own context without harm to the others. Nothing is
// remembered when the run is over. A run that panics fails.
type flights[V any] struct {
	life    *life
	timeout time.Duration

	mu   sync.Mutex
	runs map[string]*flight[V]
}

type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// do joins the run called name, or starts it, and waits. joined reports that
// it was under way before.
func (f *flights[V]) do(ctx context.Context, name string, run func(context.Context) (V, error)) (value V, joined bool, err error) {
	if err := ctx.Err(); err != nil {
		return value, false, err
	}
	f.mu.Lock()
	c, joined := f.runs[name]
	if !joined {
		c = &flight[V]{done: make(chan struct{})}
		if f.runs == nil {
			f.runs = make(map[string]*flight[V])
		}
		if err := f.life.start(ctx, func(ctx context.Context) { f.fly(ctx, name, c, run) }); err != nil {
			f.mu.Unlock()
			return value, false, err
		}
		f.runs[name] = c
	}
	f.mu.Unlock()

	select {
	case <-c.done:
		return c.value, joined, c.err
	case <-ctx.Done():
		return value, joined, ctx.Err()
	}
}

func (f *flights[V]) fly(ctx context.Context, name string, c *flight[V], run func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	defer func() {
		f.mu.Lock()
		delete(f.runs, name)
		f.mu.Unlock()
		close(c.done)
	}()
	defer f.life.outcome(name, &c.err)
	c.value, c.err = run(ctx)
}
