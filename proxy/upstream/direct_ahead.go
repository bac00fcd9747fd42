package upstream

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// aheadEach is of how many versions after one that was fetched, and of how
// many of the newest, the commits are fetched before anybody asks for them.
const aheadEach = 2

// aheadMost bounds a visit for what nobody has asked for.
const aheadMost = 30 * time.Second

// aheadWait is how long a run of the go command waits for what is being
// fetched ahead, if that has its version.
const aheadWait = 2 * time.Second

// ahead is what is fetched of a repository before anybody asks for it: the
// commits that tags stand for, without the tags. The go command finds them by
// the hash that the host says a tag has, so that a tag which is moved
// meanwhile changes nothing.
type ahead struct {
	mu    sync.Mutex
	tried map[string]bool // hashes that need not be asked for again
	tags  []string        // that are being fetched
	done  chan struct{}   // nil if nothing is being fetched
}

// begin claims the commits of tags. ok is false if others are being fetched.
func (a *ahead) begin(tags, hashes []string) (end func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done != nil {
		return nil, false
	}
	if a.tried == nil || len(a.tried) > maxRemembered {
		a.tried = make(map[string]bool)
	}
	for _, h := range hashes {
		a.tried[h] = true
	}
	done := make(chan struct{})
	a.tags, a.done = tags, done
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tags, a.done = nil, nil
		close(done)
	}, true
}

// forget lets commits be asked for again.
func (a *ahead) forget(hashes []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range hashes {
		delete(a.tried, h)
	}
}

