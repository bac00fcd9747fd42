package cache

import (
	"context"
	"errors"
	"fmt"
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

// usage is what a walk has found: objects, and what they take on disk.
type usage struct {
	objects, bytes int64
	freed          amount
}

// walk evicts by p and establishes what is used. The turn is held.
func (l *Limit) walk(ctx context.Context, p plan) (usage, error) {
	l.startWalk()
	var u usage
	a := make(ages)
	now := time.Now()
	for e, err := range l.inner.List(ctx, "") {
		if err == nil && evicts(e, &p, now) {
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
		u.objects += n.files / 2
		u.bytes += n.bytes
		if e.Class != Precious {
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
	for _, t := range l.changing {
		t.before = t.had
	}
}

// endWalk keeps what the walk has found if it is complete, and otherwise what
// it has freed.
func (l *Limit) endWalk(u usage, a ages, complete bool) {
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
	l.found, l.ages, l.walked = amount{u.bytes, 2 * u.objects}, a, true
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
		return t.before
	}
	return room(e.Size)
}

func evicts(e Entry, p *plan, now time.Time) bool {
	return e.Class != Precious && p.takes(hourOf(e.Used, now), room(e.Size))
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
	if k := l.lacks(amount{}, highWater); !k.none() && !l.isFutile(k) {
		_, err := l.evict(ctx, func() lack { return l.lacks(amount{}, lowWater) })
		errs = append(errs, err)
		if !l.lacks(amount{}, highWater).none() {
			l.gaveUp()
		}
	}
	if walk && l.c.Sweep != nil {
		errs = append(errs, l.c.Sweep(ctx))
	}
	return errors.Join(errs...)
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
		gauge("modgate_cache_free_files", "Inodes free on the file system of the cache; -1 where they are not limited.", func() int64 {
			sp := l.space()
			if sp.TotalFiles == 0 {
				return -1
			}
			return sp.FreeFiles
		}),
	}
}

// Collectors are the metrics of the store.
func (l *Limit) Collectors() []prometheus.Collector { return l.m.all }
