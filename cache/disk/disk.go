// Package disk keeps a cache in a directory.
//
// The directory is a GOPROXY tree: the object "example.com/m/@v/v1.0.0.zip" is
// the file of that path, so GOPROXY=file://…, a static file server and a person
// can read it. Its attributes are one line of JSON in a hidden file beside it,
// ".v1.0.0.zip.attr". No stored name has an element that starts with a dot, so
// attributes never collide with an object. Files of the protocol that another
// program has put there are served as adopted objects, without a digest.
//
// # What a crash can leave
//
// The attribute file is published before the bytes that it describes:
//
//	state after a kill                     what a reader finds
//	new attributes, no bytes               absent
//	new and previous attributes, old bytes the old object, whole
//	new and previous attributes, new bytes the new object, whole
//	no attributes, old bytes (Delete)      cannot be: bytes go first
//
// A replaced object therefore has two lines in its attribute file. Which of
// them speaks of the bytes at hand is decided by size and, if those are equal,
// by digest. Bytes that neither describes are ErrCorrupt. After a power failure
// a file of class Immutable or Mutable may be torn; its digest tells (see
// cache.Checked).
//
// # Several processes
//
// Processes may share a directory of one host. Changes of a name exclude each
// other by a lock on a byte range of .modgate/names.lock; reading takes no
// lock. A spool directory belongs to the process that holds a lock on it, so
// what a dead one left is known at once, without process ids and in whatever
// container it ran.
package disk

// BUG: outside Linux there are no locks between processes, hard links are not
// refused, and symbolic links that stay inside the directory are followed.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/durable"
)

// Config of a Store.
type Config struct {
	// Dir is the directory. It is created if missing. It must be writable for
	// us and not for everybody. A symbolic link may lead to it; inside it none
	// is followed.
	Dir string
	// MustExist makes New fail with fs.ErrNotExist, and write nothing, where
	// Dir has never been the directory of a Store. Default: it becomes one.
	MustExist bool
	// Logger receives what needs a person: locks that do not work, quarantined
	// objects. nil discards.
	Logger *slog.Logger
}

// Store is a cache.Store with the abilities Spooler, Quarantiner and Toucher.
type Store struct {
	dir  string
	log  *slog.Logger
	root *os.Root
	top  handle
	meta metaCache
	lock locks

	buffers sync.Pool // of *[]byte
	spool   spool
	closed  atomic.Bool
}

// Private state lives below one hidden directory.
const (
	private       = ".modgate"
	layoutFile    = private + "/layout"
	locksFile     = private + "/names.lock"
	startFile     = private + "/start.lock"
	spoolDir      = private + "/spool"
	quarantineDir = private + "/quarantine"

	// layout is the version of the tree that this program writes and reads.
	layout = 1
)

// New opens the directory without looking through it.
func New(c Config) (*Store, error) {
	if c.Dir == "" {
		return nil, errors.New("cache directory: none is set")
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{dir: c.Dir, log: log}
	s.buffers.New = func() any { b := make([]byte, 64<<10); return &b }
	var err error
	if c.MustExist {
		_, err = os.Stat(filepath.Join(c.Dir, filepath.FromSlash(layoutFile)))
	}
	if err == nil {
		err = s.open()
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; name a directory that exists, or that can be made", err)
		}
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("cache directory %s: %w", c.Dir, remedy(err))
	}
	return s, nil
}

func (s *Store) open() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	fi, err := os.Stat(s.dir)
	if err != nil {
		return err
	}
	if fi.IsDir() && fi.Mode()&0o002 != 0 && checksModes {
		return fmt.Errorf("everybody may write to it (mode %v), so its content proves nothing; chmod o-w it, or name a directory below it that does not exist yet", fi.Mode().Perm())
	}
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return err
	}
	if err := s.top.open(s.root); err != nil {
		return err
	}
	if err := s.root.MkdirAll(spoolDir, 0o700); err != nil {
		return err
	}
	if err := s.checkLayout(); err != nil {
		return err
	}
	if err := s.lock.open(s.root, s.log); err != nil {
		return err
	}
	return s.openSpool()
}

