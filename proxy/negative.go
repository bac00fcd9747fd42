package proxy

import (
	"hash/maphash"
	"sync"
	"time"
)

// negative remembers what was absent and when. It is bounded: when it is full,
// all of it is forgotten, which costs one request upstream each.
type negative struct {
	seed maphash.Seed
	mu   sync.Mutex
	// seen is by the hash of the name, so that nobody can fill the memory with
	// long names. Nor can anybody make two names collide without the seed.
	seen map[uint64]time.Time
}

const (
	// maxNegative is the number of names remembered.
	maxNegative = 100_000
	// staleNegative is how long an absence that was proven once is still
	// answered while the sources are in trouble: a build whose probes of
	// parent paths answer 502 fails, although its modules are all here.
	staleNegative = 24 * time.Hour
)

func newNegative() *negative {
	return &negative{seed: maphash.MakeSeed(), seen: make(map[uint64]time.Time)}
}

func (n *negative) key(name string) uint64 { return maphash.String(n.seed, name) }

func (n *negative) remember(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.seen) >= maxNegative {
		clear(n.seen)
	}
	n.seen[n.key(name)] = time.Now()
}

func (n *negative) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.seen, n.key(name))
}

// at returns when name was last absent, if that is known.
func (n *negative) at(name string) (time.Time, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.seen[n.key(name)]
	return at, ok
}

// fresh reports whether name was absent less than ttl ago.
func (n *negative) fresh(name string, ttl time.Duration) bool {
	at, ok := n.at(name)
	return ok && time.Since(at) < ttl
}
