package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/breaker"
)

// purgeLog is how a fleet remembers what was purged: a record in the bucket, that
// each replica reads now and then. Those that run hear of a purge by Redis and
// need no log. It is for one that was down, or cut off from Redis: it removes then
// what it has, and what it has meanwhile written back to the bucket.
//
// What was first seen after a purge stays, so the clocks of replicas must agree as
// well as the time between a purge and the next fetch is to be told apart.
type purgeLog struct {
	bucket records
	near   cache.Store // the mark, how far the log was read, is kept there
	lists  []func(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error]
	expire func(ctx context.Context, name string, before time.Time) (removed bool, err error)
	// removed is called when something was removed.
	removed func()
	log     *slog.Logger
	wake    chan struct{} // has a place for one: there is news

	mu   sync.Mutex // held while the log is read
	told string     // the last trouble that was logged; guarded by mu
}

// purgeRecord is one purge.
type purgeRecord struct {
	ID   string    `json:"id"`
	At   time.Time `json:"at"`
	What []string  `json:"what"` // arguments of purge
}

// Names of the record, and of the mark in the near store.
const (
	purgesName = "purges"
	purgesMark = cache.OnlyNear + "purges"
)

// Bounds. A replica that has missed more purges than are kept cannot know all.
const (
	keptPurges     = 256
	keptPurgeBytes = 256 << 10
	purgeSwaps     = 16 // attempts to change what others change as well
)

// purgesKnown is how long a replica that was not told does not know of a purge, at
// most, if the bucket answers.
const purgesKnown = 10 * time.Second

func newPurgeLog(bucket records, near cache.Store, log *slog.Logger) *purgeLog {
	return &purgeLog{bucket: bucket, near: near, log: log, removed: func() {}, wake: make(chan struct{}, 1)}
}

// add notes that what args mean is purged now. nil is the log of who shares no
// bucket, and keeps nothing.
func (p *purgeLog) add(ctx context.Context, args []string) error {
	if p == nil {
		return nil
	}
	for range purgeSwaps {
		old, all, err := p.load(ctx)
		if err != nil {
			return fmt.Errorf("note the purge: %w", err)
		}
		all = append(all, purgeRecord{ID: rand.Text(), At: time.Now().UTC(), What: args})
		data, err := encodePurges(all)
		if err != nil {
			return err
		}
		err = p.bucket.SwapRecord(ctx, purgesName, old, data)
		if !errors.Is(err, cache.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("note the purge: %w", cache.ErrConflict)
}

// encodePurges drops the oldest beyond the bounds.
func encodePurges(all []purgeRecord) ([]byte, error) {
	all = all[max(0, len(all)-keptPurges):]
	for {
		data, err := json.Marshal(all)
		if err != nil || len(data) <= keptPurgeBytes || len(all) == 1 {
			return data, err
		}
		all = all[(len(all)+1)/2:]
	}
}

func (p *purgeLog) load(ctx context.Context) (data []byte, all []purgeRecord, err error) {
	data, err = p.bucket.Record(ctx, purgesName)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, cache.ErrCorrupt) {
		return nil, nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	return data, all, err
}

// read removes what was purged since it was last called in this directory.
func (p *purgeLog) read(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.catchUp(ctx)
	switch text := fmt.Sprint(err); {
	case err == nil:
		p.told = ""
	case errors.Is(err, breaker.ErrOpen) || ctx.Err() != nil: // said by others, or nobody's fault
	case text != p.told:
		p.told = text
		p.log.Warn("what other replicas have purged cannot be read or removed; what this one has kept from before is not written to the bucket until it can", "error", err)
	}
	return err
}

func (p *purgeLog) catchUp(ctx context.Context) error {
	_, all, err := p.load(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	mark, err := p.mark(ctx)
	if err != nil {
		return err
	}
	next := slices.IndexFunc(all, func(r purgeRecord) bool { return r.ID == mark }) + 1
	if next == len(all) {
		return nil
	}
	if next == 0 && mark != "" && len(all) > 1 {
		p.log.Warn("this replica has missed more purges than are remembered: purge once more what must not come back", "since", all[0].At)
	}
	for _, r := range all[next:] {
		n, err := p.apply(ctx, r)
		if n > 0 {
			p.removed()
			p.log.Info("what another replica had purged is removed here", "purged", r.What, "at", r.At, "objects", n)
		}
		if err != nil {
			return err
		}
	}
	return p.near.Put(ctx, purgesMark, bytes.NewReader([]byte(all[len(all)-1].ID)), cache.PutOptions{Class: cache.Precious})
}

// mark returns the ID of the last purge that was read, "" at first.
func (p *purgeLog) mark(ctx context.Context) (string, error) {
	o, err := p.near.Get(ctx, purgesMark)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	data, err := o.ReadAll(1 << 10)
	return string(data), err
}

// apply removes what r means and is of before it, and counts that.
func (p *purgeLog) apply(ctx context.Context, r purgeRecord) (n int, err error) {
	targets, err := purgeTargets(r.What)
	if err != nil {
		p.log.Warn("a purge makes no sense here (of a newer modgate?)", "purged", r.What, "error", err)
		return 0, nil
	}
	for _, t := range targets {
		names := map[string]bool{}
		for _, list := range p.lists {
			for e, err := range list(ctx, t.prefix) {
				if err != nil {
					return n, err
				}
				if o := parseName(e.Name); o.module != "" && t.matches(o) {
					names[e.Name] = true
				}
			}
		}
		for name := range names {
			removed, err := p.expire(ctx, name, r.At)
			if removed {
				n++
			}
			if err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// news makes Run read the log now.
func (p *purgeLog) news() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run reads the log now and then until ctx ends.
func (p *purgeLog) Run(ctx context.Context) error {
	tick := time.NewTicker(purgesKnown)
	defer tick.Stop()
	for {
		_ = p.read(ctx) // tried again
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.wake:
		}
	}
}
