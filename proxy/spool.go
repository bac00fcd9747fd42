package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

const (
	// inMemory is the size up to which a fetched file never touches the spool
	// directory, and is proven before its first byte is sent, in bytes.
	inMemory = 1 << 20
	// heldBack is how much of the end of a larger file stays here until the
	// file is proven, in bytes. The central directory of a zip is in it or
	// behind it, so what a client has before is not a zip.
	heldBack = 256 << 10
	// spoolStride is how far ahead room is taken for a file of unknown size.
	spoolStride = 4 << 20
)

// spool is a file that is being fetched. One goroutine writes it; any number
// read it meanwhile: the one that hashes reads what there is, those that serve
// clients read all but the tail until the file is proven.
//
// It is in memory until it grows out of inMemory, and then in a file of the
// store, or where that has no room, of the system's temporary directory.
type spool struct {
	newFile func() (*os.File, error)
	drop    func(*os.File) error
	grow    func(f *os.File, size int64) error // takes room; nil: there is always some

	mu       sync.Mutex
	mem      []byte   // while file is nil
	file     *os.File // published by name if taken is set
	old      []*os.File
	taken    bool
	foreign  bool  // file is not the store's
	room     int64 // size to which file, or the one that is to be it, may grow
	n        int64
	total    int64 // -1 if unknown
	complete bool  // no byte will follow
	settled  bool  // err is final; nil means proven
	err      error
	wake     chan struct{} // closed at the next change; nil if nobody waits
}

// newSpool returns an empty spool. The functions create and remove files of
// the store; they may be nil. total is the expected size, -1 if unknown.
func newSpool(newFile func() (*os.File, error), drop func(*os.File) error, total int64) *spool {
	s := &spool{newFile: newFile, drop: drop, total: total}
	if total > 0 && total <= inMemory {
		s.mem = make([]byte, 0, total)
	}
	return s
}

// Write appends p. Only the one writer calls it.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil && s.n+int64(len(p)) <= inMemory {
		s.mem = append(s.mem, p...)
	} else if err := s.writeFile(p); err != nil {
		return 0, err
	}
	s.n += int64(len(p))
	s.changed()
	return len(p), nil
}

// writeFile writes p behind what is there. A file of the store that does not
// take it (its disk is full) is replaced by one of the system. The lock is
// held: readers of a file do not need it.
func (s *spool) writeFile(p []byte) error {
	var cause error
	switch {
	case s.file != nil:
		if cause = s.claim(s.file, p); cause == nil {
			if _, cause = s.file.WriteAt(p, s.n); cause == nil {
				return nil
			}
		}
	case s.newFile != nil:
		var f *os.File
		if f, cause = s.newFile(); cause == nil {
			if cause = s.claim(f, p); cause == nil {
				if cause = s.moveTo(f, p); cause == nil {
					return nil
				}
			}
			s.old = append(s.old, f)
		}
	}
	if !s.foreign {
		f, err := unnamedFile()
		if err == nil {
			if err = s.moveTo(f, p); err == nil {
				s.foreign = true
				return nil
			}
			f.Close()
		}
		cause = errors.Join(cause, err)
	}
	// A directory that is missing here must not read as an absent module.
	return fmt.Errorf("no room for a file on its way: %v", cause)
}

// claim takes room in f for p, and for all that will come, or, where nobody
// knows how much that is, a stride ahead.
func (s *spool) claim(f *os.File, p []byte) error {
	need := s.n + int64(len(p))
	if s.grow == nil || s.foreign || need <= s.room {
		return nil
	}
	size := max(need, s.total)
	if size > s.total {
		size += spoolStride
	}
	if err := s.grow(f, size); err != nil {
		return err
	}
	s.room = size
	return nil
}

// moveTo goes on in f, with what is there and p behind it.
func (s *spool) moveTo(f *os.File, p []byte) error {
	if _, err := io.Copy(io.NewOffsetWriter(f, 0), s.contents()); err != nil {
		return err
	}
	if _, err := f.WriteAt(p, s.n); err != nil {
		return err
	}
	if s.file != nil {
		s.old = append(s.old, s.file)
	}
	s.file, s.mem = f, nil
	return nil
}

// unnamedFile returns a file of the system that goes when it is closed.
func unnamedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "modgate-spool-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func (s *spool) contents() io.Reader {
	if s.file == nil {
		return &sliceReader{s.mem}
	}
	return io.NewSectionReader(s.file, 0, s.n)
}

type sliceReader struct{ b []byte }

func (r *sliceReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// changed wakes those who wait. The lock is held.
func (s *spool) changed() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// end says that all bytes are written.
func (s *spool) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete = true
	s.changed()
}

// refused reports whether the verdict was given and is against the file.
func (s *spool) refused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settled && s.err != nil
}

// settle gives the verdict: nil releases the tail, an error stops all readers.
func (s *spool) settle(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled, s.err = true, err
	s.changed()
}

// take notes that the file has a name in the store now.
func (s *spool) take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = true
}

// size returns the number of bytes written.
func (s *spool) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// release closes what is open. Nobody reads the spool any more.
func (s *spool) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range append(s.old, s.file) {
		if f == nil {
			continue
		}
		if s.drop != nil && !s.taken && (f != s.file || !s.foreign) {
			s.drop(f)
		}
		f.Close()
	}
	s.old, s.file, s.mem = nil, nil, nil
}

// ReadAt reads what has been written, proven or not.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	file, n := s.file, s.n
	if file == nil {
		defer s.mu.Unlock()
		if off >= n {
			return 0, io.EOF
		}
		c := copy(p, s.mem[off:])
		if c < len(p) {
			return c, io.EOF
		}
		return c, nil
	}
	s.mu.Unlock()
	if off >= n {
		return 0, io.EOF
	}
	if rest := n - off; int64(len(p)) > rest {
		c, err := file.ReadAt(p[:rest], off)
		if err == nil {
			err = io.EOF
		}
		return c, err
	}
	return file.ReadAt(p, off)
}

// spoolReader reads a spool from its start and waits for what is to come.
type spoolReader struct {
	ctx   context.Context
	s     *spool
	off   int64
	trust bool // reads ahead of the proof
}

// Read returns io.EOF at the end of a complete spool; for one that is not
// trusted, only if the file is proven.
func (r *spoolReader) Read(p []byte) (int, error) {
	for {
		limit, wait, err := r.s.readable(r.off, r.trust)
		if err != nil {
			return 0, err
		}
		if wait == nil {
			n, err := r.s.ReadAt(p[:min(int64(len(p)), limit-r.off)], r.off)
			r.off += int64(n)
			if n > 0 {
				err = nil
			}
			return n, err
		}
		select {
		case <-wait:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
}

// readable returns up to where a reader at off may read, or what to wait for.
func (s *spool) readable(off int64, trust bool) (limit int64, wait chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit = s.n
	switch {
	case s.settled && s.err != nil:
		return 0, nil, s.err
	case s.settled || trust:
	case s.total < 0:
		limit = 0
	default:
		limit = min(limit, s.total-heldBack)
	}
	if off < limit {
		return limit, nil, nil
	}
	if s.complete && (s.settled || trust) {
		return 0, nil, io.EOF
	}
	if s.wake == nil {
		s.wake = make(chan struct{})
	}
	return 0, s.wake, nil
}
