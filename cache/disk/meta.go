package disk

import (
	"sync"
	"sync/atomic"

	"github.com/modgate/modgate/cache"
)

// identity tells one state of a file from every other: a file that replaces
// it, or a write into it, has another.
type identity struct {
	ino                uint64
	size, mtime, ctime int64
}

// meta is what is known of the object in one file.
type meta struct {
	id  identity
	rec record
	// adopted: there is no attribute file.
	adopted bool
	// used is the access time on disk, in Unix seconds.
	used atomic.Int64
}

func (m *meta) attrs() cache.Attrs {
	if m.adopted {
		return cache.Attrs{Size: m.id.size}
	}
	return m.rec.attrs()
}

// metaCache remembers the attributes of files lately opened, so that a hit
// costs no second file. It holds at most metaShards × metaPerShard of them,
// about 8 MiB, and drops arbitrary ones: a wrong guess costs one small read.
type metaCache struct {
	shards [metaShards]metaShard
}

const (
	metaShards   = 64
	metaPerShard = 256
)

type metaShard struct {
	mu sync.Mutex
	m  map[string]*meta
	// gen counts changes of names in this shard. What was read from the disk
	// before a change is not remembered after it.
	gen uint64
}

func (c *metaCache) shard(name string) *metaShard {
	return &c.shards[hashName(name)%metaShards]
}

// get returns what is known of name if it is still the file id, and the
// generation to hand to put if it is not.
func (c *metaCache) get(name string, id identity) (*meta, uint64) {
	s := c.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.m[name]; m != nil && m.id == id {
		return m, s.gen
	}
	return nil, s.gen
}

func (c *metaCache) put(name string, m *meta, gen uint64) {
	s := c.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen != gen {
		return
	}
	if s.m == nil {
		s.m = make(map[string]*meta)
	}
	for old := range s.m {
		if len(s.m) < metaPerShard {
			break
		}
		delete(s.m, old)
	}
	s.m[name] = m
}

// forget is called, under the lock of name, after each change on disk.
func (c *metaCache) forget(name string) {
	s := c.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, name)
	s.gen++
}

// hashName is the same in all processes: it also picks the lock of a name.
func hashName(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}
