package disk

import (
	"io"
	"io/fs"
	"math"
	"path"
	"sync"
	"time"
)

// body is the content of an object, open for reading: what an answer needs of
// an *os.File, without a poller, a finalizer and an offset in the kernel, which
// are half of the system calls of a hit. Who opens one closes it. Methods may be
// called from several goroutines.
type body struct {
	name string
	id   identity // when it was opened

	mu     sync.Mutex // guards what follows
	f      descriptor
	off    int64
	closed bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.readAt(p, b.off)
	b.off += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (b *body) ReadAt(p []byte, off int64) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(p) && err == nil {
		var m int
		m, err = b.readAt(p[n:], off+int64(n))
		n += m
	}
	return n, err
}

// readAt reads something, with b.mu held.
func (b *body) readAt(p []byte, off int64) (int, error) {
	switch {
	case b.closed:
		return 0, b.failed("read", fs.ErrClosed)
	case off < 0:
		return 0, b.failed("read", fs.ErrInvalid)
	case len(p) == 0:
		return 0, nil
	}
	n, err := b.f.readAt(p, off)
	if err == nil && n == 0 {
		return 0, io.EOF
	}
	if err != nil {
		return n, b.failed("read", err)
	}
	return n, nil
}

// Seek implements io.Seeker. The end is where it was when b was opened.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += b.off
	case io.SeekEnd:
		offset += b.id.size
	default:
		return 0, b.failed("seek", fs.ErrInvalid)
	}
	switch {
	case b.closed:
		return 0, b.failed("seek", fs.ErrClosed)
	case offset < 0:
		return 0, b.failed("seek", fs.ErrInvalid)
	}
	b.off = offset
	return offset, nil
}

// Sendfile makes the kernel send at most n bytes, from the offset on, to a
// socket, once, and moves the offset by what was sent. Its errors are the system
// call's: EAGAIN where the socket takes nothing now, 0 without an error at the
// end of the file, and errors.ErrUnsupported on systems without it.
func (b *body) Sendfile(socket uintptr, n int64) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, b.failed("sendfile", fs.ErrClosed)
	}
	sent, err := b.f.sendfile(socket, b.off, int(min(n, math.MaxInt32)))
	b.off += int64(sent)
	return int64(sent), err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return b.failed("close", fs.ErrClosed)
	}
	b.closed = true
	return b.f.close()
}

// Stat tells what the file was when it was opened.
func (b *body) Stat() (fs.FileInfo, error) { return info{b.name, b.id}, nil }

func (b *body) failed(op string, err error) error {
	return &fs.PathError{Op: op, Path: b.name, Err: err}
}

// info is a plain file.
type info struct {
	name string
	id   identity
}

func (i info) Name() string       { return path.Base(i.name) }
func (i info) Size() int64        { return i.id.size }
func (i info) Mode() fs.FileMode  { return 0o600 }
func (i info) ModTime() time.Time { return time.Unix(0, i.id.mtime) }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }
