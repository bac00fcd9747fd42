package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// passes bounds the walks of one eviction. The first may go by ages that are an
// hour old and gain too little; the second knows better.
const passes = 3

// evict removes what was used least recently until missing returns nothing. The
// turn is held.
func (l *Limit) evict(ctx context.Context, missing func() lack) (amount, error) {
	var freed amount
	for pass := range passes {
		k := missing()
		if k.none() {
			break
		}
		p, ok := l.plan(k)
		if pass > 0 && !ok {
			break
		}
		u, err := l.walk(ctx, p)
		freed = freed.plus(u.freed)
		if err != nil {
			return freed, err
		}
	}
	if !freed.none() {
		l.log.Info("evicted", "objects", freed.files/2, "bytes", freed.bytes)
	}
	return freed, nil
}

// plan returns what to evict, and whether that is anything. Before the first
// walk it is nothing.
func (l *Limit) plan(k lack) (plan, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.walked {
		return plan{before: never}, true
	}
	l.squeeze = 0 // one try for each time that the backend was full
	want := k.want(l.ages.total())
	return l.ages.plan(want), !want.none()
}

// Usage is what a walk has found.
type Usage struct {
	// Objects and what they take on disk, in bytes.
	Objects, Bytes int64
	// KeptObjects and KeptBytes of these are never evicted.
	KeptObjects, KeptBytes int64
	// Oldest is the least recent use of what may be evicted.
	Oldest time.Time
	// MaxBytes is the bound; 0 is none.
	MaxBytes int64
	// Space of the file system.
	Space Space

	freed amount
}

// walk evicts by p and establishes what is used. The turn is held.
func (l *Limit) walk(ctx context.Context, p plan) (Usage, error) {
	l.startWalk()
	u := Usage{MaxBytes: l.c.MaxBytes}
	a := make(ages)
	now := time.Now()
	for e, err := range l.inner.List(ctx, "") {
		if err == nil && l.evicts(e, &p, now) {
			if err = l.inner.Delete(ctx, e.Name); err == nil {
				u.freed = u.freed.plus(room(e.Size))
				l.m.evictions.Inc()
				l.m.evicted.Add(float64(room(e.Size).bytes))
				continue
			}
		}
		if err != nil {
			l.endWalk(u, a, false)
			return u, fmt.Errorf("walk over the cache: %w", err)
		}
		n := l.had(e)
		u.add(e, n, l.keeps(e))
		if !l.keeps(e) {
			a.add(hourOf(e.Used, now), n)
		}
	}
	l.endWalk(u, a, true)
	return u, nil
}

func (l *Limit) startWalk() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found, l.grown = l.found.plus(l.grown), amount{}
	l.walking = true
}

// endWalk keeps what the walk has found if it is complete, and otherwise what
// it has freed.
func (l *Limit) endWalk(u Usage, a ages, complete bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.walking = false
	for name, t := range l.changing {
		if t.done {
			delete(l.changing, name)
		}
	}
	if !complete {
		l.found = l.found.minus(u.freed)
		return
	}
	l.found, l.ages, l.walked = amount{u.Bytes, 2 * u.Objects}, a, true
	if l.grown.bytes > 0 {
		now := time.Now()
		a.add(hourOf(now, now), l.grown)
	}
}

// had returns what e took when the walk began.
func (l *Limit) had(e Entry) amount {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.changing[e.Name]; t != nil {
		return t.had
	}
	return room(e.Size)
}

func (l *Limit) evicts(e Entry, p *plan, now time.Time) bool {
	return !l.keeps(e) && p.takes(hourOf(e.Used, now), room(e.Size))
}

// keeps reports whether e is never evicted.
func (l *Limit) keeps(e Entry) bool {
	if e.Class == Precious {
		return true
	}
	for _, prefix := range l.c.Keep {
		if strings.HasPrefix(e.Name, prefix) {
			return true
		}
	}
	return false
}

func (u *Usage) add(e Entry, n amount, kept bool) {
	u.Objects += n.files / 2
	u.Bytes += n.bytes
	if kept {
		u.KeptObjects += n.files / 2
		u.KeptBytes += n.bytes
	} else if u.Oldest.IsZero() || e.Used.Before(u.Oldest) {
		u.Oldest = e.Used
	}
}

// Run establishes the size of the store, evicts before it is full, and keeps
// both up until ctx is done; then it returns nil. What goes wrong is logged and
// tried again.
func (l *Limit) Run(ctx context.Context) error {
	tick := time.NewTicker(l.c.Interval)
	defer tick.Stop()
	grown := time.NewTicker(glance)
	defer grown.Stop()
	for walk := true; ; {
		if err := l.round(ctx, walk); err != nil && ctx.Err() == nil {
			l.log.Error("the cache cannot be kept within its limit", "err", err)
		}
		for idle := true; idle; {
			idle, walk = false, false
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				walk = true
			case <-l.wake:
			case <-grown.C:
				idle = !l.spooling()
			}
		}
	}
}

func (l *Limit) round(ctx context.Context, walk bool) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	var errs []error
	if walk {
		_, err := l.walk(ctx, plan{before: never})
		errs = append(errs, err)
	}
	if !l.lacks(amount{}, highWater).none() && !l.isFutile() {
		_, err := l.evict(ctx, func() lack { return l.lacks(amount{}, lowWater) })
		errs = append(errs, err)
		if !l.lacks(amount{}, highWater).none() {
			l.futile = time.Now()
		}
	}
	if walk && l.c.Sweep != nil {
		errs = append(errs, l.c.Sweep(ctx))
	}
	return errors.Join(errs...)
}

// Trim evicts, least recently used first, until the objects take at most target
// bytes, or nothing is left that may be evicted. It returns the bytes gained.
func (l *Limit) Trim(ctx context.Context, target int64) (freed int64, err error) {
	if err := l.lock(ctx); err != nil {
		return 0, err
	}
	defer l.unlock()
	if _, err := l.walk(ctx, plan{before: never}); err != nil {
		return 0, err
	}
	n, err := l.evict(ctx, func() lack {
		l.mu.Lock()
		defer l.mu.Unlock()
		return lack{over: l.used().bytes - target}
	})
	return n.bytes, err
}

// Stat walks over the store and returns what it found.
func (l *Limit) Stat(ctx context.Context) (Usage, error) {
	if err := l.lock(ctx); err != nil {
		return Usage{}, err
	}
	defer l.unlock()
	u, err := l.walk(ctx, plan{before: never})
	u.Space = l.space()
	return u, err
}

type limitMetrics struct {
	evictions, evicted prometheus.Counter
	all                []prometheus.Collector
}

func (m *limitMetrics) init(l *Limit) {
	m.evictions = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_cache_evictions_total", Help: "Objects evicted to make room."})
	m.evicted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_cache_evicted_bytes_total", Help: "Bytes of disk that evicted objects took."})
	gauge := func(name, help string, f func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(f()) })
	}
	m.all = []prometheus.Collector{m.evictions, m.evicted,
		gauge("modgate_cache_bytes", "Bytes that stored objects and downloads in progress take on disk; a lower bound until the first walk is done.", func() int64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.used().bytes
		}),
		gauge("modgate_cache_limit_bytes", "Bound of modgate_cache_bytes; 0 is none.", func() int64 { return l.c.MaxBytes }),
		gauge("modgate_cache_free_bytes", "Bytes free on the file system of the cache.", func() int64 { return l.space().Free }),
	}
}

// Collectors are the metrics of the store.
func (l *Limit) Collectors() []prometheus.Collector { return l.m.all }
