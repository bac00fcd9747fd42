package upstream

import (
	"bytes"
	"context"
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
	mu     sync.Mutex
	tried  map[string]bool // hashes that need not be asked for again
	tags   []string        // that are being fetched
	cancel context.CancelFunc
	done   chan struct{} // nil if nothing is being fetched
}

// begin claims tags. ok is false if the repository is being fetched from.
func (a *ahead) begin(ctx context.Context, tags, hashes []string) (_ context.Context, end func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done != nil {
		return nil, nil, false
	}
	if a.tried == nil || len(a.tried) > maxRemembered {
		a.tried = make(map[string]bool)
	}
	for _, h := range hashes {
		a.tried[h] = true
	}
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(ctx, aheadMost)
	a.tags, a.cancel, a.done = tags, cancel, done
	return ctx, func() {
		cancel()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tags, a.cancel, a.done = nil, nil, nil
		close(done)
	}, true
}

// giveWay ends what is being fetched for the sake of a run of the go command
// that needs the repository: at once, or after a while if what comes has the
// version that the run is about. Then the run can begin: the go command waits
// for the lock on the repository by itself.
func (a *ahead) giveWay(version string) {
	a.mu.Lock()
	cancel, done := a.cancel, a.done
	wanted := version != "" && slices.ContainsFunc(a.tags, func(tag string) bool { return path.Base(tag) == version })
	a.mu.Unlock()
	switch {
	case done == nil:
	case wanted:
		time.AfterFunc(aheadWait, cancel)
	default:
		cancel()
		<-done
	}
}

// lookAhead fetches the commits of the versions that will probably be asked
// for after m, if there are any that the kept repository does not have.
func (d *Direct) lookAhead(r run, m module.Version) {
	known, err := r.refs.get(d.life)
	dir := d.kept(r.place)
	if err != nil || dir == "" || d.cfg.MaxAhead < 0 || r.deep {
		return
	}
	repo := d.repository(r.place.url)
	tags, hashes := repo.ahead.missing(dir, known, known.likely(r.place.tagPrefix(m.Path), m))
	if len(tags) == 0 {
		return
	}
	ctx, end, ok := repo.ahead.begin(d.life, tags, hashes)
	if !ok {
		return
	}
	defer end()
	repo.using.RLock()
	defer repo.using.RUnlock()
	lock, err := lockFile(dir + ".lock")
	if err != nil {
		return // the go command is at it
	}
	defer lock.Close()
	w, err := d.scratch()
	if err != nil {
		return
	}
	defer d.discard(w)
	defer d.metrics.run(runAhead)()
	j := &job{place: r.place, repo: repo, refs: promised(known), ctx: ctx, most: d.cfg.MaxAhead}
	defer d.jobs.start(j)()
	args := []string{"-c", "protocol.version=2", "fetch", "--quiet", "--depth=1", "--no-tags", "origin"}
	for _, tag := range tags {
		args = append(args, "refs/tags/"+tag)
	}
	if err := d.git(ctx, dir, d.childEnv(w, j, os.DevNull), args...); err != nil {
		d.cfg.Logger.Debug("looking ahead", "root", r.place.root, "error", err)
	}
	_ = os.Remove(filepath.Join(dir, "FETCH_HEAD")) // it names the guard
	d.weigh(r.place)
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
