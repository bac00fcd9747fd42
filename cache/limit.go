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
// is unknown. Spools count with what they take. If there is none, Put evicts; if
// too little can be evicted it fails with ErrFull, unless the object is Precious:
// that takes room beyond the bounds, which the next eviction makes up for. What
// was used least recently, to the hour, goes first. Open objects stay readable.
type Limit struct {
	wrapped
	c    LimitConfig
	log  *slog.Logger
	m    limitMetrics
	wake chan struct{} // has a place for one: Run should evict

	// turn has a place for one: who walks over the store.
	turn chan struct{}
	// futile is held with turn.
	futile futile

	mu sync.Mutex
	// All below is guarded by mu. What is used is the sum of found by the last
	// walk, grown by changes since it began, and pending for Puts in progress.
	found, grown, pending amount
	// spools are the open files of NewSpool, which count beside, with the size
	// for which GrowSpool has taken room.
	spools map[*os.File]int64
	// walked says that there was a walk.
	walked bool
	// changing are the names that change: what such a name had before counts
	// for a walk that meets it, because the change itself is grown. During a
	// walk, which walking says, they stay after the change is done.
	changing map[string]*taking
	walking  bool
	// ages are of what may be evicted.
	ages ages
	// squeeze is bytes to gain because the backend said ErrFull for reasons of
	// its own.
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
		wrapped: wrapped{s}, c: c, log: c.Logger, ages: make(ages), changing: make(map[string]*taking), spools: make(map[*os.File]int64),
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
	}
	l.m.init(l)
	return l, nil
}

// Put implements Store.
func (l *Limit) Put(ctx context.Context, name string, body io.Reader, opts PutOptions) error {
	t := l.take(ctx, name)
	t.must = opts.Class == Precious
	if err := t.extend(opts.Attrs.Size); err != nil {
		return t.settle(amount{}, fmt.Errorf("put %s: %w", name, err))
	}
	m := &metered{Reader: body, t: t}
	err := l.inner.Put(ctx, name, m, opts)
	return t.settle(room(m.size), err)
}

// PutSpool implements Spooler. The bytes are on the disk already, and count as
// those of the object from here on.
func (l *Limit) PutSpool(ctx context.Context, name string, f *os.File, opts PutOptions) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	t := l.take(ctx, name)
	t.must = opts.Class == Precious
	claimed, within := l.takeSpool(f, t, room(fi.Size()))
	if !within && !t.must {
		err = l.reserve(ctx, amount{})
		t.refused = err != nil
	}
	if err == nil {
		err = t.extend(fi.Size())
	}
	if err != nil {
		l.keepSpool(f, claimed)
		return t.settle(amount{}, fmt.Errorf("put %s: %w", name, err))
	}
	if err = l.wrapped.PutSpool(ctx, name, f, opts); err != nil {
		l.keepSpool(f, claimed)
	}
	return t.settle(room(fi.Size()), err)
}

// Delete implements Store.
func (l *Limit) Delete(ctx context.Context, name string) error {
	return l.take(ctx, name).settle(amount{}, l.inner.Delete(ctx, name))
}

// Quarantine implements Quarantiner. What is put aside no longer counts.
func (l *Limit) Quarantine(ctx context.Context, name, reason string) error {
	return l.take(ctx, name).settle(amount{}, l.wrapped.Quarantine(ctx, name, reason))
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

// used is called with mu held.
func (l *Limit) used() amount { return l.found.plus(l.grown).plus(l.pending).plus(l.spooled()) }

// taking accounts for one change of a name.
type taking struct {
	l     *Limit
	ctx   context.Context
	name  string
	had   amount // what the name took before
	taken amount // for what it will take
	// before is what the name took before the first of its changes that a walk
	// must not count: had, unless it changed more than once. Guarded by l.mu.
	before amount
	// must says that it takes room that is not there: what is Precious is little,
	// and lost if it is refused.
	must bool
	// refused says that we knew of no room: that the backend is out of it is no
	// news then, and no reason to evict more.
	refused bool
	// done is guarded by l.mu.
	done bool
}

func (l *Limit) take(ctx context.Context, name string) *taking {
	t := &taking{l: l, ctx: ctx, name: name, had: l.has(ctx, name)}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.before = t.had
	if earlier := l.changing[name]; earlier != nil {
		t.before = earlier.before
	}
	l.changing[name] = t
	return t
}

// extend takes room for an object of size bytes, less what is taken already.
func (t *taking) extend(size int64) error {
	more := room(size).minus(t.taken)
	if more.none() {
		return nil
	}
	if err := t.l.reserve(t.ctx, more); err != nil {
		t.refused = true
		if !t.must || !errors.Is(err, ErrFull) {
			return err
		}
		t.l.insist(more)
	}
	t.taken = t.taken.plus(more)
	return nil
}

// settle ends the change and returns err, the error that it failed with. If
// that is nil, the name takes now.
func (t *taking) settle(now amount, err error) error {
	l := t.l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = l.pending.minus(t.taken)
	t.done = true
	if l.changing[t.name] == t && !l.walking {
		delete(l.changing, t.name)
	}
	switch {
	case err == nil:
		l.grown = l.grown.plus(now).minus(t.had)
		h := time.Now()
		l.ages.add(hourOf(h, h), now)
	case errors.Is(err, ErrFull) && !t.refused:
		l.squeeze = max(2*t.taken.bytes, 16<<20)
		l.signal()
	}
	return err
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
	if room(m.size).bytes > m.t.taken.bytes {
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
