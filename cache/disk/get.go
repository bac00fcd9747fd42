package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/modgate/modgate/cache"
)

// Get implements cache.Store. Body has ReadAt, Stat and Sendfile. Bytes of the wrong size, and
// anything at the name that is not a plain file of its own (a link, a pipe),
// are ErrCorrupt; a directory is absence, because parts of names are.
func (s *Store) Get(ctx context.Context, name string) (*cache.Object, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	f, m, err := s.load(name)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	s.refresh(name, m)
	return &cache.Object{Name: name, Attrs: m.attrs(), Body: f}, nil
}

// attempts bounds how often a name is read again because it changed meanwhile.
const attempts = 10

// sweptAttempts bounds how often a directory is made again because another
// process sweeps empty ones away. It gives up only where that happens so often
// that something is wrong.
const sweptAttempts = 200

// load opens name and finds the attributes of exactly the bytes it opened.
func (s *Store) load(name string) (*body, *meta, error) {
	for range attempts {
		f, err := s.openFile(name)
		if err != nil {
			return nil, nil, err
		}
		m, gen := s.meta.get(name, f.id)
		if m != nil {
			return f, m, nil
		}
		m, err = s.describe(name, f)
		// As long as f is open its inode is not given to another file. If the
		// name still leads to it, it did so while the attributes were read.
		if s.leadsTo(name, f.id) {
			if err == nil {
				s.meta.put(name, m, gen)
				return f, m, nil
			}
			_ = f.Close()
			return nil, nil, err
		}
		_ = f.Close()
	}
	return nil, nil, errBusy
}

func (s *Store) describe(name string, f *body) (*meta, error) {
	id := f.id
	recs, used, err := s.readAttr(name)
	if errors.Is(err, fs.ErrNotExist) && adoptable(name) {
		m := &meta{id: id, adopted: true}
		m.used.Store(id.mtime / int64(time.Second))
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	rec, err := choose(recs, f, id.size)
	if err != nil {
		return nil, err
	}
	m := &meta{id: id, rec: rec}
	m.used.Store(used.Unix())
	return m, nil
}

// readAttr returns the records of name and when it was last used.
func (s *Store) readAttr(name string) ([]record, time.Time, error) {
	f, err := s.openFile(attrName(name))
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	if f.id.size > maxAttr {
		return nil, time.Time{}, fmt.Errorf("%w: attributes of %d bytes", cache.ErrCorrupt, f.id.size)
	}
	b := make([]byte, f.id.size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, time.Time{}, err
	}
	recs, err := decodeRecords(b)
	return recs, time.Unix(0, f.id.mtime), err
}

// openFile opens the plain file at path for reading.
func (s *Store) openFile(name string) (*body, error) {
	for range attempts {
		f, err := s.top.openFile(s.root, name)
		if err != nil {
			return nil, s.explain(name, err)
		}
		id, kind, err := f.stat()
		if err == nil && kind == plain {
			return &body{name: name, id: id, f: f}, nil
		}
		_ = f.close()
		switch {
		case err != nil:
			return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
		case kind == directory:
			return nil, fs.ErrNotExist
		case kind == foreign:
			return nil, fmt.Errorf("%w: not a plain file of its own", cache.ErrCorrupt)
		}
		// The file lost its name between open and stat: look again.
	}
	return nil, errBusy
}

// explain turns the reason why a file could not be opened into the contract's.
func (s *Store) explain(name string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return fs.ErrNotExist
	case errors.Is(err, syscall.ENAMETOOLONG):
		return cache.ErrName
	case errors.Is(err, syscall.ELOOP):
		if derr := s.checkDir(path.Dir(name)); derr != nil {
			return derr
		}
		return fmt.Errorf("%w: a symbolic link", cache.ErrCorrupt)
	case errors.Is(err, syscall.ENXIO):
		return fmt.Errorf("%w: a socket or device", cache.ErrCorrupt)
	}
	return err
}

// checkDir reports whether dir is a directory reached without a symbolic link.
func (s *Store) checkDir(dir string) error {
	f, err := s.openDir(dir)
	if err != nil {
		return err
	}
	return f.Close()
}

// openDir opens a directory that is reached without a symbolic link. Only such
// ones are written to. A link in the middle of a path is a fault and not
// corruption of the object behind it, which belongs to another name.
func (s *Store) openDir(dir string) (*os.File, error) {
	f, err := s.top.openDir(s.root, dir)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: a symbolic link is in the way", dir)
	}
	return f, err
}

// refresh keeps the access time on disk, exact to the hour. Clocks that were
// set back count as hours too. It is the time of the attribute file, so that
// the bytes keep theirs, or of an adopted file. A tree that cannot be written
// is still served.
func (s *Store) refresh(name string, m *meta) {
	now := time.Now()
	used := m.used.Load()
	if age := now.Unix() - used; age > -3600 && age < 3600 {
		return
	}
	if !m.used.CompareAndSwap(used, now.Unix()) {
		return
	}
	target := attrName(name)
	if m.adopted {
		target = name
	}
	if err := s.root.Chtimes(target, time.Time{}, now); err != nil {
		s.log.Debug("cannot note the access time", "name", name, "err", err)
	}
}

// Touch implements cache.Toucher.
func (s *Store) Touch(ctx context.Context, name string, checked time.Time) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	unlock, err := s.lock.name(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	defer s.meta.forget(name)
	f, m, err := s.load(name)
	if err != nil {
		return fmt.Errorf("touch %s: %w", name, err)
	}
	defer f.Close()
	rec, err := m.record(f)
	if err != nil {
		return fmt.Errorf("touch %s: %w", name, err)
	}
	rec.Checked = checked.UTC().Round(0)
	if err := s.writeAttr(name, []record{rec}, rec.durability()); err != nil {
		return fmt.Errorf("touch %s: %w", name, full(err))
	}
	return nil
}

// record returns the record of the file f that m speaks of. An adopted file
// gets one.
func (m *meta) record(f io.ReaderAt) (record, error) {
	if !m.adopted {
		return m.rec, nil
	}
	sum, err := digest(f, m.id.size)
	return record{
		Attrs:   cache.Attrs{Size: m.id.size, SHA256: sum},
		Class:   className(cache.Mutable),
		Adopted: true,
	}, err
}

// Peek is Get for who looks whether an object is right: it does not count as
// use.
func (s *Store) Peek(ctx context.Context, name string) (*cache.Object, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	f, m, err := s.load(name)
	if err != nil {
		return nil, fmt.Errorf("peek %s: %w", name, err)
	}
	return &cache.Object{Name: name, Attrs: m.attrs(), Body: f}, nil
}
