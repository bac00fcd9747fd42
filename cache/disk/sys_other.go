//go:build !linux

package disk

import (
	"errors"
	"math"
	"os"

	"github.com/modgate/modgate/cache"
)

// Enough for a developer's machine; see the BUG note of the package.

const checksModes = false

type handle struct{}

func (h *handle) open(*os.Root) error { return nil }
func (h *handle) close() error        { return nil }

func (h *handle) openFile(root *os.Root, name string) (*os.File, error) {
	fi, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() && !fi.IsDir() {
		return nil, cache.ErrCorrupt
	}
	return root.Open(name)
}

func (h *handle) openDir(root *os.Root, name string) (*os.File, error) {
	return root.Open(name)
}

const (
	plain = iota
	directory
	nameless
	foreign
)

func stat(f *os.File) (identity, int, error) {
	fi, err := f.Stat()
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
