package cache

import (
	"errors"
	"io/fs"
	"sync"
	"time"
)

// located remembers where objects are that a Locator has found, so that a client
// who is sent there costs the bucket one request, its own. It is bounded, forgets
// what is removed, here or by another process, and is not believed unless the
// bucket has answered just now: a client that is sent to a bucket in trouble fails.
type located struct {
	mu sync.Mutex
	// guarded by mu
	m         map[string]location
	answered  time.Time // when the bucket last did
	forgotten int       // counts what was: what was asked for before is not remembered after
}

type location struct {
	url   string
	attrs Attrs
	until time.Time
}

const (
	// maxLocated is the number of objects remembered: some MB.
	maxLocated = 4096
	// locatedFor is how long. A URL is good for some minutes and must be so when
	// a client gets it; and what somebody removes from the bucket behind our
	// back is missing to clients for as long.
	locatedFor = time.Minute
	// answeredFor is how long an answer of the bucket proves that it is well.
	answeredFor = time.Second
)

// get returns what is remembered of name. If that is nothing, answer takes began
// with what the bucket says then.
func (l *located) get(name string) (at location, ok bool, began int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	at, ok = l.m[name]
	return at, ok && now.Before(at.until) && now.Sub(l.answered) < answeredFor, l.forgotten
}

// answer takes what the bucket said about name.
func (l *located) answer(name string, at location, err error, began int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.answered = now
		delete(l.m, name)
	case err != nil:
		l.answered = time.Time{}
	default:
		l.answered = now
		if l.forgotten != began {
			return
		}
		if l.m == nil || len(l.m) >= maxLocated {
			l.m = make(map[string]location)
		}
		at.until = now.Add(locatedFor)
		l.m[name] = at
	}
}

func (l *located) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.m)
	l.forgotten++
}

func (l *located) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, name)
	l.forgotten++
}
