package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"sync"

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
	// open is held for reading by every operation and for writing by close: a
	// lookup belongs to the database and may outlive who asked for it, but not
	// the store.
	open   sync.RWMutex
	closed bool // guarded by open
}

// errStoreClosed is for lookups that are still under way when the process ends.
var errStoreClosed = errors.New("the store is closed")

// close waits for the operations under way and refuses all others.
func (p *proofs) close() error {
	p.open.Lock()
	defer p.open.Unlock()
	p.closed = true
	return nil
}

// enter begins an operation; the caller ends it with p.open.RUnlock, if there
// is no error.
func (p *proofs) enter() error {
	p.open.RLock()
	if p.closed {
		p.open.RUnlock()
		return errStoreClosed
	}
	return nil
}

var _ sumdb.Storage = (*proofs)(nil)

// Get implements sumdb.Storage.
func (p *proofs) Get(ctx context.Context, name string) ([]byte, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.open.RUnlock()
	return p.get(ctx, name)
}

func (p *proofs) get(ctx context.Context, name string) ([]byte, error) {
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
	if err := p.enter(); err != nil {
		return err
	}
	defer p.open.RUnlock()
	err := p.store.Put(ctx, name, bytes.NewReader(data), cache.PutOptions{Class: cache.Immutable})
	if !errors.Is(err, cache.ErrConflict) {
		return err
	}
	if _, gerr := p.get(ctx, name); !errors.Is(gerr, fs.ErrNotExist) {
		return errors.Join(sumdb.ErrConflict, err)
	}
	if err := p.store.Delete(ctx, name); err != nil {
		return err
	}
	return p.store.Put(ctx, name, bytes.NewReader(data), cache.PutOptions{Class: cache.Immutable})
}

// Swap implements sumdb.Storage.
func (p *proofs) Swap(ctx context.Context, name string, old, data []byte) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.open.RUnlock()
	p.swap.Lock()
	defer p.swap.Unlock()
	current, err := p.get(ctx, name)
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
	if err := p.enter(); err != nil {
		return err
	}
	defer p.open.RUnlock()
	return p.store.Delete(ctx, name)
}
