package cache

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Files of downloads in progress are on the disk before they have a name. They
// count with what they take at the moment; nobody says how far they will grow.

const (
	// spoolWait is how long NewSpool, which has no context, waits for room.
	spoolWait = 5 * time.Second
	// glance is how often Run looks whether spools have grown beyond the bound.
	glance = 10 * time.Second
)

// NewSpool implements Spooler. The file counts until PutSpool, DropSpool or its
// end, with the size that it has whenever room is sought. If there is no room,
// NewSpool evicts; if that gains too little the error is ErrFull.
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
		l.spools[f] = struct{}{}
	}
	return f, err
}

// DropSpool implements Spooler.
func (l *Limit) DropSpool(f *os.File) error {
	l.forgetSpool(f)
	return l.wrapped.DropSpool(f)
}

func (l *Limit) forgetSpool(f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spools, f)
}

// keepSpool counts f again, which could not be published.
func (l *Limit) keepSpool(f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spools[f] = struct{}{}
}

// spooled is what the open spools take. It is called with mu held.
func (l *Limit) spooled() amount {
	var sum amount
	for f := range l.spools {
		fi, err := f.Stat()
		if err != nil {
			delete(l.spools, f) // closed without a word
			continue
		}
		sum = sum.plus(room(fi.Size()))
	}
	return sum
}

// spooling reports whether there are spools that may grow.
func (l *Limit) spooling() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.spools) > 0
}
