package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/sumdb"
)

// sharedPinsOf returns pins of the fleet, if it has a bucket, else files. a runs
// them.
func (a *app) sharedPinsOf(files *pinFiles, registry *prometheus.Registry, log *slog.Logger) sumdb.PinStorage {
	if a.bucket == nil {
		return files
	}
	p := newSharedPins(files, a.bucket, log)
	p.expel = a.expel
	registry.MustRegister(p.Collectors()...)
	a.background = append(a.background, p.Run)
	return p
}

// expel removes the cached files of m that are not those of pin: first those
// here, and then what the bucket has instead, if that is no better. The .info
// here, which no pin holds, may name the commit of the others.
func (a *app) expel(ctx context.Context, m module.Version, pin *sumdb.Pin) {
	if name, err := (want{Version: m, kind: "info"}).path(); err == nil {
		_ = a.near.Delete(ctx, name)
	}
	for _, store := range []cache.Store{a.near, a.store} {
		for kind, file := range pin.Files {
			name, err := want{Version: m, kind: kind}.path()
			if err != nil {
				return
			}
			o, err := store.Get(ctx, name)
			if err != nil {
				continue
			}
			_ = o.Close()
			if o.Attrs.H1 != file.H1 {
				_ = store.Delete(ctx, name) // an error is one of a tier that is in trouble, and logged there
			}
		}
	}
}

// records is what the bucket that replicas share keeps pins in: records that
// nothing evicts. Absent is fs.ErrNotExist; a Swap that comes too late is
// cache.ErrConflict.
type records interface {
	Record(ctx context.Context, name string) ([]byte, error)
	SwapRecord(ctx context.Context, name string, old, data []byte) error
}

// sharedPins are the pins of a fleet: what the bucket has holds for all, and each
// replica keeps a copy, which is asked first and is enough while the bucket is
// out of reach. What was pinned meanwhile is compared afterwards.
type sharedPins struct {
	local  *pinFiles
	bucket records
	log    *slog.Logger
	// expel removes cached files of m that are not those of pin. nil: a command
	// that has no cache, and for which a bucket out of reach is an error.
	expel func(ctx context.Context, m module.Version, pin *sumdb.Pin)

	behind    atomic.Bool // there may be pins that the bucket lacks
	conflicts prometheus.Counter
	waiting   prometheus.Collector
}

// newSharedPins returns pins for which the caller runs Run, unless it is a
// command.
func newSharedPins(local *pinFiles, bucket records, log *slog.Logger) *sharedPins {
	p := &sharedPins{local: local, bucket: bucket, log: log}
	p.behind.Store(true) // until it has been compared
	p.conflicts = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_pin_conflicts_total",
		Help: "Private versions that this replica and another had first fetched with other content, each without knowing of the other.",
	})
	p.waiting = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "modgate_pins_behind",
		Help: "1 while this replica may have pins that the bucket lacks.",
	}, func() float64 {
		if p.behind.Load() {
			return 1
		}
		return 0
	})
	return p
}

// Collectors are the metrics.
func (p *sharedPins) Collectors() []prometheus.Collector {
	return []prometheus.Collector{p.conflicts, p.waiting}
}

// Get implements sumdb.PinStorage.
func (p *sharedPins) Get(ctx context.Context, name string) ([]byte, error) {
	data, err := p.local.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return p.Look(ctx, name)
	}
	return data, err
}

// Look is Get, but knows what other replicas have stored.
func (p *sharedPins) Look(ctx context.Context, name string) ([]byte, error) {
	theirs, err := p.bucket.Record(ctx, name)
	switch {
	case err == nil:
		return theirs, p.adopt(ctx, name, theirs)
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, cache.ErrCorrupt), p.expel == nil:
		return nil, err
	default:
		p.alone(ctx, name, err)
	}
	return p.local.Get(ctx, name)
}

// Swap implements sumdb.PinStorage.
func (p *sharedPins) Swap(ctx context.Context, name string, old, data []byte) error {
	err := p.bucket.SwapRecord(ctx, name, old, data)
	if errors.Is(err, cache.ErrConflict) {
		var theirs []byte
		if theirs, err = p.bucket.Record(ctx, name); err == nil {
			return errors.Join(sumdb.ErrConflict, p.adopt(ctx, name, theirs))
		}
		if errors.Is(err, fs.ErrNotExist) { // ours is of a time without the bucket
			err = p.bucket.SwapRecord(ctx, name, nil, data)
		}
	}
	switch {
	case err == nil:
		return p.adopt(ctx, name, data)
	case errors.Is(err, cache.ErrConflict):
		return errors.Join(sumdb.ErrConflict, err)
	case p.expel == nil:
		return fmt.Errorf("%w\n  → the pins of all replicas are in the bucket: try again when it can be reached", err)
	}
	p.alone(ctx, name, err)
	return p.local.Swap(ctx, name, old, data)
}

// alone notes that the bucket could not be asked.
func (p *sharedPins) alone(ctx context.Context, name string, err error) {
	if ctx.Err() == nil && !p.behind.Swap(true) {
		p.log.Warn("the bucket cannot be asked for pins; those of this replica count until it can", "pin", name, "error", err)
	}
}

