package upstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"
)

// relay is the body of a file that goes on at the next upstream when the one
// that sends it fails in the middle, where the list leads there after any error.
// Two upstreams may have a zip of the same h1 hash in different bytes, so what was
// handed out already is read once more from the next one and compared: that costs
// a second download of the beginning, and never mixes two files. It is not safe
// for concurrent use, but Close may be called while Read waits.
type relay struct {
	chain  *Chain
	ctx    context.Context // of all bodies but the first
	cancel context.CancelFunc
	file   file
	size   int64
	rest   []entry // not asked for the file yet

	digest hash.Hash // of the bytes handed out
	off    int64     // how many they are

	mu  sync.Mutex // guards the value cur, for Close
	cur io.ReadCloser
}

// relay lets o go on at the entries behind the one that sends it, entries[0].
// Where the rules of the list or a missing length forbid that, it returns the
// body as it is.
func (c *Chain) relay(ctx context.Context, f file, o opened, entries []entry) io.ReadCloser {
	if !entries[0].onAnyError || len(entries) == 1 || o.size < 0 {
		return o.body
	}
	r := &relay{chain: c, file: f, size: o.size, rest: entries[1:], digest: sha256.New(), cur: o.body}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r
}

// Origin names the upstream that the bytes come from now.
func (r *relay) Origin() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if named, ok := r.cur.(interface{ Origin() string }); ok {
		return named.Origin()
	}
	return ""
}

// Read reads the file. Its errors are those of the first upstream that failed
// in the middle.
func (r *relay) Read(p []byte) (int, error) {
	for {
		n, err := r.cur.Read(p)
		r.digest.Write(p[:n])
		r.off += int64(n)
		if n > 0 || err == nil || err == io.EOF {
			return n, err
		}
		if !r.next(err) {
			return 0, err
		}
	}
}

// next makes the first of the upstreams that are left and that has the same file
// the one to read from. It reports whether there is one.
func (r *relay) next(cause error) bool {
	for r.ctx.Err() == nil && len(r.rest) > 0 {
		e := r.rest[0]
		r.rest = r.rest[1:]
		err := r.takeOver(e)
		log := r.chain.cfg.Logger.With("upstream", e.name(), "file", r.file.path, "offset", r.off, "cause", cause)
		if err == nil {
			log.Info("going on at the next upstream")
			if !e.onAnyError {
				r.rest = nil
			}
			return true
		}
		log.Info("the next upstream cannot go on", "error", err)
		if rank(err) != absentNow && !e.onAnyError {
			break
		}
	}
	r.rest = nil
	return false
}

// takeOver reads the file from e, from where we are.
func (r *relay) takeOver(e entry) error {
	body, size, err := e.open(r.ctx, r.file)
	if err != nil {
		return err
	}
	if err := r.compare(body, size); err != nil {
		return errors.Join(err, body.Close())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ctx.Err(); err != nil { // closed meanwhile
		return errors.Join(err, body.Close())
	}
	old := r.cur
	r.cur = body
	_ = old.Close() // it has failed anyway
	return nil
}

// compare reads the beginning of body, which must be what was handed out.
func (r *relay) compare(body io.Reader, size int64) error {
	if size != r.size {
		return errors.New("its file has another size")
	}
	again := sha256.New()
	if _, err := io.CopyN(again, body, r.off); err != nil {
		return err
	}
	if !bytes.Equal(again.Sum(nil), r.digest.Sum(nil)) {
		return errors.New("its file has other bytes")
	}
	return nil
}

// Close ends the download. It may be called more than once.
func (r *relay) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cur.Close()
}
