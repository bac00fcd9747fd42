package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// enoughProgress is how many bytes must come after a resumption before it is
// forgotten that there was one.
const enoughProgress = 1 << 20

// body is a file while it is downloaded. When the connection breaks or
// stalls it asks for the rest with a Range request, if the upstream gave a
// validator that is strong enough to prove that the rest belongs to what was
// read already (RFC 9110, 13.1.5). It is not safe for concurrent use, but
// Close may be called while Read waits.
type body struct {
	remote *remote
	ctx    context.Context // ends the download; derived from the caller's
	cancel context.CancelFunc
	file   file
	size   int64  // -1 if unknown
	strong string // ETag; empty if there is none that is strong
	since  string // Last-Modified, where it may stand for an ETag

	mu  sync.Mutex // guards the pointer cur, for Close
	cur *answer

	head    []byte        // read ahead, not yet handed out
	off     int64         // bytes handed out
	mark    int64         // off at the last resumption
	left    int           // resumptions that are left without progress
	blocked time.Duration // since the last byte, over all answers
	err     error         // why reading is over: io.EOF or an *Error
}

// Origin names the upstream that the bytes come from.
func (b *body) Origin() string { return b.remote.label }

// begin sends the first request and reads the first bytes, so that what is
// not the file at all is known before the caller sees a body.
func (b *body) begin() *Error {
	a, err := b.remote.ask(b.ctx, b.file.path, nil, b.remote.cfg.HeaderTimeout)
	if err != nil {
		return err
	}
	b.size = a.ContentLength
	b.strong, b.since = validators(a.Header)
	a.patience = b.patience()
	if b.head, err = a.start(b.file); err != nil {
		a.close()
		return err
	}
	b.use(a)
	return nil
}

// Read reads the file. It fails rather than end with io.EOF before all
// announced bytes have come. Its errors are of type *Error and never
// fs.ErrNotExist.
func (b *body) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		b.off += int64(n)
		return n, nil
	}
	for b.err == nil && len(p) > 0 {
		begin := time.Now()
		n, err := b.cur.Read(p)
		b.off += int64(n)
		if n > 0 {
			b.blocked, b.cur.patience = 0, b.patience()
		} else {
			b.blocked += time.Since(begin)
		}
		switch {
		case b.off > b.file.max:
			b.err = tooLarge(b.remote.label, b.file)
		case err == io.EOF && (b.size < 0 || b.off == b.size):
			b.err = io.EOF
		case err == io.EOF:
			b.resume(io.ErrUnexpectedEOF)
		case err != nil:
			b.resume(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// Close ends the download. It may be called more than once.
func (b *body) Close() error {
	b.cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cur.close()
	return nil
}

// use makes a the answer that is read from.
func (b *body) use(a *answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cur != nil {
		b.cur.close()
	}
	b.cur = a
}

func (b *body) resumable() bool { return b.strong != "" || b.since != "" }

// patience is how long a read may bring nothing. If the file can be resumed,
// half of the time is left for that.
func (b *body) patience() time.Duration {
	if b.resumable() && b.left > 0 {
		return b.remote.cfg.NoProgress / 2
	}
	return b.remote.cfg.NoProgress
}

// resume gets the rest of the file after cause, or sets b.err.
func (b *body) resume(cause error) {
	if b.off-b.mark >= enoughProgress {
		b.left = b.remote.cfg.Retries
	}
	b.mark = b.off
	for n := 0; ; n++ {
		rest := b.remote.cfg.NoProgress - b.blocked
		slow := errors.As(cause, new(tooSlow)) && cause != error(errStalled)
		if b.ctx.Err() != nil {
			cause, rest = context.Cause(b.ctx), 0
		}
		if !b.resumable() || b.left <= 0 || rest <= 0 || slow {
			b.err = b.broken(cause)
			return
		}
		b.left--
		begin := time.Now()
		if !pause(b.ctx, n, 0) {
			continue
		}
		b.remote.cfg.Logger.Info("resuming download", "upstream", b.remote.label, "file", b.file.path,
			"offset", b.off, "cause", cause)
		a, err := b.rest(rest)
		b.blocked += time.Since(begin)
		if err == nil {
			b.use(a)
			return
		}
		cause = err
		if final(err) && !err.Timeout() {
			b.left = 0
		}
	}
}

// broken is the error for a body that ends early.
func (b *body) broken(cause error) *Error {
	e := failed(b.remote.label, b.file.path, fmt.Errorf("after %d of %d bytes: %w", b.off, b.size, cause))
	if inner := (*Error)(nil); errors.As(cause, &inner) {
		e.text = inner.text
	}
	return e
}

// rest asks for what is missing and waits at most so long for the header.
func (b *body) rest(wait time.Duration) (*answer, *Error) {
	validator := b.strong
	if validator == "" {
		validator = b.since
	}
	a, err := b.remote.ask(b.ctx, b.file.path, http.Header{
		"Range":    {fmt.Sprintf("bytes=%d-", b.off)},
		"If-Range": {validator},
	}, min(wait, b.remote.cfg.HeaderTimeout))
	if err != nil {
		return nil, err
	}
	a.patience = min(wait, a.window)
	if err := b.join(a); err != nil {
		a.close()
		return nil, invalid(b.remote.label, b.file.path, err)
	}
	return a, nil
}

// join makes sure that a continues what was read so far.
func (b *body) join(a *answer) error {
	strong, since := validators(a.Header)
	if b.strong != "" && strong != "" && strong != b.strong {
		return errors.New("the file has changed during the download")
	}
	if a.StatusCode == http.StatusPartialContent {
		from, total := contentRange(a.Header.Get("Content-Range"))
		if from != b.off || total >= 0 && b.size >= 0 && total != b.size {
			return fmt.Errorf("asked for bytes from %d, it sent %.100q", b.off, a.Header.Get("Content-Range"))
		}
		return nil
	}
	// The whole file once more: fine if it is the same one.
	if a.ContentLength != b.size || b.strong == "" || strong != b.strong || since != b.since && b.since != "" {
		return errors.New("it does not continue a download")
	}
	_, err := io.CopyN(io.Discard, a, b.off)
	return err
}

// validators returns what If-Range may hold. A date is strong only if the
// file was old when the answer was made (RFC 9110, 8.8.2.2).
func validators(h http.Header) (strong, since string) {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		strong = tag
	}
	modified, err1 := http.ParseTime(h.Get("Last-Modified"))
	date, err2 := http.ParseTime(h.Get("Date"))
	if err1 == nil && err2 == nil && date.Sub(modified) >= time.Minute {
		since = h.Get("Last-Modified")
	}
	return strong, since
}

// contentRange parses "bytes 5-9/10"; what is missing or wrong is -1.
func contentRange(v string) (from, total int64) {
	v, ok := strings.CutPrefix(v, "bytes ")
	span, size, ok2 := strings.Cut(v, "/")
	first, _, ok3 := strings.Cut(span, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil {
		return -1, -1
	}
	if total, err = strconv.ParseInt(size, 10, 64); err != nil {
		total = -1
	}
	return from, total
}
