package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"github.com/modgate/modgate/internal/durable"
	"github.com/modgate/modgate/sumdb"
)

// pinFiles keeps pins as files, one for each module version. It is no
// cache.Store, because a cache may lose what it has: here a file that cannot be
// read, or whose bytes are not those that were written, is an error for ever,
// until a person has looked at it. Processes that share the directory change it
// one at a time.
//
// A file ends with a line that has the SHA-256 of what stands before it.
type pinFiles struct {
	root *os.Root
	mu   sync.Mutex // held while a file is changed, with the lock of all processes
}

// openPins opens the pins in the cache directory dir. The caller closes them.
func openPins(dir string) (*pinFiles, error) {
	dir = filepath.Join(dir, ".modgate")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &pinFiles{root: root}, nil
}

var _ sumdb.PinStorage = (*pinFiles)(nil)

const (
	pinSum  = "# sha256 "
	pinLock = "pins.lock"
	pinTemp = "pins.tmp"
)

// Close closes the directory.
func (p *pinFiles) Close() error { return p.root.Close() }

// Get implements sumdb.PinStorage.
func (p *pinFiles) Get(_ context.Context, name string) ([]byte, error) {
	file, err := p.root.ReadFile(name)
	if err != nil {
		return nil, err
	}
	data, sum, ok := bytes.Cut(file, []byte("\n"+pinSum))
	data = append(data, '\n')
	if want := sha256.Sum256(data); !ok || string(bytes.TrimSpace(sum)) != hex.EncodeToString(want[:]) {
		return nil, fmt.Errorf("%s is not as it was written: compare it with a backup, or remove it if what it protected may be trusted anew", filepath.Join(p.root.Name(), name))
	}
	return data, nil
}

// Swap implements sumdb.PinStorage.
func (p *pinFiles) Swap(ctx context.Context, name string, old, data []byte) (err error) {
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return fmt.Errorf("pin %s: its bytes must end with a line feed", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	lock, err := p.root.OpenFile(pinLock, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer lock.Close() // and with it the lock
	// Where there are no locks one process alone may use a cache directory with
	// private modules.
	if err := durable.Lock(lock); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	current, err := p.Get(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(current, old) || (old == nil) != (err != nil) {
		return sumdb.ErrConflict
	}
	sync := durable.Options{Sync: true}
	if err := durable.MkdirAll(p.root, path.Dir(name), sync); err != nil {
		return err
	}
	if err := p.root.Remove(pinTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // what a dead process has left
	}
	sum := sha256.Sum256(data)
	file := append(bytes.Clone(data), pinSum+hex.EncodeToString(sum[:])+"\n"...)
	return durable.WriteFile(p.root, pinTemp, name, file, sync)
}
