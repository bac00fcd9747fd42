package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/modgate/modgate/internal/conn"
)

// joined is how many bytes a body must have for its header to wait for it. The
// first 512 are sent with the header by net/http, and must not be all.
const joined = 16 << 10

// errStalled is what the log reads of an answer that the client did not take.
var errStalled = errors.New("cut off: the client has stopped taking the answer")

// sending is an http.ResponseWriter that knows how far a body has come, which
// http.ServeContent does not tell. The body itself stays as it is, so that it
// can leave by sendfile.
type sending struct {
	http.ResponseWriter
	ctx context.Context // of the request
	n   int64
	err error
}

// Write counts the bytes.
func (s *sending) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	s.n, s.err = s.n+int64(n), err
	return n, err
}

// ReadFrom keeps the way to sendfile open. http.ServeContent calls it once, for
// all it sends, before the header has left.
func (s *sending) ReadFrom(src io.Reader) (int64, error) {
	if lr, ok := src.(*io.LimitedReader); ok && lr.N > joined && s.n == 0 {
		conn.BodyFollows(s.ctx)
	}
	n, err := io.Copy(s.ResponseWriter, src)
	s.n, s.err = s.n+n, err
	return n, err
}

// unread returns why the body of an answer to r could not be read; nil if it
// could, or if it was the client that did not take it. size is that of the whole
// body in bytes.
func (s *sending) unread(r *http.Request, size int64) error {
	switch {
	case r.Context().Err() != nil || notTaken(s.err):
		return nil
	case s.err != nil:
		return s.err
	case follows(r) && s.n < size:
		return fmt.Errorf("%d bytes of %d: %w", s.n, size, io.ErrUnexpectedEOF)
	}
	return nil
}

// notTaken reports whether err is that of a connection. Only that tells a client
// who leaves from a file that cannot be read: sendfile has one error for both,
// and the request's context ends a moment later or, after a deadline, not at
// all. Nobody may make the server read its files again by hanging up.
func notTaken(err error) bool {
	for _, e := range [...]error{syscall.EPIPE, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.ETIMEDOUT, os.ErrDeadlineExceeded, net.ErrClosed, io.ErrClosedPipe, http.ErrBodyNotAllowed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
