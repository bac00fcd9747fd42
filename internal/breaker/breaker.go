// Package breaker keeps requests away from a server that is in trouble.
//
// One failure is enough to open a Breaker, and no request is ever the one that
// tries whether the trouble is over: that is done by Run, beside them. So a
// server that hangs costs the requests that were under way one time-out, and
// those behind them nothing.
package breaker

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrOpen says that the server was not asked, because it is in trouble.
var ErrOpen = errors.New("not asked: it was in trouble a moment ago")

// Config of a Breaker.
type Config struct {
	// Name of the server in messages, as "redis". Required.
	Name string
	// Interval between two probes of a server in trouble. Default 500 ms.
	Interval time.Duration
	// Probe returns nil if the server is well. It is called by Run alone.
	// Required.
	Probe func(context.Context) error
	// Up is set to 1 while the breaker is closed, else to 0. May be nil.
	Up prometheus.Gauge
	// Advice returns what a person can do about an error, for the log. May be
	// nil.
	Advice func(error) string
	// Logger receives each change. nil discards.
	Logger *slog.Logger
}

// Trouble is why a Breaker is open, by the last that was heard of the server.
type Trouble struct {
	Err error
	// Since is when it began. A server that fails again within Interval after it
	// answered a probe has not been well, so that nobody takes its trouble for
	// young: a part of it may hang, and the probe go to another.
	Since time.Time
	over  chan struct{} // closed when it is over
}

// Breaker is closed at first. It is safe for concurrent use.
type Breaker struct {
	c    Config
	open atomic.Pointer[Trouble] // nil while closed
	last atomic.Int64            // unix nanoseconds: when it was last tripped
	past atomic.Pointer[past]    // nil before the first trouble is over
	wake chan struct{}           // has a place for one: the breaker has opened
}

// past is a trouble that is over.
type past struct{ since, until time.Time }

// New returns a closed Breaker.
func New(c Config) *Breaker {
	if c.Interval <= 0 {
		c.Interval = 500 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Breaker{c: c, wake: make(chan struct{}, 1)}
	b.show(1)
	return b
}

func (b *Breaker) show(up float64) {
	if b.c.Up != nil {
		b.c.Up.Set(up)
	}
}

// Open reports whether the server is to be left alone.
func (b *Breaker) Open() bool { return b.open.Load() != nil }

// Trouble returns why the breaker is open; nil if it is closed.
func (b *Breaker) Trouble() *Trouble { return b.open.Load() }

// Trip opens the breaker because of err.
func (b *Breaker) Trip(err error) {
	now := time.Now()
	b.last.Store(now.UnixNano())
	since := now
	if p := b.past.Load(); p != nil && now.Sub(p.until) < b.c.Interval {
		since = p.since
	}
	if !b.open.CompareAndSwap(nil, &Trouble{err, since, make(chan struct{})}) {
		return
	}
	b.show(0)
	attrs := []any{"error", err}
	if b.c.Advice != nil {
		attrs = append(attrs, "advice", b.c.Advice(err))
	}
	b.c.Logger.Warn(b.c.Name+" is in trouble; requests go on without it", attrs...)
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Again reports whether what began then and has failed with err is worth another
// try, because the server was in trouble and is well. It waits for that while the
// trouble is not older than most.
func (b *Breaker) Again(ctx context.Context, err error, began time.Time, most time.Duration) bool {
	for t := b.open.Load(); t != nil; t = b.open.Load() {
		timer := time.NewTimer(time.Until(t.Since.Add(most)))
		select {
		case <-t.over:
			timer.Stop()
		case <-timer.C:
			return false
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
	return errors.Is(err, ErrOpen) || b.last.Load() >= began.UnixNano()
}

// Run probes the server while the breaker is open and closes it when the server
// is well. It returns when ctx ends.
func (b *Breaker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		}
		if !b.heal(ctx) {
			return nil
		}
	}
}

// heal returns false if ctx ended first.
func (b *Breaker) heal(ctx context.Context) bool {
	trouble := b.open.Load()
	tick := time.NewTicker(b.c.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if err := b.c.Probe(ctx); err != nil {
			if ctx.Err() == nil {
				b.open.Store(&Trouble{err, trouble.Since, trouble.over})
			}
			continue
		}
		b.past.Store(&past{trouble.Since, time.Now()})
		b.open.Store(nil)
		close(trouble.over)
		b.show(1)
		b.c.Logger.Info(b.c.Name+" is back", "after", time.Since(trouble.Since).Round(time.Millisecond))
		return true
	}
}
