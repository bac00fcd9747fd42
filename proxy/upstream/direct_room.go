package upstream

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// room knows how much the kept repositories take.
type room struct {
	making sync.Mutex // held while repositories are dropped

	mu    sync.Mutex
	sizes map[string]int64 // by directory
	total int64
}

// weighed notes the size of a directory, and returns that of all.
func (r *room) weighed(dir string, size int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total += size - r.sizes[dir]
	if r.sizes[dir] = size; size == 0 {
		delete(r.sizes, dir)
	}
	return r.total
}

// weigh notes how large the kept repository of a place is now. If there is too
// much altogether, room is made beside what goes on.
func (d *Direct) weigh(p *place) {
	dir := d.kept(p)
	if dir != "" && d.room.weighed(dir, sizeOf(dir)) > d.cfg.MaxKept {
		d.wg.Go(d.makeRoom) // the request is in d.wg, so that Run waits
	}
}

// makeRoom measures all kept repositories and drops those that were not used
// for longest until the rest takes no more than MaxKept. One that is in use
// stays. (One that another process begins to use just now is fetched anew.)
func (d *Direct) makeRoom() {
	d.room.making.Lock()
	defer d.room.making.Unlock()
	type keptRepository struct {
		info, dir string
		used      time.Time
	}
	var all []keptRepository
	var total int64
	names, _ := filepath.Glob(filepath.Join(d.files.vcs, "*.info")) // the pattern is one
	for _, name := range names {
		if st, err := os.Stat(name); err == nil {
			dir := strings.TrimSuffix(name, ".info")
			total = d.room.weighed(dir, sizeOf(dir))
			all = append(all, keptRepository{name, dir, st.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b keptRepository) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.dir, b.dir)) })
	for _, k := range all {
		if total <= d.cfg.MaxKept || d.life.Err() != nil {
			return
		}
		if !slices.Contains(d.busyDirs(), k.dir) && d.drop(k.info, "to make room") {
			total = d.room.weighed(k.dir, 0)
		}
	}
}

// busyDirs returns the kept repositories that this process uses now.
func (d *Direct) busyDirs() []string {
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	var dirs []string
	for _, j := range d.jobs.byToken {
		dirs = append(dirs, d.kept(j.place))
	}
	return dirs
}

// drop removes the kept repository with the .info of this name, unless it is
// in use. It reports whether it did.
func (d *Direct) drop(info, why string) bool {
	dir := strings.TrimSuffix(info, ".info")
	lock, err := lockFile(dir + ".lock")
	if err != nil {
		return false // in use
	}
	d.cfg.Logger.Info("removing a kept repository", "why", why, "dir", dir)
	if err := errors.Join(os.Remove(info), removeAll(dir), lock.Close()); err != nil {
		d.cfg.Logger.Warn("a kept repository stays", "error", err)
		return false
	}
	return true
}

// sizeOf returns how many bytes the files below dir have.
func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if st, err := e.Info(); err == nil { // else it is gone
				size += st.Size()
			}
		}
		return nil
	})
	return size
}
