package cache

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// TieredConfig configures a Tiered.
type TieredConfig struct {
	// MaxObject is the size in bytes up to which an object is copied to the
	// fast store when it is read. Default 256 KiB.
	MaxObject int64
	// Logger receives faults of the fast store. nil discards.
	Logger *slog.Logger
}

// Tiered is a Store that keeps copies of small objects of a slow store, which
// alone decides, in a fast one. A fault of the fast store is never an error.
//
// Every change goes to the slow store and then removes the copy, so that two
// writers cannot leave the older bytes in the fast store. A reader who is about
// to make a copy finds that the name has changed since it asked the slow store,
// by a counter, and makes none. Changes made by another process are seen when
// the fast store forgets the copy. Adopted objects are not copied.
type Tiered struct {
	wrapped // the slow store
	fast    Store
	max     int64
	log     *slog.Logger
	seed    maphash.Seed
	shards  [256]tierShard
}

type tierShard struct {
	mu sync.Mutex
	// changes counts those of names of this shard. Guarded by mu.
	changes uint64
	// stale are names whose copy could not be removed from the fast store: it
	// must not be read until it is. Guarded by mu; doubtful says without mu
	// that there are any.
	stale    map[string]struct{}
	doubtful atomic.Bool
	// lost is set when there are too many of them: the shard goes without the
	// fast store from then on. Guarded by mu.
	lost bool
}

// maxStale names per shard are remembered while a fast store is out of reach.
const maxStale = 256

// NewTiered puts fast in front of slow. Nobody else may write to fast.
func NewTiered(fast, slow Store, c TieredConfig) *Tiered {
	t := &Tiered{wrapped: wrapped{slow}, fast: fast, max: c.MaxObject, log: c.Logger, seed: maphash.MakeSeed()}
	if t.max <= 0 {
		t.max = 256 << 10
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t
}

func (t *Tiered) shard(name string) *tierShard {
	return &t.shards[maphash.String(t.seed, name)%uint64(len(t.shards))]
}

// Get implements Store.
func (t *Tiered) Get(ctx context.Context, name string) (*Object, error) {
	sh := t.shard(name)
	if !sh.doubtful.Load() || t.fresh(ctx, sh, name) {
		if o, err := t.fast.Get(ctx, name); err == nil {
			return o, nil
		}
	}
	sh.mu.Lock()
	seen := sh.changes
	sh.mu.Unlock()
	o, err := t.inner.Get(ctx, name)
	if err != nil || o.Attrs.SHA256 == "" || o.Attrs.Size > t.max {
		return o, err
	}
	return t.promote(ctx, o, seen)
}

// promote returns o from memory, and copies it to the fast store unless its
// name has changed since seen.
func (t *Tiered) promote(ctx context.Context, o *Object, seen uint64) (*Object, error) {
	r, err := contents(o)
	if err != nil {
		_ = o.Close()
		return nil, err
	}
	// One byte more than there should be, so that a longer body shows.
	data, err := io.ReadAll(io.LimitReader(r, o.Attrs.Size+1))
	_ = o.Close()
	if err != nil {
		// It could be read when it was proven. The next look decides.
		t.Distrust(o.Name)
		return t.inner.Get(ctx, o.Name)
	}
	sh := t.shard(o.Name)
	sh.mu.Lock()
	if sh.changes == seen && !sh.lost {
		err = t.fast.Put(ctx, o.Name, bytes.NewReader(data), PutOptions{Class: Mutable, Attrs: o.Attrs})
		if err == nil {
			sh.trust(o.Name)
		}
	}
	sh.mu.Unlock()
	if int64(len(data)) != o.Attrs.Size || errors.Is(err, ErrCorrupt) {
		if err := t.condemn(ctx, o, data); err != nil {
			return nil, err
		}
	}
	return &Object{Name: o.Name, Attrs: o.Attrs, Bytes: data}, nil
}

// condemn looks for itself when the fast store says that bytes are not those
// of the attributes, and puts the object aside if so.
func (t *Tiered) condemn(ctx context.Context, o *Object, data []byte) error {
	reason := matches(ctx, o.Attrs, bytes.NewReader(data), make([]byte, 4096))
	if !errors.Is(reason, ErrCorrupt) {
		return reason
	}
	if err := t.Quarantine(ctx, o.Name, reason.Error()); err != nil {
		t.log.Error("corrupt object cannot be put aside", "name", o.Name, "reason", reason, "err", err)
	}
	return healing(o.Name, reason)
}

// fresh reports whether a copy of name may be read. It tries again to remove
// one that may not.
func (t *Tiered) fresh(ctx context.Context, sh *tierShard, name string) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.lost {
		return false
	}
	if _, ok := sh.stale[name]; !ok {
		return true
	}
	if t.fast.Delete(ctx, name) != nil {
		return false
	}
	sh.trust(name)
	return true
}

// trust is called with mu held.
func (sh *tierShard) trust(name string) {
	delete(sh.stale, name)
	sh.doubtful.Store(len(sh.stale) > 0 || sh.lost)
}

// changed removes the copy of name, whether or not the slow store has changed
// it: a failed change may have been made all the same.
func (t *Tiered) changed(ctx context.Context, name string) {
	sh := t.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.changes++
	err := t.fast.Delete(context.WithoutCancel(ctx), name)
	if err == nil || errors.Is(err, ErrName) {
		sh.trust(name)
		return
	}
	t.log.Warn("a copy that is out of date cannot be removed; it is passed over", "name", name, "err", err)
	if sh.stale == nil {
		sh.stale = make(map[string]struct{})
	}
	sh.stale[name] = struct{}{}
	if len(sh.stale) > maxStale {
		sh.stale, sh.lost = nil, true
		t.log.Error("the fast cache has been out of reach for too many changes; part of it is not used until a restart")
	}
	sh.doubtful.Store(true)
}

// Distrust makes the slow store compare the digest of name at the next Get,
// which does not find a copy.
func (t *Tiered) Distrust(name string) {
	defer t.changed(context.Background(), name)
	t.wrapped.Distrust(name)
}

// Put implements Store.
func (t *Tiered) Put(ctx context.Context, name string, body io.Reader, opts PutOptions) error {
	defer t.changed(ctx, name)
	return t.inner.Put(ctx, name, body, opts)
}

// Delete implements Store.
func (t *Tiered) Delete(ctx context.Context, name string) error {
	defer t.changed(ctx, name)
	return t.inner.Delete(ctx, name)
}

// PutSpool implements Spooler.
func (t *Tiered) PutSpool(ctx context.Context, name string, f *os.File, opts PutOptions) error {
	defer t.changed(ctx, name)
	return t.wrapped.PutSpool(ctx, name, f, opts)
}

// Quarantine implements Quarantiner.
func (t *Tiered) Quarantine(ctx context.Context, name, reason string) error {
	defer t.changed(ctx, name)
	return t.wrapped.Quarantine(ctx, name, reason)
}

// Touch implements Toucher.
func (t *Tiered) Touch(ctx context.Context, name string, checked time.Time) error {
	defer t.changed(ctx, name)
	return t.wrapped.Touch(ctx, name, checked)
}
