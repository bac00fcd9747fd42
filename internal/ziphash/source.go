package ziphash

import (
	"fmt"
	"io"
)

// sourceSize is the length of the read buffer, in bytes. It is more than any
// caller of need asks for.
const sourceSize = 64 << 10

// source reads an archive through a buffer and knows where it stands.
type source struct {
	r    io.Reader
	buf  []byte // at most sourceSize, and slack behind them
	pos  int    // next byte in buf
	end  int    // end of what is filled
	base int64  // where in the archive buf[0] stands
	most int64  // bytes that an archive may have
	err  error  // why nothing more comes: io.EOF, an error of r, or ErrLimit
}

// reset starts reading r, whose first byte has the given offset in the archive.
func (s *source) reset(r io.Reader, offset int64) {
	*s = source{r: r, buf: s.buf, base: offset, most: s.most}
}

// offset is where in the archive the next byte stands.
func (s *source) offset() int64 { return s.base + int64(s.pos) }

// bytes are those that have been read and not consumed.
func (s *source) bytes() []byte { return s.buf[s.pos:s.end] }

// need reads until at least n ≤ sourceSize bytes are there, and reports whether
// they are.
func (s *source) need(n int) bool {
	for s.end-s.pos < n {
		if s.err != nil {
			return false
		}
		s.fill()
	}
	return true
}

// fill reads once, after making room. It must not be called on a full buffer.
func (s *source) fill() {
	if s.pos > 0 {
		s.base += int64(s.pos)
		s.end = copy(s.buf, s.buf[s.pos:s.end])
		s.pos = 0
	}
	for range 100 {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		s.err = err
		if s.base+int64(s.end) > s.most {
			s.err = fmt.Errorf("%w: more than %d bytes packed", ErrLimit, s.most)
		}
		if n > 0 || s.err != nil {
			return
		}
	}
	s.err = io.ErrNoProgress
}

// truncated is the error for bytes that should be there and are not.
func (s *source) truncated(what string) error {
	if s.err != io.EOF {
		return s.err
	}
	return fmt.Errorf("%w: %w in %s at %d", ErrFormat, io.ErrUnexpectedEOF, what, s.base+int64(s.end))
}

// copyTo appends the next n bytes to b.
func (s *source) copyTo(b []byte, n int, what string) ([]byte, error) {
	for n > 0 {
		if !s.need(1) {
			return b, s.truncated(what)
		}
		k := min(n, s.end-s.pos)
		b = append(b, s.buf[s.pos:s.pos+k]...)
		s.pos += k
		n -= k
	}
	return b, nil
}

// skip consumes the next n bytes.
func (s *source) skip(n int, what string) error {
	for n > 0 {
		if !s.need(1) {
			return s.truncated(what)
		}
		k := min(n, s.end-s.pos)
		s.pos += k
		n -= k
	}
	return nil
}

// drain consumes all that is left. Only an error that is not the end is one.
func (s *source) drain() error {
	for s.err == nil {
		s.pos = s.end
		s.fill()
	}
	s.pos = s.end
	if s.err != io.EOF {
		return s.err
	}
	return nil
}
