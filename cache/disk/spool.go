package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/durable"
)

// spool is a directory of files that are not published yet. It belongs to one
// process, as long as that holds the lock of it.
type spool struct {
	mu   sync.Mutex // guards what follows, but for next
	name string
	dir  *os.File
	gone []*os.File // of directories that somebody has removed; still open, for who uses them
	left []string   // names below the root that could not be removed

	next atomic.Uint64
}

// spoolAge is when a spool directory is taken for abandoned where directories
// cannot be locked.
const spoolAge = 24 * time.Hour

func (s *Store) openSpool() error {
	// Between mkdir and lock a new directory looks abandoned.
	start, err := s.root.OpenFile(startFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer start.Close()
	s.waitStart(start)
	s.dropAbandoned()
	s.spool.mu.Lock()
	defer s.spool.mu.Unlock()
	return s.claimSpool()
}

// waitStart waits for another process that is starting. One that hangs there
// does not stop us: at worst it removes a directory that createSpool makes anew.
func (s *Store) waitStart(start *os.File) {
	for range 100 {
		if ok, err := durable.TryLock(start); ok || err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// claimSpool makes a spool directory and locks it. Before it is locked another
// process that looks for abandoned ones may take it away: then there is a next
// one.
func (s *Store) claimSpool() error {
	for try := range sweptAttempts {
		name := spoolDir + "/" + rand.Text()
		if err := s.root.MkdirAll(name, 0o700); err != nil {
			return err
		}
		d, err := s.root.Open(name)
		if errors.Is(err, fs.ErrNotExist) && try < sweptAttempts-1 {
			continue
		}
		if err != nil {
			return err
		}
		ours, err := durable.TryLock(d)
		if _, gone := s.root.Lstat(name); err == nil && !ours || gone != nil {
			_ = d.Close()
			continue
		}
		if err != nil {
			s.log.Debug("spool directories cannot be locked; abandoned ones are told by age", "err", err)
		}
		s.spool.name, s.spool.dir = name, d
		return nil
	}
	return errBusy
}

// closeSpool gives the spool directory back. One that cannot be removed is
// abandoned from now on, which is no failure of what was stored.
func (s *Store) closeSpool() error {
	s.spool.mu.Lock()
	defer s.spool.mu.Unlock()
	if s.spool.dir == nil {
		return nil
	}
	if err := s.root.RemoveAll(s.spool.name); err != nil {
		s.log.Warn("cannot remove the files of unfinished downloads; the next start does it", "dir", s.spool.name, "err", err)
	}
	for _, d := range s.spool.gone {
		_ = d.Close()
	}
	return s.spool.dir.Close()
}

// dropAbandoned removes the spool directories of dead processes.
func (s *Store) dropAbandoned() {
	entries, err := fs.ReadDir(s.root.FS(), spoolDir)
	if err != nil {
		s.log.Warn("cannot look for abandoned files", "err", err)
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			s.dropIfAbandoned(spoolDir + "/" + e.Name())
		}
	}
}

// dropIfAbandoned holds the lock of the directory until that is gone, so that a
// process that has just made it takes another one.
func (s *Store) dropIfAbandoned(name string) {
	d, err := s.root.Open(name)
	if err != nil {
		return
	}
	defer d.Close()
	ours, err := durable.TryLock(d)
	if err != nil { // there are no locks
		fi, err := d.Stat()
		ours = err == nil && time.Since(fi.ModTime()) > spoolAge
	}
	if !ours {
		return
	}
	if err := s.root.RemoveAll(name); err != nil {
		s.log.Warn("cannot remove abandoned files", "dir", name, "err", err)
	}
}

// createSpool creates a file and returns it with its name below the root.
func (s *Store) createSpool() (*os.File, string, error) {
	s.spool.mu.Lock()
	dir := s.spool.name
	s.spool.mu.Unlock()
	tmp := dir + "/" + strconv.FormatUint(s.spool.next.Add(1), 36)
	f, err := s.top.create(s.root, tmp)
	if err == nil {
		s.dropLeft()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return f, tmp, err
	}
	// Somebody has tidied too well.
	s.spool.mu.Lock()
	defer s.spool.mu.Unlock()
	if s.spool.name == dir {
		old := s.spool.dir
		if err := s.claimSpool(); err != nil {
			return nil, "", err
		}
		s.spool.gone = append(s.spool.gone, old)
	}
	tmp = s.spool.name + "/" + filepath.Base(tmp)
	f, err = s.top.create(s.root, tmp)
	return f, tmp, err
}

// move gives the file tmp of the spool the name base in dir, which is open as
// to. Names in the spool are never used again: if tmp went with a directory that
// was removed, it is absent in the one that has taken its place.
func (s *Store) move(tmp string, to *os.File, dir, base string) error {
	s.spool.mu.Lock()
	from := s.spool.dir
	s.spool.mu.Unlock()
	return s.top.move(s.root, rename{from, tmp, to, dir + "/" + base})
}

// NewSpool implements cache.Spooler.
func (s *Store) NewSpool() (*os.File, error) {
	f, _, err := s.createSpool()
	if err != nil {
		return nil, fmt.Errorf("spool: %w", full(err))
	}
	return f, nil
}

// GrowSpool implements cache.Spooler. The file system says no when it is full.
func (s *Store) GrowSpool(*os.File, int64) error { return nil }

// PutSpool implements cache.Spooler. On failure the file stays in the spool,
// for DropSpool.
func (s *Store) PutSpool(ctx context.Context, name string, f *os.File, opts cache.PutOptions) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	if err := s.putSpool(ctx, name, f, opts); err != nil {
		return fmt.Errorf("put %s: %w", name, full(err))
	}
	return nil
}

func (s *Store) putSpool(ctx context.Context, name string, f *os.File, opts cache.PutOptions) error {
	tmp, err := s.spoolName(f)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	rec := record{Attrs: opts.Attrs, Class: className(opts.Class)}
	sum := opts.Attrs.SHA256
	if sum == "" {
		if sum, err = digest(f, fi.Size()); err != nil {
			return err
		}
	}
	if err := rec.complete(fi.Size(), sum); err != nil {
		return err
	}
	return s.commit(ctx, name, spooled{f, tmp}, rec)
}

// DropSpool implements cache.Spooler. A file that is gone already, because it
// was published, is not an error.
func (s *Store) DropSpool(f *os.File) error {
	tmp, err := s.spoolName(f)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && tmp != "":
		s.leave(tmp)
		return err
	case err != nil:
		return err
	}
	return s.unspool(tmp)
}

