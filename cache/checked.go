package cache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// CheckedConfig configures a Checked.
type CheckedConfig struct {
	// Remember is how many objects are known to be right, at 32 bytes each.
	// Beyond that arbitrary ones are checked again. Default 131,072.
	Remember int
	// Logger receives each corrupt object. nil discards.
	Logger *slog.Logger
}

// Checked is a Store whose objects have the bytes that were put. Get compares
// the digest when an object is opened for the first time since the start, and
// again when its file has changed or Distrust was called. The bytes compared
// are those returned: the same open file.
//
// A corrupt object, be it one that cannot be read, is quarantined, and Get returns an error that is both
// fs.ErrNotExist and ErrCorrupt, so that the caller fetches it again in the
// same request. An object without a digest (adopted) passes as it is.
type Checked struct {
	wrapped
	log     *slog.Logger
	corrupt prometheus.Counter
	buffers sync.Pool // of *[]byte

	// busy has a place for the one who hashes an object of a shard, so that
	// many who open a big zip at once hash it once.
	busy [64]chan struct{}

	seed maphash.Seed
	most int
	mu   sync.Mutex
	// proven maps a name to the state of it that was proven, both hashed with
	// seed. Guarded by mu.
	proven map[uint64]uint64
}

// NewChecked returns s with its digests checked.
func NewChecked(s Store, c CheckedConfig) *Checked {
	k := &Checked{
		wrapped: wrapped{s}, log: c.Logger,
		seed: maphash.MakeSeed(), most: c.Remember, proven: make(map[uint64]uint64),
		corrupt: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "modgate_cache_corrupt_total",
			Help: "Stored objects that did not have their size or digest, or could not be read, and were put aside.",
		}),
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if k.most <= 0 {
		k.most = 1 << 17
	}
	k.buffers.New = func() any { b := make([]byte, 128<<10); return &b }
	for i := range k.busy {
		k.busy[i] = make(chan struct{}, 1)
	}
	return k
}

// Collectors are the metrics of the store.
func (k *Checked) Collectors() []prometheus.Collector { return []prometheus.Collector{k.corrupt} }

// Get implements Store.
func (k *Checked) Get(ctx context.Context, name string) (*Object, error) {
	var reason error
	// What was wrong may have been replaced while it was read. Only what is
	// wrong twice is put aside.
	for range 2 {
		o, err := k.inner.Get(ctx, name)
		if err == nil {
			if err = k.prove(ctx, o); err == nil {
				return o, nil
			}
			_ = o.Close()
		}
		if !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		reason = err
	}
	if errors.Is(reason, fs.ErrNotExist) {
		return nil, reason // somebody below has put it aside
	}
	k.corrupt.Inc()
	if err := k.Quarantine(ctx, name, reason.Error()); err != nil {
		k.log.Error("corrupt object cannot be put aside", "name", name, "reason", reason, "err", err)
	} else {
		k.log.Warn("corrupt object put aside", "name", name, "reason", reason)
	}
	return nil, healing(name, reason)
}

// Distrust makes the next Get of name compare its digest. It is for whoever
// could not read an object to its end.
func (k *Checked) Distrust(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.proven, maphash.String(k.seed, name))
}

// prove returns nil if o has the right bytes, and leaves it at its start.
func (k *Checked) prove(ctx context.Context, o *Object) error {
	if o.Attrs.SHA256 == "" {
		return nil
	}
	key := maphash.String(k.seed, o.Name)
	state, stable := k.state(o)
	if stable && k.known(key, state) {
		return nil
	}
	busy := k.busy[key%uint64(len(k.busy))]
	select {
	case busy <- struct{}{}:
		defer func() { <-busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if stable && k.known(key, state) {
		return nil
	}
	if err := k.compare(ctx, o); err != nil {
		return err
	}
	if stable {
		k.remember(key, state)
	}
	return nil
}

func (k *Checked) compare(ctx context.Context, o *Object) error {
	r, err := contents(o)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	buf := k.buffers.Get().(*[]byte)
	defer k.buffers.Put(buf)
	if err := matches(ctx, o.Attrs, r, *buf); err != nil {
		return err
	}
	if o.Body != nil {
		_, err = o.Body.Seek(0, io.SeekStart)
	}
	return err
}

// state identifies the bytes of o as far as that is possible without reading
// them; stable is false where it is not.
func (k *Checked) state(o *Object) (state uint64, stable bool) {
	var h maphash.Hash
	h.SetSeed(k.seed)
	_, _ = h.WriteString(o.Attrs.SHA256)
	if o.Body == nil {
		return h.Sum64(), true
	}
	f, ok := o.Body.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return 0, false
	}
	fi, err := f.Stat()
	if err != nil || fi.Size() != o.Attrs.Size {
		return 0, false
	}
	maphash.WriteComparable(&h, fi.Size())
	maphash.WriteComparable(&h, fi.ModTime().UnixNano())
	return h.Sum64(), true
}

func (k *Checked) known(key, state uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.proven[key]
	return ok && s == state
}

func (k *Checked) remember(key, state uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for old := range k.proven {
		if len(k.proven) < k.most {
			break
		}
		delete(k.proven, old)
	}
	k.proven[key] = state
}
