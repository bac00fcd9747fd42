package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/proxy"
)

// Scrub configures how what is kept is looked at in the background.
type Scrub struct {
	Rate  Size     `key:"rate" default:"4MiB" doc:"How much of the cache is read per second in the background, to find what has rotted before somebody wants it. 0 turns that off."`
	Every Duration `key:"every" default:"720h" doc:"How long what was read in the background is taken for right before it is read again. Replicas read their bucket once between them."`
}

// scrubber reads all that is kept, slowly, again and again: the directory of
// this replica, and the bucket unless another replica is at it. What is wrong is
// put aside and replaced. Values in Redis live shortly and are compared whenever
// they are read.
type scrubber struct {
	c        Scrub
	tiers    []scrubbed
	spools   cache.Spooler
	verifier proxy.Verifier // nil: nobody is asked
	private  func(path string) bool
	// kept returns what is known here to be private.
	kept func(ctx context.Context) (*keptPrivate, error)
	log  *slog.Logger
	m    scrubMetrics
}

// scrubbed is a tier, and where its progress is kept.
type scrubbed struct {
	tier
	marks  cache.Store
	sorted bool // the tier lists in the order of names
}

// addScrub has the directory d, and the bucket if there is one, looked at.
func (a *app) addScrub(c Cache, d *disk.Store, verifier proxy.Verifier, registry *prometheus.Registry, log *slog.Logger) {
	if a.near == nil {
		a.near = a.store
	}
	s := &scrubber{c: c.Scrub, spools: d, verifier: verifier, private: a.rules.IsPrivate, log: log}
	s.kept = func(ctx context.Context) (*keptPrivate, error) { return readKeptPrivate(ctx, c.Dir, a.bucket) }
	s.m.init()
	registry.MustRegister(s.m.all()...)
	directory := a.directoryTier(d)
	directory.heal = a.healNear // there is an upstream, if nothing else
	s.tiers = append(s.tiers, scrubbed{tier: directory, marks: a.near})
	for _, t := range a.sharedTiers() {
		if t.name == tierBucket {
			s.tiers = append(s.tiers, scrubbed{tier: t, marks: a.bucket, sorted: true})
		}
	}
	if c.Scrub.Rate > 0 && c.Scrub.Every > 0 {
		a.background = append(a.background, s.run)
	}
}

// Times of a scrubber. A mark that nobody has touched for scrubLost is of a
// process that has ended.
const (
	scrubStart = 5 * time.Minute // after the start, which has other things to do
	scrubLook  = time.Minute     // between looks whether it is time
	scrubTouch = time.Minute     // between marks on the way
	scrubLost  = 10 * time.Minute
)

// run scrubs until ctx ends.
func (s *scrubber) run(ctx context.Context) error {
	// Replicas that were started together must not all find that nobody is at the
	// bucket: each looks at times of its own.
	look := max(1, min(scrubLook, s.c.Every.std()/2))
	tick := time.NewTimer(min(scrubStart, s.c.Every.std()/2) + rand.N(look))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, t := range s.tiers {
			if err := s.scrub(ctx, t); err != nil && ctx.Err() == nil {
				// A tier in trouble says so itself, and louder.
				s.log.Debug("a tier cannot be looked at in the background; it is tried again", "tier", t.name, "error", err)
			}
		}
		tick.Reset(look)
	}
}

// mark says how far a tier was looked at.
type mark struct {
	Begun   time.Time `json:"begun"`
	Touched time.Time `json:"touched"`
	After   string    `json:"after,omitempty"` // all names up to this one
	Done    bool      `json:"done"`
}

// markName is where a mark is kept. It is the name of no object of the protocol.
func markName(tier string) string { return "scrub/" + tier }

// due returns the mark to begin with; ok is false if it is not time.
func (s *scrubber) due(ctx context.Context, t scrubbed) (m mark, ok bool, err error) {
	now := time.Now()
	o, err := t.marks.Get(ctx, markName(t.name))
	if errors.Is(err, fs.ErrNotExist) {
		return mark{Begun: now}, true, nil
	}
	if err != nil {
		return m, false, err
	}
	data, err := o.ReadAll(1 << 20)
	if err != nil {
		return m, false, err
	}
	if json.Unmarshal(data, &m) != nil {
		return mark{Begun: now}, true, nil
	}
	switch {
	case m.Done:
		ok = now.Sub(m.Begun) >= s.c.Every.std()
		m = mark{Begun: now}
	case t.sorted: // another replica is at it, or has ended
		ok = now.Sub(m.Touched) >= min(scrubLost, s.c.Every.std())
	default: // we have ended on the way
		ok, m = true, mark{Begun: now}
	}
	return m, ok, nil
}

