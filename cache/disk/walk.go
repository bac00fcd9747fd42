package disk

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/modgate/modgate/cache"
)

// List implements cache.Store. It reads the tree directory by directory, holds
// no lock, and does not mind that objects come and go meanwhile.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	return func(yield func(cache.Entry, error) bool) {
		dir := "."
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			dir = prefix[:i]
			if cache.CheckName(dir) != nil {
				return // no name starts like this
			}
		}
		w := walker{s: s, ctx: ctx, prefix: prefix}
		w.visit = func(d directoryOf) bool { return w.entries(d, yield) }
		w.fail = func(err error) { yield(cache.Entry{}, err) }
		w.walk(dir)
	}
}

// walker goes through the directories that can hold names with prefix.
type walker struct {
	s      *Store
	ctx    context.Context
	prefix string
	// visit is called for each directory before those in it; false ends.
	visit func(directoryOf) bool
	// fail is called once, with the error that ended the walk.
	fail func(error)
}

// directoryOf is one directory: which plain names it has, and which of them
// have attributes.
type directoryOf struct {
	path  string
	files []string
	attrs map[string]bool
}

func (d *directoryOf) join(base string) string { return path.Join(d.path, base) }

// walk reports whether to go on.
func (w *walker) walk(dir string) bool {
	if err := w.ctx.Err(); err != nil {
		w.fail(err)
		return false
	}
	entries, err := w.read(dir)
	if err != nil {
		w.fail(err)
		return false
	}
	d := directoryOf{path: dir, attrs: make(map[string]bool)}
	var below []string
	for _, e := range entries {
		base := e.Name()
		owner, isAttr := attrOwner(base)
		switch p := d.join(base); {
		case isAttr:
			d.attrs[owner] = true
		case cache.CheckName(base) != nil:
		case !e.IsDir():
			d.files = append(d.files, base)
		case strings.HasPrefix(p+"/", w.prefix) || strings.HasPrefix(w.prefix, p+"/"):
			below = append(below, p)
		}
	}
	if !w.visit(d) {
		return false
	}
	for _, p := range below {
		if !w.walk(p) {
			return false
		}
	}
	return true
}

// read returns the entries of dir, each once; none if it has gone.
func (w *walker) read(dir string) ([]fs.DirEntry, error) {
	f, err := w.s.top.openDir(w.s.root, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // removed since it was opened, and so empty (getdents(2))
	}
	// A file that is replaced while a directory is read may appear twice.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return slices.CompactFunc(entries, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }), err
}

func (w *walker) entries(d directoryOf, yield func(cache.Entry, error) bool) bool {
	for _, base := range d.files {
		name := d.join(base)
		if !strings.HasPrefix(name, w.prefix) || !d.attrs[base] && !adoptable(name) {
			continue
		}
		e, err := w.s.entry(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			w.fail(err)
			return false
		}
		if !yield(e, nil) {
			return false
		}
	}
	return true
}

// entry describes name by its attribute file alone if that has one line. What
// is corrupt is listed too, for somebody to find.
func (s *Store) entry(name string) (cache.Entry, error) {
	recs, used, err := s.readAttr(name)
	if err == nil && len(recs) == 1 {
		return cache.Entry{Name: name, Size: recs[0].Size, Used: used, Class: cache.Class(recs[0].Class)}, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, cache.ErrCorrupt) {
		return cache.Entry{}, err
	}
	f, ferr := s.openFile(name)
	if errors.Is(ferr, cache.ErrCorrupt) {
		return cache.Entry{Name: name}, nil
	}
	if ferr != nil {
		return cache.Entry{}, ferr
	}
	defer f.Close()
	e := cache.Entry{Name: name, Size: f.id.size, Used: time.Unix(0, f.id.mtime)}
	if len(recs) == 2 {
		e.Used = used
		e.Class = cache.Class(max(recs[0].Class, recs[1].Class))
	}
	return e, nil
}

// orphanAge is when attributes without bytes are known to be left by a crash
// and not by a Put that is about to publish the bytes.
const orphanAge = time.Hour

// Sweep removes what crashes left: spool files of dead processes, attributes
// without bytes, empty directories. It is for a quiet moment, about hourly, and
// needs no exclusion (see cache.LimitConfig.Sweep).
func (s *Store) Sweep(ctx context.Context) error {
	s.dropAbandoned()
	s.dropLeft()
	var failed error
	w := walker{s: s, ctx: ctx, fail: func(err error) { failed = err }}
	w.visit = func(d directoryOf) bool {
		for _, base := range d.files {
			delete(d.attrs, base)
		}
		for base := range d.attrs {
			s.dropOrphan(ctx, d.join(base))
		}
		if len(d.files) == 0 && d.path != "." {
			s.prune(d.path)
		}
		return true
	}
	w.walk(".")
	return failed
}

func (s *Store) dropOrphan(ctx context.Context, name string) {
	unlock, err := s.lock.name(ctx, name)
	if err != nil {
		return
	}
	defer unlock()
	if _, err := s.root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	fi, err := s.root.Lstat(attrName(name))
	if err == nil && time.Since(fi.ModTime()) > orphanAge {
		_ = s.root.Remove(attrName(name))
	}
}
