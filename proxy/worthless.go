package proxy

import (
	"errors"
	"sync"
	"time"
)

// worthless reports whether err says that the bytes themselves are wrong, so
// that they must not be kept and another origin may have better ones.
func worthless(err error) bool {
	_, wrong := isMismatch(err)
	var bad *badContent
	return wrong || errors.As(err, &bad)
}

// suspects remembers whose bytes for a file were wrong. A large zip is sent
// while it comes, so that a fetch which has gone wrong cannot go on elsewhere;
// the next one must not begin at the same origin, or the file could never be
// had. It is bounded: when it is full, all of it is forgotten, which costs one
// more wrong fetch each.
type suspects struct {
	mu   sync.Mutex
	last map[string]suspect // by stored name
}

// suspect is the origin that was asked last, after all others before it.
type suspect struct {
	origin string
	at     time.Time
}

const (
	maxSuspects = 1000
	// suspicion is how long an origin is passed over. Then it may have been
	// mended.
	suspicion = 10 * time.Minute
)

func newSuspects() *suspects { return &suspects{last: make(map[string]suspect)} }

func (s *suspects) remember(name, origin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) >= maxSuspects {
		clear(s.last)
	}
	s.last[name] = suspect{origin, time.Now()}
}

func (s *suspects) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, name)
}

// of returns the origin that had wrong bytes for name a moment ago; empty:
// none.
func (s *suspects) of(name string) (origin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.last[name]; ok && time.Since(l.at) < suspicion {
		return l.origin
	}
	return ""
}