// wait waits while the commit of a version is among those that are being
// fetched, but not for long.
func (a *ahead) wait(ctx context.Context, version string) {
	a.mu.Lock()
	done := a.done
	coming := version != "" && slices.ContainsFunc(a.tags, func(tag string) bool { return path.Base(tag) == version })
	a.mu.Unlock()
	if done == nil || !coming {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, aheadWait)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// lookAhead fetches the commits of the versions that will probably be asked
// for after m, if there are any that the kept repository does not have. It
// fetches into a repository beside that, so that nobody waits for a lock, and
// what comes to nothing leaves nothing. It has a slot only while nobody who
// waits for a version needs it.
func (d *Direct) lookAhead(r run, m module.Version) {
	if d.cfg.MaxAhead < 0 || r.deep || r.place.hg {
		return
	}
	ctx, cancel := context.WithTimeout(d.life, aheadMost)
	defer cancel()
	known, err := r.refs.get(ctx)
	if err != nil {
		return
	}
	kept, repo := d.kept(r.place), d.repository(r.place.url)
	// The go command may still be about to put away what came for it.
	lock, err := waitForLock(ctx, kept+".lock")
	if err != nil {
		return
	}
	_ = lock.Close()
	tags, hashes := repo.ahead.missing(kept, known, known.likely(r.place.tagPrefix(m.Path), m))
	if len(tags) == 0 {
		return
	}
	ctx, give, ok := d.slots.spare(ctx)
	if !ok {
		return
	}
	defer give()
	end, ok := repo.ahead.begin(tags, hashes)
	if !ok {
		return
	}
	defer end()
	w, err := d.scratch()
	if err != nil {
		return
	}
	defer d.discard(w)
	defer d.metrics.run(runAhead)()
	j := &job{place: r.place, repo: repo, refs: promised(known), ctx: ctx, most: d.cfg.MaxAhead}
	defer d.jobs.start(j)()
	beside := filepath.Join(w.dir, "beside.git")
	args := []string{"-c", "protocol.version=2", "fetch", "--quiet", "--depth=1", "--no-tags", "origin"}
	for _, tag := range tags {
		args = append(args, "refs/tags/"+tag)
	}
	err = makeBeside(beside, kept)
	if err == nil {
		err = d.git(ctx, beside, d.childEnv(w, j, os.DevNull), args...)
	}
	if err == nil {
		repo.using.RLock()
		defer repo.using.RUnlock()
		err = takeOver(ctx, beside, kept)
		d.weigh(r.place)
	}
	if errors.Is(context.Cause(ctx), errWanted) {
		repo.ahead.forget(hashes)
	}
	if err != nil {
		d.cfg.Logger.Debug("looking ahead", "root", r.place.root, "error", err)
	}
}

// makeBeside makes a repository that has what another one has, as its
// alternate (gitrepository-layout(5)).
func makeBeside(dir, kept string) error {
	if err := os.MkdirAll(filepath.Join(dir, "objects", "info"), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "refs"), 0o700); err != nil {
		return err
	}
	var refs strings.Builder
	refs.WriteString("# pack-refs with:\n")
	tags := keptTags(kept)
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		refs.WriteString(tags[tag] + " refs/tags/" + tag + "\n")
	}
	files := map[string][]byte{
		"objects/info/alternates": []byte(filepath.Join(kept, "objects") + "\n"),
		"packed-refs":             []byte(refs.String()),
	}
	for _, name := range []string{"HEAD", "config", "shallow"} {
		data, err := os.ReadFile(filepath.Join(kept, name))
		if err != nil {
			return err
		}
		files[name] = data
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// takeOver moves what was fetched into the kept repository, while no go
// command changes that.
func takeOver(ctx context.Context, beside, kept string) error {
	lock, err := waitForLock(ctx, kept+".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	there, err := os.ReadFile(filepath.Join(kept, "shallow"))
	if err != nil {
		return err // it has all history now, or is gone
	}
	come, err := os.ReadFile(filepath.Join(beside, "shallow"))
	if err != nil {
		return err
	}
	// git sees a pack when its index is there.
	for _, ext := range []string{"pack", "rev", "idx"} {
		names, err := filepath.Glob(filepath.Join(beside, "objects", "pack", "*."+ext))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.Rename(name, filepath.Join(kept, "objects", "pack", filepath.Base(name))); err != nil {
				return err
			}
		}
	}
	for line := range strings.Lines(string(come)) {
		if !bytes.Contains(there, []byte(strings.TrimSpace(line))) {
			there = append(there, line...)
		}
	}
	name := filepath.Join(kept, "shallow.lock") // as git does; what is left of it is mended
	if err := os.WriteFile(name, there, 0o600); err != nil {
		return err
	}
	return os.Rename(name, filepath.Join(kept, "shallow"))
}

// missing returns the tags whose commits are not in the kept repository, and
// the commits. It returns none while the first and the last are there: not
// each version that is fetched is worth a visit. A repository that has all
// history gets its tags with that.
func (a *ahead) missing(dir string, r *refs, tags []string) (missing, hashes []string) {
	shallow, err := os.ReadFile(filepath.Join(dir, "shallow"))
	if err != nil || len(tags) == 0 {
		return nil, nil
	}
	kept := keptTags(dir)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, tag := range tags {
		annotation, hash := r.tagHashes(tag)
		if hash == "" {
			hash = annotation
		}
		if kept[tag] == "" && !a.tried[hash] && !bytes.Contains(shallow, []byte(hash)) {
			missing, hashes = append(missing, tag), append(hashes, hash)
		}
	}
	if !slices.Contains(missing, tags[0]) && !slices.Contains(missing, tags[len(tags)-1]) {
		return nil, nil
	}
	return missing, hashes
}

// tagPrefix returns what the tags of a module's versions begin with
// (https://go.dev/ref/mod#vcs-version).
func (p *place) tagPrefix(modulePath string) string {
	base, _, _ := module.SplitPathVersion(modulePath)
	below := strings.TrimPrefix(strings.TrimPrefix(base, p.root), "/")
	if !strings.HasPrefix(base, p.root) { // the root has the major version, too
		below = ""
	}
	if dir := path.Join(p.subdir, below); dir != "" {
		return dir + "/"
	}
	return ""
}

// likely returns the tags of the versions that follow m, and of the newest
// ones, in the order of the versions.
func (r *refs) likely(prefix string, m module.Version) []string {
	version, incompatible := strings.CutSuffix(m.Version, "+incompatible")
	var versions []string
	for name := range r.hash {
		v, ok := strings.CutPrefix(name, "refs/tags/"+prefix)
		if ok && isExact(v) && !module.IsPseudoVersion(v) && (fits(v, m.Path) || incompatible && fits(v+"+incompatible", m.Path)) {
			versions = append(versions, v)
		}
	}
	semver.Sort(versions)
	i, ok := slices.BinarySearchFunc(versions, version, semver.Compare)
	if !ok {
		return nil
	}
	after := versions[i+1:]
	if n := len(after); n > 2*aheadEach {
		after = slices.Concat(after[:aheadEach], after[n-aheadEach:])
	}
	tags := make([]string, len(after))
	for i, v := range after {
		tags[i] = prefix + v
	}
	return tags
}
