package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// LimitConfig configures a Limit.
type LimitConfig struct {
	// MaxBytes bounds what the objects take on disk, in bytes: each counts with
	// its whole blocks of 4 KiB and one more for its attributes. 0 leaves the
	// bound to MinFree.
	MaxBytes int64
	// MinFree is how many bytes of the file system are left to others. Default
	// 1 GiB or 5 % of it, whichever is less; negative for none.
	MinFree int64
	// MinFreeFiles is the same for inodes. Default 10,000 or 2 %.
	MinFreeFiles int64
	// Space tells what is free. nil: MinFree is not kept.
	Space func() (Space, error)
	// Keep are prefixes of names that are never evicted, beside all Precious
	// objects. They count.
	Keep []string
	// Sweep is called after each walk, to remove what crashes left. May be nil.
	Sweep func(context.Context) error
	// Interval between walks that establish the size anew. Default 1 hour.
	Interval time.Duration
	// Logger receives evictions and what goes wrong in the background. nil
	// discards.
	Logger *slog.Logger
}

// Space of a file system.
type Space struct {
	// Free and Total bytes; Free is what we may use.
	Free, Total int64
	// FreeFiles and TotalFiles (inodes); TotalFiles is 0 where they are not
	// limited.
	FreeFiles, TotalFiles int64
}

// Watermarks, in percent of MaxBytes: where eviction starts in the background,
// and where it ends.
const (
	highWater = 97
	lowWater  = 90
)

// Limit is a Store that keeps another within a number of bytes, and its file
// system from running full. It wraps the backend itself, because it asks it for
// the size of what is replaced.
//
// Nothing is read at the start: Run walks over the store in the background, and
// until its first walk is done only free space bounds a Put. Room for a Put is
// taken before its first byte is written, or as the bytes come if their number
// is unknown. If there is none, Put evicts; if too little can be evicted it
// fails with ErrFull. What was used least recently, to the hour, goes first.
// Open objects stay readable.
type Limit struct {
	wrapped
	c    LimitConfig
	log  *slog.Logger
	m    limitMetrics
	wake chan struct{} // has a place for one: Run should evict

	// turn has a place for one: who walks over the store.
	turn chan struct{}
	// futile is when an eviction last gained too little. Held with turn.
	futile time.Time

	mu sync.Mutex
	// All below is guarded by mu. used is what all objects take, as far as is
	// known; walked says that a walk has established it; grown is its change
	// since the last walk began; ages are of what could be evicted; squeeze is
	// bytes to gain because the backend said ErrFull for reasons of its own.
	used    amount
	walked  bool
	grown   amount
	ages    ages
	squeeze int64
}

// NewLimit bounds s.
func NewLimit(s Store, c LimitConfig) (*Limit, error) {
	if c.MaxBytes < 0 || c.MaxBytes > 0 && c.MaxBytes < 1<<20 {
		return nil, fmt.Errorf("cache limit of %d bytes: it must be 0 (none) or at least 1 MiB", c.MaxBytes)
	}
	if c.MaxBytes == 0 && c.Space == nil {
		return nil, errors.New("cache limit: neither a number of bytes nor a way to see free space")
	}
	if c.Interval <= 0 {
		c.Interval = time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Limit{
		wrapped: wrapped{s}, c: c, log: c.Logger, ages: make(ages),
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
	}
	l.m.init(l)
	return l, nil
}

// Put implements Store.
func (l *Limit) Put(ctx context.Context, name string, body io.Reader, opts PutOptions) error {
	t := taking{l: l, ctx: ctx, had: l.has(ctx, name)}
	if opts.Attrs.Size > 0 {
		if err := t.extend(opts.Attrs.Size); err != nil {
			return fmt.Errorf("put %s: %w", name, err)
		}
	}
	m := &metered{Reader: body, t: &t}
	err := l.inner.Put(ctx, name, m, opts)
	t.settle(m.size, err)
	return err
}

// PutSpool implements Spooler. The bytes are on the disk already; they count
// from here on.
func (l *Limit) PutSpool(ctx context.Context, name string, f *os.File, opts PutOptions) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	t := taking{l: l, ctx: ctx, had: l.has(ctx, name)}
	if err := t.extend(fi.Size()); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	err = l.wrapped.PutSpool(ctx, name, f, opts)
	t.settle(fi.Size(), err)
	return err
}

// Delete implements Store.
func (l *Limit) Delete(ctx context.Context, name string) error {
	had := l.has(ctx, name)
	err := l.inner.Delete(ctx, name)
	if err == nil {
		l.change(amount{}.minus(had))
	}
	return err
}

// Quarantine implements Quarantiner. What is put aside no longer counts.
func (l *Limit) Quarantine(ctx context.Context, name, reason string) error {
	had := l.has(ctx, name)
	err := l.wrapped.Quarantine(ctx, name, reason)
	if err == nil {
		l.change(amount{}.minus(had))
	}
	return err
}

// has returns what name takes now, or nothing if that is not to be learned.
func (l *Limit) has(ctx context.Context, name string) amount {
	o, err := l.inner.Get(ctx, name)
	if err != nil {
		return amount{}
	}
	defer o.Close()
	return room(o.Attrs.Size)
}

// change counts n, which may be negative.
func (l *Limit) change(n amount) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(n)
}

// count is change with mu held.
func (l *Limit) count(n amount) {
	l.used = l.used.plus(n)
	l.grown = l.grown.plus(n)
	if n.bytes > 0 {
		now := time.Now()
		l.ages.add(hourOf(now, now), n)
	}
}

// taking is the room of one Put.
type taking struct {
	l     *Limit
	ctx   context.Context
	had   amount // what the name took before
	taken amount
}

// extend takes room for an object of size bytes, less what is taken already.
func (t *taking) extend(size int64) error {
	more := room(size).minus(t.taken)
	if more.none() {
		return nil
	}
	if err := t.l.reserve(t.ctx, more); err != nil {
		return err
	}
	t.taken = t.taken.plus(more)
	return nil
}

// settle ends the Put of size bytes, which failed with err if that is not nil.
func (t *taking) settle(size int64, err error) {
	if err != nil {
		t.l.change(amount{}.minus(t.taken))
		if errors.Is(err, ErrFull) {
			t.l.pressed(room(size))
		}
		return
	}
	t.l.change(room(size).minus(t.taken).minus(t.had))
}

// metered takes room for the bytes that are read through it, a stride ahead.
type metered struct {
	io.Reader
	t    *taking
	size int64
}

const stride = 1 << 20

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.size += int64(n)
	if m.size > 0 && room(m.size).bytes > m.t.taken.bytes {
		ahead := m.size
		if m.size > stride {
			ahead += stride
		}
		if err := m.t.extend(ahead); err != nil {
			return 0, err
		}
	}
	return n, err
}
