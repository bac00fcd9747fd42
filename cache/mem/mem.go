// Package mem keeps small objects in memory, within a number of bytes. It is
// the fast tier in front of a slower store: everything in it is a copy, which
// may go at any time and goes with the process, whatever its class.
package mem

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
)

// Config of a Store.
type Config struct {
	// MaxBytes bounds all objects together: their bytes, names and, roughly,
	// what it costs to keep them. It must be at least four times MaxObject.
	MaxBytes int64
	// MaxObject bounds one object, in bytes. Put of a larger one is ErrFull.
	// Required.
	MaxObject int64
	// MaxAge is how long an object is kept after Put or Touch, so that the
	// slower store is asked now and then: it learns what is in use, and we
	// learn what another process has removed. Default 15 minutes; negative
	// means as long as there is room.
	MaxAge time.Duration
}

// Store is a cache.Store with the ability Toucher. Its objects have Bytes set.
// A hit takes a read lock and allocates the Object, nothing else.
type Store struct {
	shards    []shard
	seed      maphash.Seed
	maxObject int64
	maxAge    time.Duration
	start     time.Time
	bytes     atomic.Int64
}

// maxShards spreads the locks. Each shard has its part of MaxBytes, and room
// for at least four of the largest objects.
const maxShards = 64

// New returns an empty Store.
func New(c Config) (*Store, error) {
	switch {
	case c.MaxObject <= 0:
		return nil, errors.New("memory cache: the size of the largest object must be positive")
	case c.MaxBytes < 4*c.MaxObject:
		return nil, fmt.Errorf("memory cache: %d bytes are not enough for four objects of %d", c.MaxBytes, c.MaxObject)
	}
	if c.MaxAge == 0 {
		c.MaxAge = 15 * time.Minute
	}
	n := 1
	for n < maxShards && c.MaxBytes/int64(2*n) >= 4*(c.MaxObject+overhead) {
		n *= 2
	}
	s := &Store{
		shards: make([]shard, n), seed: maphash.MakeSeed(),
		maxObject: c.MaxObject, maxAge: c.MaxAge, start: time.Now(),
	}
	for i := range s.shards {
		s.shards[i].init(c.MaxBytes/int64(n), &s.bytes)
	}
	return s, nil
}

func (s *Store) shard(name string) *shard {
	return &s.shards[maphash.String(s.seed, name)&uint64(len(s.shards)-1)]
}

// now is the time since the store was made, on the monotonic clock.
func (s *Store) now() time.Duration { return time.Since(s.start) }

// Get implements cache.Store.
func (s *Store) Get(ctx context.Context, name string) (*cache.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := s.shard(name).get(name)
	if e != nil && (s.maxAge < 0 || s.now()-e.stored < s.maxAge) {
		return &cache.Object{Name: e.name, Attrs: e.attrs, Bytes: e.data}, nil
	}
	if err := cache.CheckName(name); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("get %s: %w", name, fs.ErrNotExist)
}

// Put implements cache.Store.
func (s *Store) Put(ctx context.Context, name string, body io.Reader, opts cache.PutOptions) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e := &entry{name: strings.Clone(name), class: opts.Class, attrs: opts.Attrs, stored: s.now()}
	err := s.fill(ctx, e, body)
	if err == nil {
		err = s.shard(name).put(e)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

// fill reads body into e and completes the attributes.
func (s *Store) fill(ctx context.Context, e *entry, body io.Reader) error {
	var b bytes.Buffer
	if want := min(e.attrs.Size, s.maxObject); want > 0 {
		b.Grow(int(want) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(body, s.maxObject+1)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	size := int64(b.Len())
	if e.attrs.Size > 0 && size != e.attrs.Size {
		return fmt.Errorf("%w: %d bytes came where %d were promised", cache.ErrCorrupt, size, e.attrs.Size)
	}
	if size > s.maxObject {
		return fmt.Errorf("%w: objects in memory have at most %d bytes", cache.ErrFull, s.maxObject)
	}
	h := sha256.Sum256(b.Bytes())
	sum := hex.EncodeToString(h[:])
	if e.attrs.SHA256 != "" && e.attrs.SHA256 != sum {
		return fmt.Errorf("%w: SHA-256 %s where %s was promised", cache.ErrCorrupt, sum, e.attrs.SHA256)
	}
	e.attrs.Size, e.attrs.SHA256 = size, sum
	e.data = bytes.Clone(b.Bytes())
	if e.data == nil {
		e.data = []byte{} // Bytes is set even where there are none
	}
	return nil
}

// Delete implements cache.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.shard(name).delete(name)
	return nil
}

// Touch implements cache.Toucher.
func (s *Store) Touch(ctx context.Context, name string, checked time.Time) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.shard(name).touch(name, checked.UTC().Round(0), s.now()) {
		return fmt.Errorf("touch %s: %w", name, fs.ErrNotExist)
	}
	return nil
}

// List implements cache.Store. Used is when an object was put.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	return func(yield func(cache.Entry, error) bool) {
		for i := range s.shards {
			if err := ctx.Err(); err != nil {
				yield(cache.Entry{}, err)
				return
			}
			for _, e := range s.shards[i].entries() {
				if !strings.HasPrefix(e.name, prefix) || s.maxAge >= 0 && s.now()-e.stored >= s.maxAge {
					continue
				}
				if !yield(cache.Entry{Name: e.name, Size: e.attrs.Size, Used: s.start.Add(e.stored), Class: e.class}, nil) {
					return
				}
			}
		}
	}
}

// Collectors are the metrics of the store.
func (s *Store) Collectors() []prometheus.Collector {
	return []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "modgate_cache_memory_bytes",
		Help: "Bytes of objects kept in memory, with what it costs to keep them.",
	}, func() float64 { return float64(s.bytes.Load()) })}
}