// adopt makes what the bucket has our copy. If ours contradicts it, both cannot
// be right: the bucket's holds, so that all replicas serve the same, and a person
// is told.
func (p *sharedPins) adopt(ctx context.Context, name string, theirs []byte) error {
	ours, err := p.local.Get(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		ours = nil
	case err != nil:
		return err
	case bytes.Equal(ours, theirs):
		return nil
	}
	var mine, pin sumdb.Pin
	if err := json.Unmarshal(theirs, &pin); err != nil {
		return fmt.Errorf("pin %s in the bucket: %w", name, err)
	}
	if ours != nil && json.Unmarshal(ours, &mine) == nil {
		p.compare(ctx, name, &mine, &pin)
	}
	if err := p.local.Swap(ctx, name, ours, theirs); err != nil && !errors.Is(err, sumdb.ErrConflict) {
		// The bucket has it, and that is what counts.
		p.log.Warn("a pin of the bucket could not be copied here", "pin", name, "error", err)
	}
	return nil
}

// compare has the files of mine expelled if pin, which is to replace it, contradicts
// it, and raises the alarm unless a person has accepted that: then this replica
// has only missed it.
func (p *sharedPins) compare(ctx context.Context, name string, mine, pin *sumdb.Pin) {
	old, wrong := false, false
	for kind, file := range mine.Files {
		now := pin.Files[kind]
		if now == nil || now.H1 == file.H1 {
			continue
		}
		old = true
		if slices.ContainsFunc(pin.Accepted, func(a sumdb.Acceptance) bool { return a.Kind == kind && a.Was == file.H1 }) {
			continue
		}
		wrong = true
		p.log.Error("security: a private module version was first fetched with other content here than in the bucket, whose pin holds from now on (tag moved while the bucket was out of reach?)",
			"pin", name, "kind", kind, "here", file.H1, "since", file.Since, "bucket", now.H1)
	}
	if wrong {
		p.conflicts.Inc()
	}
	if m, err := pinned(name); err == nil && old && p.expel != nil {
		p.expel(ctx, m, pin)
	}
}

// pinned returns the module version of a pin: the inverse of sumdb.PinName.
func pinned(name string) (module.Version, error) {
	rest := strings.TrimSuffix(strings.TrimPrefix(name, "pins/"), ".json")
	escapedPath, escapedVersion, _ := strings.Cut(rest, "/@v/")
	path, err := module.UnescapePath(escapedPath)
	if err != nil {
		return module.Version{}, err
	}
	version, err := module.UnescapeVersion(escapedVersion)
	return module.Version{Path: path, Version: version}, err
}

// compareEvery is the time after which a bucket that was out of reach is tried.
// Nobody tells a replica of what was accepted elsewhere, for sure: that it finds
// out within acceptedWithin.
const (
	compareEvery   = 5 * time.Second
	acceptedWithin = time.Hour
)

// Run gives the bucket the pins that it lacks, and takes from it what others have
// accepted: at the start, whenever it was out of reach, and now and then, until
// ctx ends.
func (p *sharedPins) Run(ctx context.Context) error {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	var last time.Time
	for {
		if p.behind.Swap(false) || time.Since(last) >= acceptedWithin {
			last = time.Now()
			if err := p.catchUp(ctx); err != nil {
				p.behind.Store(true)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// catchUp compares all pins with the bucket.
func (p *sharedPins) catchUp(ctx context.Context) error {
	return fs.WalkDir(p.local.root.FS(), "pins", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // no pin at all
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".json") {
			return err
		}
		ours, err := p.local.Get(ctx, name)
		if err != nil {
			p.log.Error("a pin cannot be read", "pin", name, "error", err)
			return nil
		}
		return p.give(ctx, name, ours)
	})
}

// give makes the bucket have a pin, and us what it has to say about it.
func (p *sharedPins) give(ctx context.Context, name string, ours []byte) error {
	theirs, err := p.bucket.Record(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = p.bucket.SwapRecord(ctx, name, nil, ours)
	case err == nil && !bytes.Equal(ours, theirs):
		var merged []byte
		if merged, err = withMissing(theirs, ours); err == nil && !bytes.Equal(merged, theirs) {
			err = p.bucket.SwapRecord(ctx, name, theirs, merged)
		}
		if err == nil {
			err = p.adopt(ctx, name, merged)
		}
	}
	if errors.Is(err, cache.ErrCorrupt) {
		p.log.Error("a pin in the bucket is not as it was written: compare it with those of the replicas", "pin", name, "error", err)
		return nil
	}
	return err
}

// withMissing returns the pin theirs with the files that only ours has.
func withMissing(theirs, ours []byte) ([]byte, error) {
	var pin, mine sumdb.Pin
	if err := errors.Join(json.Unmarshal(theirs, &pin), json.Unmarshal(ours, &mine)); err != nil {
		return nil, err
	}
	if pin.Files == nil {
		pin.Files = map[string]*sumdb.PinnedFile{}
	}
	missing := false
	for kind, file := range mine.Files {
		if pin.Files[kind] == nil {
			pin.Files[kind], missing = file, true
		}
	}
	if !missing {
		return theirs, nil
	}
	data, err := json.MarshalIndent(&pin, "", "  ")
	return append(data, '\n'), err
}
