package proxy

import (
	"context"
	"errors"
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

	mu       sync.Mutex
	mem      []byte   // while file is nil
	file     *os.File // published by name if taken is set
	old      []*os.File
	taken    bool
	foreign  bool // file is not the store's
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

// writeFile writes p behind what is there, creating the file or replacing one
// whose disk is full. The lock is held: readers of a file do not need it.
func (s *spool) writeFile(p []byte) error {
	if s.file != nil {
		if _, err := s.file.WriteAt(p, s.n); err == nil || s.foreign {
			return err
		}
	}
	f, err := s.create()
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.NewOffsetWriter(f, 0), s.contents()); err != nil {
		f.Close()
		return err
	}
	if s.file != nil {
		s.old = append(s.old, s.file)
	}
	s.file, s.mem = f, nil
	_, err = f.WriteAt(p, s.n)
	if err != nil && !s.foreign {
		return s.writeFile(p)
	}
	return err
}

// create returns a file of the store the first time, and then, or if that
// fails, one of the system that has no name any more.
func (s *spool) create() (*os.File, error) {
	var cause error
	if s.file == nil && s.newFile != nil {
		f, err := s.newFile()
		if err == nil {
			return f, nil
		}
		cause = err
	}
	f, err := os.CreateTemp("", "modgate-spool-*")
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	s.foreign = true
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
