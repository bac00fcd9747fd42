package cache

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Files of downloads in progress are on the disk before they have a name. They
// count with the room that was taken for them, or with what they have grown to
// without asking.

const (
	// spoolWait is how long NewSpool, which has no context, waits for room.
	spoolWait = 5 * time.Second
	// glance is how often Run looks whether spools have grown beyond the bound.
	glance = 10 * time.Second
)

// NewSpool implements Spooler. The file counts until PutSpool, DropSpool or its
// end. If there is no room, NewSpool evicts; if that gains too little the error
// is ErrFull.
func (l *Limit) NewSpool() (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), spoolWait)
	defer cancel()
	first := room(1)
	if err := l.reserve(ctx, first); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	f, err := l.wrapped.NewSpool()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = l.pending.minus(first)
	if err == nil {
		l.spools[f] = 0
	}
	return f, err
}

// GrowSpool implements Spooler. It evicts as NewSpool does.
func (l *Limit) GrowSpool(f *os.File, size int64) error {
	l.mu.Lock()
	has, ok := l.spools[f]
	l.mu.Unlock()
	if !ok {
		return fmt.Errorf("spool: %s was not handed out here", f.Name())
	}
	if fi, err := f.Stat(); err == nil {
		has = max(has, fi.Size())
	}
	if size <= has {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), spoolWait)
	defer cancel()
	more := room(size).minus(room(has))
	if err := l.reserve(ctx, more); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = l.pending.minus(more)
	l.spools[f] = size
	return nil
}

// DropSpool implements Spooler. The file counts until it is gone.
func (l *Limit) DropSpool(f *os.File) error {
	defer l.forgetSpool(f)
	return l.wrapped.DropSpool(f)
}

func (l *Limit) forgetSpool(f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spools, f)
}

// takeSpool lets the room of f be that of an object which takes n: it counts all
// the time, or somebody else could take it between two steps. It returns what
// GrowSpool had taken, and whether all is within the bounds. mu is not held.
func (l *Limit) takeSpool(f *os.File, t *taking, n amount) (claimed int64, within bool) {
	free := l.space()
	l.mu.Lock()
	defer l.mu.Unlock()
	within = l.lack(amount{}, 100, free).none()
	claimed, ok := l.spools[f]
	delete(l.spools, f)
	if ok {
		l.pending = l.pending.plus(n)
		t.taken = n
	}
	return claimed, within
}

// keepSpool counts f again, which could not be published.
func (l *Limit) keepSpool(f *os.File, claimed int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spools[f] = claimed
}

// spooled is what the open spools take. It is called with mu held.
func (l *Limit) spooled() amount {
	var sum amount
	for f, claimed := range l.spools {
		fi, err := f.Stat()
		if err != nil {
			delete(l.spools, f) // closed without a word
			continue
		}
		sum = sum.plus(room(max(claimed, fi.Size())))
	}
	return sum
}

// spooling reports whether there are spools that may grow.
func (l *Limit) spooling() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.spools) > 0
}
