package mem

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modgate/modgate/cache"
)

// shard is a map with SIEVE eviction (Zhang et al., NSDI 2024): a queue in the
// order of arrival, in which a hit sets a bit and moves nothing, so that hits
// need no more than a read lock; and a hand that goes from old to new, sparing
// once whatever was hit since it last came by. Objects used once go early, so
// a scan of the whole cache does not empty it of what is in use.
type shard struct {
	mu sync.RWMutex
	// All below is guarded by mu, but for entry.hit.
	m     map[string]*entry
	ring  entry // sentinel; ring.next is the newest, ring.prev the oldest
	hand  *entry
	bytes int64
	max   int64
	total *atomic.Int64 // of all shards
}

// entry is an object. Nothing of it changes after put, but for hit and links.
type entry struct {
	name   string
	class  cache.Class
	attrs  cache.Attrs
	data   []byte
	stored time.Duration

	hit        atomic.Bool
	prev, next *entry
}

// overhead of an entry beside its bytes: the struct, its place in the map, the
// strings of Attrs.
const overhead = 512

func (e *entry) weight() int64 { return int64(len(e.data)+len(e.name)) + overhead }

func (s *shard) init(limit int64, total *atomic.Int64) {
	s.m = make(map[string]*entry)
	s.ring.prev, s.ring.next = &s.ring, &s.ring
	s.hand = &s.ring
	s.max, s.total = limit, total
}

func (s *shard) get(name string) *entry {
	s.mu.RLock()
	e := s.m[name]
	s.mu.RUnlock()
	// A store by each reader would send the cache line from core to core.
	if e != nil && !e.hit.Load() {
		e.hit.Store(true)
	}
	return e
}

func (s *shard) put(e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.weight() > s.max {
		return fmt.Errorf("%w: %d bytes", cache.ErrFull, e.weight())
	}
	if old := s.m[e.name]; old != nil {
		if err := e.inherit(old); err != nil {
			return err
		}
		s.remove(old)
	}
	if e.attrs.FirstSeen.IsZero() {
		e.attrs.FirstSeen = time.Now()
	}
	e.attrs.FirstSeen = e.attrs.FirstSeen.UTC().Round(0)
	for s.bytes+e.weight() > s.max {
		s.evict()
	}
	s.insert(e)
	return nil
}

// inherit takes over from old what the contract says that a Put leaves.
func (e *entry) inherit(old *entry) error {
	if !old.attrs.FirstSeen.IsZero() {
		e.attrs.FirstSeen = old.attrs.FirstSeen
	}
	if e.class != cache.Immutable && old.class != cache.Immutable {
		return nil
	}
	if e.attrs.SHA256 != old.attrs.SHA256 {
		return fmt.Errorf("%w: SHA-256 %s is there, %s came", cache.ErrConflict, old.attrs.SHA256, e.attrs.SHA256)
	}
	e.class = max(e.class, old.class)
	if old.attrs.H1 != "" {
		e.attrs.H1 = old.attrs.H1
	}
	if old.attrs.Source != "" {
		e.attrs.Source = old.attrs.Source
	}
	if !old.attrs.Checked.IsZero() {
		e.attrs.Checked = old.attrs.Checked
	}
	return nil
}

func (s *shard) insert(e *entry) {
	s.m[e.name] = e
	e.prev, e.next = &s.ring, s.ring.next
	e.prev.next, e.next.prev = e, e
	s.bytes += e.weight()
	s.total.Add(e.weight())
}

func (s *shard) remove(e *entry) {
	if s.hand == e {
		s.hand = e.prev
	}
	delete(s.m, e.name)
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	s.bytes -= e.weight()
	s.total.Add(-e.weight())
}

// evict removes one entry. There is one: the caller holds more bytes than none.
func (s *shard) evict() {
	for {
		if s.hand == &s.ring {
			s.hand = s.ring.prev
		}
		e := s.hand
		if !e.hit.Swap(false) {
			s.remove(e)
			return
		}
		s.hand = e.prev
	}
}

func (s *shard) delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.m[name]; e != nil {
		s.remove(e)
	}
}

// touch replaces the entry by one that differs in its time: readers of the old
// one hold no lock.
func (s *shard) touch(name string, checked time.Time, now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.m[name]
	if old == nil {
		return false
	}
	e := &entry{name: old.name, class: old.class, attrs: old.attrs, data: old.data, stored: now}
	e.attrs.Checked = checked
	e.hit.Store(old.hit.Load())
	s.remove(old)
	s.insert(e)
	return true
}

// entries returns a snapshot.
func (s *shard) entries() []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*entry, 0, len(s.m))
	for _, e := range s.m {
		all = append(all, e)
	}
	return all
}