func (s *scrubber) keep(ctx context.Context, t scrubbed, m mark) error {
	m.Touched = time.Now()
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return t.marks.Put(ctx, markName(t.name), bytes.NewReader(data), cache.PutOptions{Class: cache.Mutable})
}

// scrub looks at a tier if it is time.
func (s *scrubber) scrub(ctx context.Context, t scrubbed) error {
	m, ok, err := s.due(ctx, t)
	if err != nil || !ok {
		return err
	}
	if err := s.keep(ctx, t, m); err != nil {
		return err
	}
	verifier := s.verifier
	if verifier != nil {
		kept, err := s.kept(ctx)
		if err != nil {
			return err
		}
		verifier = publicOnly{verifier, s.private, kept}
	}
	var last atomic.Pointer[string]
	v := &verification{
		tier: t.tier, spools: s.spools, verifier: verifier, pace: &pace{rate: int64(s.c.Rate)}, workers: 1,
		after: m.After, seen: func(name string) { last.Store(&name) },
	}
	done := make(chan error, 1)
	working, stop := context.WithCancel(ctx)
	defer stop()
	go func() { done <- v.run(working) }()
	touch := time.NewTicker(scrubTouch)
	defer touch.Stop()
	for {
		select {
		case err := <-done:
			s.tell(t, v)
			if m.Done = err == nil; !m.Done {
				return err
			}
			m.After = ""
			s.m.finished.WithLabelValues(t.name).SetToCurrentTime()
			return s.keep(ctx, t, m)
		case <-touch.C:
			s.tell(t, v)
			if name := last.Load(); name != nil && t.sorted {
				m.After = *name
			}
			if err := s.keep(ctx, t, m); err != nil {
				s.log.Debug("how far a tier was looked at cannot be noted", "tier", t.name, "error", err)
			}
		}
	}
}

// tell counts and logs what v has found since it was last asked.
func (s *scrubber) tell(t scrubbed, v *verification) {
	v.mu.Lock()
	r := v.report
	v.report = verifyReport{}
	v.mu.Unlock()
	s.m.count(t.name, &r)
	for _, f := range r.Corrupt {
		s.log.Error("what was kept is wrong, and was put aside", "tier", t.name, "name", f.Name, "reason", f.Reason)
	}
	for _, f := range r.Failed {
		s.log.Warn("what is kept cannot be read", "tier", t.name, "name", f.Name, "reason", f.Reason)
	}
}

type scrubMetrics struct {
	objects, bytes, corrupt, healed, unreadable *prometheus.CounterVec
	finished                                    *prometheus.GaugeVec
}

func (m *scrubMetrics) init() {
	counter := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"tier"})
		for _, tier := range []string{tierDirectory, tierBucket} {
			v.WithLabelValues(tier)
		}
		return v
	}
	m.objects = counter("modgate_scrub_objects_total", "Objects that were looked at in the background.")
	m.bytes = counter("modgate_scrub_bytes_total", "Bytes of those.")
	m.corrupt = counter("modgate_scrub_corrupt_total", "Objects that were found wrong in the background and put aside.")
	m.healed = counter("modgate_scrub_healed_total", "Of those, objects that were replaced from another tier or from upstream.")
	m.unreadable = counter("modgate_scrub_unreadable_total", "Objects that could not be read in the background, or not be put aside.")
	m.finished = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "modgate_scrub_finished_seconds", Help: "When this process had last looked at all objects of a tier, in Unix time; 0: not yet.",
	}, []string{"tier"})
	m.finished.WithLabelValues(tierDirectory)
	m.finished.WithLabelValues(tierBucket)
}

func (m *scrubMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.objects, m.bytes, m.corrupt, m.healed, m.unreadable, m.finished}
}

func (m *scrubMetrics) count(tier string, r *verifyReport) {
	m.objects.WithLabelValues(tier).Add(float64(r.Objects))
	m.bytes.WithLabelValues(tier).Add(float64(r.Bytes))
	m.corrupt.WithLabelValues(tier).Add(float64(len(r.Corrupt)))
	m.healed.WithLabelValues(tier).Add(float64(r.Healed))
	m.unreadable.WithLabelValues(tier).Add(float64(len(r.Failed)))
}
