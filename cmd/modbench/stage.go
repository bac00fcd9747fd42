package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// A stage is where a row makes troubles happen with what cache/sharedtest runs
// for tests: it is a sharedtest.TB. Fatalf and Skipf end the goroutine that calls
// them, as those of testing.T do, and with it the row.
type stage struct {
	ctx context.Context
	dir string

	mu       sync.Mutex
	errs     []error  // guarded by mu
	cleanups []func() // the same
	seq      int      // the same
}

// perform runs play in dir, which is made, and undoes what it has started.
func perform(ctx context.Context, dir string, play func(*stage) error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s := &stage{ctx: ctx, dir: dir}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.fail(play(s))
	}()
	<-ended
	s.mu.Lock()
	cleanups := s.cleanups
	s.mu.Unlock()
	for _, f := range slices.Backward(cleanups) {
		f()
	}
	s.fail(os.RemoveAll(dir))
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

func (s *stage) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// Helper implements sharedtest.TB.
func (s *stage) Helper() {}

// Fatalf implements sharedtest.TB.
func (s *stage) Fatalf(format string, args ...any) {
	s.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

// Skipf implements sharedtest.TB: a row that cannot be measured does not finish.
func (s *stage) Skipf(format string, args ...any) { s.Fatalf(format, args...) }

// Cleanup implements sharedtest.TB.
func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// TempDir implements sharedtest.TB.
func (s *stage) TempDir() string {
	s.mu.Lock()
	s.seq++
	dir := filepath.Join(s.dir, fmt.Sprintf("%03d", s.seq))
	s.mu.Unlock()
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.Fatalf("%v", err)
	}
	return dir
}

// Context implements sharedtest.TB.
func (s *stage) Context() context.Context { return s.ctx }
