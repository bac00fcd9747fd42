//go:build !linux

package disk

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/durable"
)

// Enough for a developer's machine; see the BUG note of the package.

const checksModes = false

type handle struct{}

func (h *handle) open(*os.Root) error { return nil }
func (h *handle) close() error        { return nil }

func (h *handle) openFile(root *os.Root, name string) (descriptor, error) {
	fi, err := root.Lstat(name)
	if err != nil {
		return descriptor{}, err
	}
	if !fi.Mode().IsRegular() && !fi.IsDir() {
		return descriptor{}, cache.ErrCorrupt
	}
	f, err := root.Open(name)
	return descriptor{f}, err
}

// descriptor is an open file of which nobody else knows.
type descriptor struct{ f *os.File }

func (d descriptor) readAt(p []byte, off int64) (int, error) {
	n, err := d.f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (d descriptor) sendfile(uintptr, int64, int) (int, error) { return 0, errors.ErrUnsupported }
func (d descriptor) close() error                              { return d.f.Close() }

func (h *handle) openDir(root *os.Root, name string) (*os.File, error) {
	return root.Open(name)
}

func (h *handle) create(root *os.Root, name string) (*os.File, error) {
	return durable.Create(root, name, nil, durable.Options{})
}

func (h *handle) move(root *os.Root, r rename) error { return root.Rename(r.tmp, r.name) }

func (s *Store) missing(name string) bool {
	_, err := s.root.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

const (
	plain = iota
	directory
	nameless
	foreign
)

func (d descriptor) stat() (identity, int, error) {
	fi, err := d.f.Stat()
	if err != nil {
		return identity{}, 0, err
	}
	id := identity{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	if fi.IsDir() {
		return id, directory, nil
	}
	return id, plain, nil
}

func (s *Store) leadsTo(name string, id identity) bool {
	fi, err := s.root.Lstat(name)
	return err == nil && fi.Size() == id.size && fi.ModTime().UnixNano() == id.mtime
}

// Space is unknown here.
func (s *Store) Space() (cache.Space, error) {
	return cache.Space{Free: math.MaxInt64, Total: math.MaxInt64}, nil
}

func lockRange(*os.File, int64, int16) (bool, error) { return false, errors.ErrUnsupported }

const (
	lockWrite   = 1
	lockRelease = 2
)
