package tlsmgr

import (
	"context"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// scratch is a certmagic.Storage in memory, for what must leave no trace: one
// process, no locks.
type scratch struct {
	mu     sync.Mutex // guards values
	values map[string][]byte
}

func newScratch() *scratch { return &scratch{values: map[string][]byte{}} }

// Lock does nothing: nobody else is there.
func (s *scratch) Lock(context.Context, string) error { return nil }

// Unlock does nothing.
func (s *scratch) Unlock(context.Context, string) error { return nil }

// Store keeps value.
func (s *scratch) Store(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
	return nil
}

// Load returns what is kept; fs.ErrNotExist if nothing is.
func (s *scratch) Load(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return value, nil
}

// Delete forgets key and all below it.
func (s *scratch) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.values {
		if k == key || strings.HasPrefix(k, key+"/") {
			delete(s.values, k)
		}
	}
	return nil
}

// Exists reports whether there is a value at key, or below it.
func (s *scratch) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List returns the keys below path: all of them, or the next level alone.
func (s *scratch) List(_ context.Context, path string, recursive bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	var keys []string
	for k := range s.values {
		rest, ok := strings.CutPrefix(k, path+"/")
		if !ok {
			continue
		}
		if !recursive {
			rest, _, _ = strings.Cut(rest, "/")
		}
		if key := path + "/" + rest; !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fs.ErrNotExist
	}
	return keys, nil
}

// Stat describes the value at key, or the directory.
func (s *scratch) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok := s.values[key]; ok {
		return certmagic.KeyInfo{Key: key, Modified: time.Now(), Size: int64(len(value)), IsTerminal: true}, nil
	}
	for k := range s.values {
		if strings.HasPrefix(k, key+"/") {
			return certmagic.KeyInfo{Key: key}, nil
		}
	}
	return certmagic.KeyInfo{}, fs.ErrNotExist
}
