package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/internal/durable"
)

// workIdle is how long the files of a version are kept for the next question
// about it. They must go: the go command would not look at the repository
// again, and so never see that a tag was moved.
const workIdle = 20 * time.Second

// errLocked is why a lock was not had: another process, or another part of
// this one, has it.
var errLocked = errors.New("locked")

// lockFile opens name and takes the lock that ends with the process. It fails
// at once, with errLocked, if another process has it.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ours, err := durable.TryLock(f)
	switch {
	case ours, errors.Is(err, errors.ErrUnsupported): // no such locks, and no second process
		return f, nil
	case err == nil:
		err = fmt.Errorf("%s: %w", name, errLocked)
	}
	return nil, errors.Join(err, f.Close())
}

// workFiles is the directory of this process below DirectConfig.Dir. A lock on
// it says that the process lives; what dead ones left is removed at start.
//
//	vcs/          repositories, as in GOMODCACHE/cache/vcs; kept, shared by all processes
//	run.lock      held while run/ is cleaned and until a new directory there has its lock
//	run/<name>/   of one process
//	    lock      held while the process lives
//	    home/     an empty home for go, git and ssh
//	    empty/    has nothing in it
//	    work/<n>/ a module cache whose cache/vcs is the one above
type workFiles struct {
	vcs, root, home, work, empty string
	lock                         *os.File
	log                          *slog.Logger
}

func openWorkFiles(ctx context.Context, dir string, log *slog.Logger) (*workFiles, error) {
	root, lock, err := newRunDir(ctx, dir, log)
	if err != nil {
		return nil, err
	}
	f := &workFiles{vcs: filepath.Join(dir, "vcs"), root: root, home: filepath.Join(root, "home"), work: filepath.Join(root, "work"),
		empty: filepath.Join(root, "empty"), lock: lock, log: log}
	telemetry := filepath.Join(f.home, ".config", "go", "telemetry")
	for _, d := range []string{f.work, f.empty, telemetry} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, errors.Join(err, f.close())
		}
	}
	// The go command would count its runs in a directory that is thrown away.
	if err := os.WriteFile(filepath.Join(telemetry, "mode"), []byte("off"), 0o600); err != nil {
		return nil, errors.Join(err, f.close())
	}
	mendAll(f.vcs, log)
	return f, nil
}

// newRunDir makes the directory of this process and takes the lock in it. A
// process that starts at the same time must not see it without one.
func newRunDir(ctx context.Context, dir string, log *slog.Logger) (root string, lock *os.File, err error) {
	runs := filepath.Join(dir, "run")
	if err := os.MkdirAll(runs, 0o700); err != nil {
		return "", nil, err
	}
	all, err := waitForLock(ctx, runs+".lock")
	if err != nil {
		return "", nil, err
	}
	defer all.Close()
	removeDead(runs, log)
	if root, err = os.MkdirTemp(runs, ""); err != nil {
		return "", nil, err
	}
	lock, err = lockFile(filepath.Join(root, "lock"))
	return root, lock, err
}

// waitForLock is lockFile for a lock that others hold for a short time.
func waitForLock(ctx context.Context, name string) (*os.File, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		f, err := lockFile(name)
		if !errors.Is(err, errLocked) {
			return f, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// removeDead removes the directories of processes that have ended.
func removeDead(runs string, log *slog.Logger) {
	entries, err := os.ReadDir(runs)
	if err != nil {
		log.Warn("left-over work files", "error", err)
		return
	}
	for _, e := range entries {
		dir := filepath.Join(runs, e.Name())
		lock, err := lockFile(filepath.Join(dir, "lock"))
		if err != nil {
			continue // alive
		}
		if err := removeAll(dir); err != nil {
			log.Warn("left-over work files", "error", err)
		}
		_ = lock.Close()
	}
}

// removeAll removes also directories that may not be written, which the go
// command makes when it is told nothing else.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func (f *workFiles) close() error {
	err := removeAll(f.root)
	if f.lock != nil {
		err = errors.Join(err, f.lock.Close())
	}
	return err
}

// module makes a new module cache.
func (f *workFiles) module() (string, error) {
	dir, err := os.MkdirTemp(f.work, "")
	if err != nil {
		return "", err
	}
	for _, d := range []string{filepath.Join("cache", "download"), "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return "", errors.Join(err, removeAll(dir))
		}
	}
	if err := os.Symlink(f.vcs, filepath.Join(dir, "cache", "vcs")); err != nil {
		return "", errors.Join(err, removeAll(dir))
	}
	return dir, nil
}

