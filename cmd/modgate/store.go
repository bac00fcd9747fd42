package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/sumdb"
)

// maxRecord bounds a file of a checksum database, in bytes: a tile has 8 KiB,
// a record a few hundred bytes.
const maxRecord = 1 << 20

// proofs lets a checksum database keep what it has proven in a cache.Store. It
// does not believe objects without a digest: a module cache that is adopted as
// a directory brings files of the same names that nobody has proven.
type proofs struct {
	store cache.Store
	// swap makes Swap atomic within the process. Two processes on one
	// directory may overwrite each other's tree head with one that is as good:
	// both are proven, and the older costs a few requests.
	swap sync.Mutex
}

var _ sumdb.Storage = (*proofs)(nil)

// Get implements sumdb.Storage.
func (p *proofs) Get(ctx context.Context, name string) ([]byte, error) {
	o, err := p.store.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	if o.Attrs.SHA256 == "" {
		return nil, errors.Join(fs.ErrNotExist, o.Close())
	}
	return o.ReadAll(maxRecord)
}

// Put implements sumdb.Storage.
func (p *proofs) Put(ctx context.Context, name string, data []byte) error {
	err := p.store.Put(ctx, name, bytes.NewReader(data), cache.PutOptions{Class: cache.Immutable})
	if !errors.Is(err, cache.ErrConflict) {
		return err
	}
	if _, gerr := p.Get(ctx, name); !errors.Is(gerr, fs.ErrNotExist) {
		return errors.Join(sumdb.ErrConflict, err)
	}
	if err := p.store.Delete(ctx, name); err != nil {
		return err
	}
	return p.store.Put(ctx, name, bytes.NewReader(data), cache.PutOptions{Class: cache.Immutable})
}

// Turn lets one replica of a fleet at a time fetch name: see sumdb.
func (p *proofs) Turn(ctx context.Context, name string, most time.Duration) (done func(), there bool) {
	shared, ok := p.store.(interface {
		cache.Leaser
		Look(ctx context.Context, name string) (*cache.Object, error)
	})
	if !ok {
		return func() {}, false
	}
	begin, pause := time.Now(), 10*time.Millisecond
	for {
		release, _, err := shared.Lease(ctx, name)
		if err != nil || release == nil && time.Since(begin) > most {
			release = func() {}
		}
		if release != nil {
			o, err := shared.Look(ctx, name)
			if err == nil {
				_ = o.Close()
			}
			return release, err == nil
		}
		select {
		case <-ctx.Done():
			return func() {}, false
		case <-time.After(pause):
		}
		pause = min(pause*3/2, 100*time.Millisecond)
	}
}

// Swap implements sumdb.Storage.
func (p *proofs) Swap(ctx context.Context, name string, old, data []byte) error {
	p.swap.Lock()
	defer p.swap.Unlock()
	current, err := p.Get(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(current, old) || (old == nil) != (err != nil) {
		return sumdb.ErrConflict
	}
	return p.store.Put(ctx, name, bytes.NewReader(data), cache.PutOptions{Class: cache.Precious})
}

// Delete implements sumdb.Storage.
func (p *proofs) Delete(ctx context.Context, name string) error {
	return p.store.Delete(ctx, name)
}