// Close releases the directory. Open objects stay readable; nothing but Close
// may be called afterwards.
func (s *Store) Close() error {
	if s.root == nil || s.closed.Swap(true) {
		return nil
	}
	return errors.Join(s.closeSpool(), s.lock.close(), s.top.close(), s.root.Close())
}

// Lost says why nothing can be kept any more, and what was kept is not found: Dir
// is not the directory that New opened. It was removed, renamed or mounted over,
// and only a new Store notices what is there now. nil: it is the one, or that
// cannot be told.
func (s *Store) Lost() error {
	opened, err := s.root.Stat(".")
	if err != nil {
		return nil // as after Close
	}
	now, err := os.Stat(s.dir)
	switch {
	case err == nil && os.SameFile(opened, now):
		return nil
	case err == nil:
		return fmt.Errorf("cache directory %s: another one is there now", s.dir)
	case absentIsNil(err) == nil:
		return fmt.Errorf("cache directory %s: it is gone", s.dir)
	}
	return nil
}

// checkLayout refuses a tree that a newer program has written in another way.
func (s *Store) checkLayout() error {
	b, err := s.root.ReadFile(layoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		data := strconv.AppendInt(nil, layout, 10)
		err = durable.WriteFile(s.root, layoutFile+"."+rand.Text(), layoutFile, append(data, '\n'), durable.Options{NoReplace: true})
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case len(b) == 0:
		return nil
	case err != nil || v < 1:
		return fmt.Errorf("%s holds %.20q, not a layout version; is this directory really a cache of modgate?", layoutFile, b)
	case v > layout:
		return fmt.Errorf("written by a newer modgate (layout %d, this program knows %d); start that version, or name another directory", v, layout)
	}
	return nil
}

// remedy adds to an error of New what a person can do about it.
func remedy(err error) error {
	switch {
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; mount it writable, or name another directory", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; give it to the user that runs modgate (chown), or name another directory", err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w; name a directory, not a file", err)
	case isFull(err):
		return fmt.Errorf("%w; make room, or name another directory", err)
	}
	return err
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// full adds ErrFull to what the system says about a full disk or quota.
func full(err error) error {
	if isFull(err) {
		return fmt.Errorf("%w: %w", cache.ErrFull, err)
	}
	return err
}

// Delete implements cache.Store. Directories that it empties are removed.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	unlock, err := s.lock.name(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	defer s.meta.forget(name)
	if err := s.remove(name); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	s.prune(path.Dir(name))
	return nil
}

// remove takes away the bytes and then the attributes of name: in this order a
// reader never takes bytes without attributes for an adopted object.
func (s *Store) remove(name string) error {
	if err := s.checkDir(path.Dir(name)); err != nil {
		return absentIsNil(err)
	}
	fi, err := s.root.Lstat(name)
	switch {
	case err == nil && fi.IsDir():
		return nil
	case err == nil:
		err = s.root.Remove(name)
	}
	if err := absentIsNil(err); err != nil {
		return err
	}
	return absentIsNil(s.root.Remove(attrName(name)))
}

// prune removes dir and its parents as far as they are empty.
func (s *Store) prune(dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		// Remove would take a file as well.
		if fi, err := s.root.Lstat(dir); err != nil || !fi.IsDir() || s.root.Remove(dir) != nil {
			return
		}
	}
}

func absentIsNil(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}

// check reports why an operation on name cannot start. An element longer than
// what file systems take, with the attribute file's affixes, is no name here.
func check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := cache.CheckName(name); err != nil {
		return err
	}
	for rest := name; rest != ""; {
		var e string
		e, rest, _ = strings.Cut(rest, "/")
		if len(e) > 255-len(".")-len(attrSuffix) {
			return fmt.Errorf("%w %.80q: an element is too long", cache.ErrName, name)
		}
	}
	return nil
}
