package proxy

import (
	"hash/maphash"
	"sync"
)

// nameLocks are locks by stored name. Some names share one: nobody may hold two.
type nameLocks struct {
	seed   maphash.Seed
	shards [64]sync.Mutex
}

func newNameLocks() *nameLocks { return &nameLocks{seed: maphash.MakeSeed()} }

func (l *nameLocks) of(name string) *sync.Mutex {
	return &l.shards[maphash.String(l.seed, name)%uint64(len(l.shards))]
}