// work is a module cache for one version. It serves the requests for its
// files, which come one after the other.
type work struct {
	m    module.Version
	dir  string
	busy lock // held while something is done in dir

	// Below is guarded by busy.
	r         run
	info, mod []byte   // nil if not yet known
	packing   *packing // nil if it was not started

	// Below is guarded by Direct.mu.
	users int
	spent bool // the zip was handed out
	used  time.Time
}

// file returns where the go command keeps a file of the version.
func (w *work) file(kind string) (string, error) {
	path, err := module.EscapePath(w.m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(w.m.Version)
	if err != nil {
		return "", err
	}
	return filepath.Join(w.dir, "cache", "download", filepath.FromSlash(path), "@v", version+"."+kind), nil
}

// skipUnpacking makes the directory in which the go command unpacks the
// version: it does not unpack what is there already. If one day it does,
// nothing but time is lost.
func (w *work) skipUnpacking() error {
	path, err := module.EscapePath(w.m.Path)
	if err != nil {
		return err
	}
	version, err := module.EscapeVersion(w.m.Version)
	if err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(w.dir, filepath.FromSlash(path)+"@"+version), 0o700)
}

// resolved returns the version of which the go command has written the .info,
// the only one.
func (w *work) resolved() (string, error) {
	path, err := module.EscapePath(w.m.Path)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(filepath.Join(w.dir, "cache", "download", filepath.FromSlash(path), "@v"))
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		if version, ok := strings.CutSuffix(e.Name(), ".info"); ok {
			found = append(found, version)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s: the go command left %d .info: %w", w.m.Path, len(found), os.ErrNotExist)
	}
	return module.UnescapeVersion(found[0])
}

// clear removes what the go command has written.
func (w *work) clear() error {
	dir := filepath.Join(w.dir, "cache", "download")
	return errors.Join(removeAll(dir), os.MkdirAll(dir, 0o700))
}

// forget makes the next request ask the repository again: version clears what
// was written before it does.
func (w *work) forget() { w.info, w.mod, w.packing = nil, nil, nil }

// openZip opens the zip that a download made.
func (w *work) openZip() (*os.File, int64, error) {
	name, err := w.file("zip")
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}

// learn reads what the go command found out about w.m, and before which version
// a query means. The .mod may come a little later than the .info.
func (w *work) learn() error {
	if w.m.Version == "" {
		version, err := w.resolved()
		if err != nil {
			return err
		}
		w.m.Version = version
		if err := w.skipUnpacking(); err != nil {
			return err
		}
	}
	for kind, to := range map[string]*[]byte{"info": &w.info, "mod": &w.mod} {
		name, err := w.file(kind)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) && kind == "mod" {
			continue
		}
		if err != nil {
			return fmt.Errorf("%v: the go command left no .%s: %w", w.m, kind, err)
		}
		*to = data
	}
	return nil
}

// with calls do with the work of m, alone. More requests for m wait.
func (d *Direct) with(ctx context.Context, m module.Version, do func(*work) error) error {
	d.mu.Lock()
	w := d.works[m]
	if w == nil {
		dir, err := d.files.module()
		if err != nil {
			d.mu.Unlock()
			return troubled(broken, err, "modgate cannot write its work files")
		}
		w = &work{m: m, dir: dir, busy: newLock()}
		d.works[m] = w
	}
	w.users++
	d.mu.Unlock()
	defer d.leave(w)
	if err := w.busy.lock(ctx); err != nil {
		return explained(err, "")
	}
	defer w.busy.unlock()
	return do(w)
}

func (d *Direct) leave(w *work) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.users--
	w.used = time.Now()
	if w.users == 0 && (w.spent || w.info == nil) {
		if d.works[w.m] == w {
			delete(d.works, w.m)
		}
		d.discard(w)
	}
}

// adopt keeps what a query found out for the requests that follow it, unless
// there is such work already.
func (d *Direct) adopt(w *work) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.works[w.m] != nil {
		w.spent = true // its last user discards it
		return
	}
	d.works[w.m] = w
}

// dropIdle removes the work that nobody used since.
func (d *Direct) dropIdle(since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for m, w := range d.works {
		if w.users == 0 && w.used.Before(since) {
			delete(d.works, m)
			d.discard(w)
		}
	}
}

func (d *Direct) discard(w *work) {
	if err := removeAll(w.dir); err != nil {
		d.cfg.Logger.Warn("work files stay", "error", err)
	}
}
