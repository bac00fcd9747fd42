package proxy

import (
	"sync"
	"time"
)

// negative remembers what was absent and when. It is bounded: when it is full,
// all of it is forgotten, which costs one request upstream each.
type negative struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

const (
	// maxNegative is the number of names remembered.
	maxNegative = 100_000
	// staleNegative is how long an absence that was proven once is still
	// answered while the sources are in trouble: a build whose probes of
	// parent paths answer 502 fails, although its modules are all here.
	staleNegative = 24 * time.Hour
)

func newNegative() *negative { return &negative{seen: make(map[string]time.Time)} }

func (n *negative) remember(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.seen) >= maxNegative {
		clear(n.seen)
	}
	n.seen[name] = time.Now()
}

func (n *negative) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.seen, name)
}

// fresh reports whether name was absent less than ttl ago.
func (n *negative) fresh(name string, ttl time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.seen[name]
	return ok && time.Since(at) < ttl
}
