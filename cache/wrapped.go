package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"
)

// wrapped passes a Store and its abilities on. A decorator embeds it and says
// only what it does differently.
//
// An ability that the store inside has not is errors.ErrUnsupported, because a
// type cannot have a method only sometimes: a caller who finds a Spooler tries
// NewSpool, and copies through Put when that is unsupported.
type wrapped struct{ inner Store }

// Get implements Store.
func (w wrapped) Get(ctx context.Context, name string) (*Object, error) {
	return w.inner.Get(ctx, name)
}

// Put implements Store.
func (w wrapped) Put(ctx context.Context, name string, body io.Reader, opts PutOptions) error {
	return w.inner.Put(ctx, name, body, opts)
}

// Delete implements Store.
func (w wrapped) Delete(ctx context.Context, name string) error {
	return w.inner.Delete(ctx, name)
}

// List implements Store.
func (w wrapped) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return w.inner.List(ctx, prefix)
}

// NewSpool implements Spooler.
func (w wrapped) NewSpool() (*os.File, error) {
	if sp, ok := w.inner.(Spooler); ok {
		return sp.NewSpool()
	}
	return nil, fmt.Errorf("spool: %w", errors.ErrUnsupported)
}

// PutSpool implements Spooler.
func (w wrapped) PutSpool(ctx context.Context, name string, f *os.File, opts PutOptions) error {
	if sp, ok := w.inner.(Spooler); ok {
		return sp.PutSpool(ctx, name, f, opts)
	}
	return fmt.Errorf("spool: %w", errors.ErrUnsupported)
}

// GrowSpool implements Spooler.
func (w wrapped) GrowSpool(f *os.File, size int64) error {
	if sp, ok := w.inner.(Spooler); ok {
		return sp.GrowSpool(f, size)
	}
	return fmt.Errorf("spool: %w", errors.ErrUnsupported)
}

// DropSpool implements Spooler.
func (w wrapped) DropSpool(f *os.File) error {
	if sp, ok := w.inner.(Spooler); ok {
		return sp.DropSpool(f)
	}
	return fmt.Errorf("spool: %w", errors.ErrUnsupported)
}

// Quarantine implements Quarantiner. A store that cannot put an object aside
// deletes it.
func (w wrapped) Quarantine(ctx context.Context, name, reason string) error {
	if q, ok := w.inner.(Quarantiner); ok {
		return q.Quarantine(ctx, name, reason)
	}
	return w.Delete(ctx, name)
}

// Touch implements Toucher.
func (w wrapped) Touch(ctx context.Context, name string, checked time.Time) error {
	if t, ok := w.inner.(Toucher); ok {
		return t.Touch(ctx, name, checked)
	}
	return fmt.Errorf("touch: %w", errors.ErrUnsupported)
}

// Distrust makes the store inside compare the digest of name at the next Get, if
// it is one that does.
func (w wrapped) Distrust(name string) {
	if d, ok := w.inner.(interface{ Distrust(name string) }); ok {
		d.Distrust(name)
	}
}

// healing is the error of a Get that found corrupt bytes and put them aside:
// at once the reason, and the absence that lets the caller fetch them again.
func healing(name string, reason error) error {
	return fmt.Errorf("get %s: %w: %w", name, reason, fs.ErrNotExist)
}

// matches reports, as ErrCorrupt, that body does not have the size and digest
// of a, or cannot be read: a bad sector does not heal, and fetching does. The
// only other errors are those of ctx.
func matches(ctx context.Context, a Attrs, body io.Reader, buf []byte) error {
	h := sha256.New()
	var size int64
	for {
		n, err := body.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("%w: read: %w", ErrCorrupt, err)
		}
	}
	if size != a.Size {
		return fmt.Errorf("%w: %d bytes where %d should be", ErrCorrupt, size, a.Size)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != a.SHA256 {
		return fmt.Errorf("%w: SHA-256 %s where %s should be", ErrCorrupt, sum, a.SHA256)
	}
	return nil
}

// contents returns a reader of all of o, from the start.
func contents(o *Object) (io.Reader, error) {
	if o.Body == nil {
		return bytes.NewReader(o.Bytes), nil
	}
	_, err := o.Body.Seek(0, io.SeekStart)
	return o.Body, err
}
