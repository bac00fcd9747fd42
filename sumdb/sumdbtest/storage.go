package sumdbtest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/modgate/modgate/sumdb"
)

// Storage is a sumdb.Storage in memory, whose operations can be made to fail.
type Storage struct {
	mu    sync.Mutex
	files map[string][]byte
	fault func(op, name string) error
}

// NewStorage returns an empty Storage.
func NewStorage() *Storage { return &Storage{files: make(map[string][]byte)} }

// Fault lets every operation ("get", "put", "swap", "delete") fail for which
// fault returns an error. It is called before the operation, which it may thus
// also delay or precede with another one. nil ends it.
func (s *Storage) Fault(fault func(op, name string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Names returns the sorted names that start with prefix.
func (s *Storage) Names(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	return out
}

// Bytes returns how many bytes are stored.
func (s *Storage) Bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, data := range s.files {
		n += len(data)
	}
	return n
}

// Set puts data under name without further question; nil removes it.
func (s *Storage) Set(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = bytes.Clone(data)
	if data == nil {
		delete(s.files, name)
	}
}

// Get implements sumdb.Storage.
func (s *Storage) Get(_ context.Context, name string) ([]byte, error) {
	if err := s.before("get", name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return bytes.Clone(data), nil
}

// Put implements sumdb.Storage.
func (s *Storage) Put(_ context.Context, name string, data []byte) error {
	if err := s.before("put", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.files[name]; ok && !bytes.Equal(have, data) {
		return fmt.Errorf("%s: %w", name, sumdb.ErrConflict)
	}
	s.files[name] = bytes.Clone(data)
	return nil
}

// Swap implements sumdb.Storage.
func (s *Storage) Swap(_ context.Context, name string, old, new []byte) error {
	if err := s.before("swap", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.files[name]; ok != (old != nil) || !bytes.Equal(have, old) {
		return fmt.Errorf("%s: %w", name, sumdb.ErrConflict)
	}
	s.files[name] = bytes.Clone(new)
	return nil
}

// Delete implements sumdb.Storage.
func (s *Storage) Delete(_ context.Context, name string) error {
	if err := s.before("delete", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
	return nil
}

// before refuses names that a directory could not have, and asks fault.
func (s *Storage) before(op, name string) error {
	if !fs.ValidPath(name) || !strings.HasPrefix(name, "sumdb/") && !strings.HasPrefix(name, "pins/") || strings.Contains(name, "/.") || strings.ContainsAny(name, "\\: ") {
		return fmt.Errorf("%s %q: unacceptable name", op, name)
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(op, name)
}