// unspool removes a file of the spool, if it is there still. One that cannot be
// removed now, perhaps because the process has no file descriptor left for the
// way to it, is removed later: names in the spool are never used again.
func (s *Store) unspool(tmp string) error {
	err := absentIsNil(s.root.Remove(tmp))
	if err != nil {
		s.leave(tmp)
	}
	return err
}

func (s *Store) leave(tmp string) {
	s.spool.mu.Lock()
	defer s.spool.mu.Unlock()
	s.spool.left = append(s.spool.left, tmp)
}

// dropLeft removes what could not be removed when it should have been.
func (s *Store) dropLeft() {
	s.spool.mu.Lock()
	left := s.spool.left
	s.spool.left = nil
	s.spool.mu.Unlock()
	for i, tmp := range left {
		if err := absentIsNil(s.root.Remove(tmp)); err != nil {
			s.spool.mu.Lock()
			s.spool.left = append(s.spool.left, left[i:]...)
			s.spool.mu.Unlock()
			return
		}
	}
}

// spoolName returns the name of f below the root, if it is a file of our spool,
// and the name with an error if that could not be found out.
func (s *Store) spoolName(f *os.File) (string, error) {
	rel, err := filepath.Rel(s.root.Name(), f.Name())
	if err != nil {
		return "", err
	}
	tmp := filepath.ToSlash(rel)
	if ok, _ := filepath.Match(spoolDir+"/*/*", tmp); !ok {
		return "", fmt.Errorf("%s: not a file of the spool", f.Name())
	}
	named, err := s.root.Lstat(tmp)
	if err != nil {
		return tmp, err
	}
	open, err := f.Stat()
	if err != nil {
		return tmp, err
	}
	if !os.SameFile(named, open) {
		return "", fmt.Errorf("%s: no longer the file of this name", f.Name())
	}
	return tmp, nil
}
