package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/durable"
)

// Put implements cache.Store. A full disk or quota is ErrFull.
func (s *Store) Put(ctx context.Context, name string, body io.Reader, opts cache.PutOptions) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	f, tmp, err := s.createSpool()
	if err != nil {
		return fmt.Errorf("put %s: %w", name, full(err))
	}
	defer f.Close()
	rec := record{Attrs: opts.Attrs, Class: className(opts.Class)}
	if err = s.fill(ctx, f, body, &rec); err == nil {
		err = s.commit(ctx, name, spooled{f, tmp}, rec)
	}
	if err != nil {
		_ = s.unspool(tmp)
		return fmt.Errorf("put %s: %w", name, full(err))
	}
	return nil
}

// fill copies body to f and completes rec.
func (s *Store) fill(ctx context.Context, f *os.File, body io.Reader, rec *record) error {
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	h := sha256.New()
	var size int64
	for {
		n, rerr := body.Read(*buf)
		if err := ctx.Err(); err != nil {
			return err
		}
		h.Write((*buf)[:n])
		if _, err := f.Write((*buf)[:n]); err != nil {
			return err
		}
		size += int64(n)
		if rerr == io.EOF {
			return rec.complete(size, hex.EncodeToString(h.Sum(nil)))
		}
		if rerr != nil {
			return rerr
		}
		if rec.Size > 0 && size > rec.Size {
			return rec.complete(size, "")
		}
	}
}

// complete compares what was promised of the bytes with what they are.
func (r *record) complete(size int64, sum string) error {
	if r.Size > 0 && r.Size != size {
		return fmt.Errorf("%w: %d bytes or more came where %d were promised", cache.ErrCorrupt, size, r.Size)
	}
	if r.SHA256 != "" && r.SHA256 != sum {
		return fmt.Errorf("%w: SHA-256 %s where %s was promised", cache.ErrCorrupt, sum, r.SHA256)
	}
	r.Size, r.SHA256 = size, sum
	return nil
}

func (r *record) durability() durable.Options {
	return durable.Options{Sync: r.class() == cache.Precious}
}

// spooled is a finished file in the spool.
type spooled struct {
	f   *os.File
	tmp string
}

// commit publishes a finished file, described by rec, under name. On failure
// the file is left where it is.
func (s *Store) commit(ctx context.Context, name string, sp spooled, rec record) error {
	unlock, err := s.lock.name(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.meta.forget(name)
	old, m, err := s.load(name)
	switch {
	case errors.Is(err, cache.ErrCorrupt):
		if err := s.quarantine(name, err.Error()); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
		if err := s.clear(name); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		defer old.Close()
		return s.replace(name, sp, rec, held{old, m})
	}
	rec.FirstSeen = firstSeen(rec.FirstSeen)
	if err := s.publish(name, sp, []record{rec}); err != nil {
		_ = s.root.Remove(attrName(name))
		return err
	}
	return nil
}

// held is what a name holds while its lock is held.
type held struct {
	f *body
	m *meta
}

// replace is commit for a name that holds something.
func (s *Store) replace(name string, sp spooled, rec record, old held) error {
	prev, err := old.m.record(old.f)
	if err != nil {
		return err
	}
	rec.FirstSeen = firstSeen(prev.FirstSeen, rec.FirstSeen)
	same := prev.Size == rec.Size && prev.SHA256 == rec.SHA256
	fixed := rec.class() == cache.Immutable || !old.m.adopted && prev.class() == cache.Immutable
	switch {
	case fixed && !same:
		return fmt.Errorf("%w: SHA-256 %s is there, %s came", cache.ErrConflict, prev.SHA256, rec.SHA256)
	case !fixed, rec.class() == cache.Precious:
		err := s.publish(name, sp, []record{rec, prev})
		if err != nil {
			// The pair is readable as it is; one line reads faster.
			_ = s.writeAttr(name, []record{prev}, prev.durability())
		}
		return err
	}
	if next := merge(prev, rec); next != prev || old.m.adopted {
		if err := s.writeAttr(name, []record{next}, next.durability()); err != nil {
			return err
		}
	}
	_ = s.unspool(sp.tmp)
	return nil
}

// merge fills what old does not say. The same bytes came with a promise now, so
// they are no longer merely adopted.
func merge(old, rec record) record {
	if old.Adopted {
		old.Adopted, old.Class = false, rec.Class
	}
	if old.H1 == "" {
		old.H1 = rec.H1
	}
	if old.Source == "" {
		old.Source = rec.Source
	}
	if old.FirstSeen.IsZero() {
		old.FirstSeen = rec.FirstSeen
	}
	if old.Checked.IsZero() {
		old.Checked = rec.Checked
	}
	return old
}

// firstSeen returns the first time that is known, or now.
func firstSeen(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t.UTC().Round(0)
		}
	}
	return time.Now().UTC().Round(0)
}
