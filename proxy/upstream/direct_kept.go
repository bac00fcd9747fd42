package upstream

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// kept returns the directory of the repository that the go command keeps for
// a place, empty if there is none.
func (d *Direct) kept(p *place) string {
	// Where this version of the go command has it
	// (cmd/go/internal/modfetch/codehost: WorkDir); and where another may.
	dir := filepath.Join(d.files.vcs, fmt.Sprintf("%x", sha256.Sum256([]byte("git3:"+p.seen))))
	if _, err := os.Stat(dir + ".info"); err == nil {
		return dir
	}
	entries, err := os.ReadDir(d.files.vcs)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".info")
		if !ok {
			continue
		}
		data, err := os.ReadFile(filepath.Join(d.files.vcs, e.Name()))
		if _, url, ok := strings.Cut(strings.TrimSpace(string(data)), ":"); err == nil && ok && url == p.seen {
			return filepath.Join(d.files.vcs, name)
		}
	}
	return ""
}

// KeptRepositories returns the URLs, as the go command knows them, of the
// repositories that a Direct with this DirectConfig.Dir keeps or has kept: where
// private modules come from. A directory that is not there keeps none.
func KeptRepositories(dir string) ([]string, error) {
	vcs := filepath.Join(dir, "vcs")
	entries, err := os.ReadDir(vcs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var urls []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".info") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(vcs, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			return nil, err
		}
		if _, url, ok := strings.Cut(strings.TrimSpace(string(data)), ":"); ok {
			urls = append(urls, url)
		}
	}
	return urls, nil
}

// forgetMoved removes tags from the kept repository that point elsewhere than
// in the real one. The go command would believe the kept one for ever.
func (d *Direct) forgetMoved(ctx context.Context, p *place, r *refs) {
	dir := d.kept(p)
	if dir == "" || r == nil {
		return
	}
	var old strings.Builder
	for tag, hash := range keptTags(dir) {
		if annotation, target := r.tagHashes(tag); hash != annotation && hash != target {
			old.WriteString("delete refs/tags/" + tag + "\n")
		}
	}
	if old.Len() == 0 {
		return
	}
	cmd := exec.CommandContext(ctx, d.gitCmd, "--git-dir="+dir, "-c", "core.hooksPath="+os.DevNull, "update-ref", "--no-deref", "--stdin")
	cmd.Env = d.gitEnv()
	cmd.Stdin = strings.NewReader(old.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		d.cfg.Logger.Warn("tags that were moved", "error", err, "git", oneLine(string(out), 500))
	}
}

// keptTags returns the tags of a repository and what they point at
// (gitrepository-layout(5): refs/tags, packed-refs).
func keptTags(dir string) map[string]string {
	tags := make(map[string]string)
	if f, err := os.Open(filepath.Join(dir, "packed-refs")); err == nil {
		for in := bufio.NewScanner(f); in.Scan(); {
			hash, name, _ := strings.Cut(in.Text(), " ")
			if tag, ok := strings.CutPrefix(name, "refs/tags/"); ok && isHash(hash) {
				tags[tag] = hash
			}
		}
		_ = f.Close()
	}
	root := filepath.Join(dir, "refs", "tags")
	_ = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		data, err := os.ReadFile(name)
		hash := strings.TrimSpace(string(data))
		if rel, relErr := filepath.Rel(root, name); err == nil && relErr == nil && isHash(hash) {
			tags[filepath.ToSlash(rel)] = hash
		}
		return nil
	})
	return tags
}

// abandon removes the repository that is kept for a place, if there is one and
// nobody uses it now. It reports whether it did.
func (d *Direct) abandon(p *place) bool {
	repo := d.repository(p.url)
	if !repo.using.TryLock() {
		return false // the next request sees to it
	}
	defer repo.using.Unlock()
	dir := d.kept(p)
	if dir == "" {
		return false
	}
	d.cfg.Logger.Warn("a kept repository is of no use and will be fetched anew", "root", p.root)
	d.metrics.healed.Inc()
	if err := removeAll(dir); err != nil {
		d.cfg.Logger.Warn("a kept repository stays", "error", err)
		return false
	}
	return true
}

// deepen fetches all history of a kept repository that has single commits
// alone, in one visit. The go command would need two. What goes wrong shows in
// the run of the go command that follows.
func (d *Direct) deepen(ctx context.Context, p *place, env []string) {
	dir := d.kept(p)
	if _, err := os.Stat(filepath.Join(dir, "shallow")); dir == "" || err != nil {
		return
	}
	lock, err := lockFile(dir + ".lock")
	if err != nil {
		return // the go command is at it
	}
	defer lock.Close()
	if d.git(ctx, dir, env, "fetch", "--quiet", "--force", "--unshallow", "origin", "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*") == nil {
		_ = d.git(ctx, dir, d.gitEnv(), "pack-refs", "--all") // thousands of small files otherwise
	}
}

// manyPacks is how many packs a kept repository may have. Each fetch adds one,
// and each git looks through all of them.
const manyPacks = 32

// tidy puts the packs of a kept repository together when there are many.
func (d *Direct) tidy(ctx context.Context, p *place) {
	dir := d.kept(p)
	packs, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack"))
	if dir == "" || err != nil || len(packs) < manyPacks {
		return
	}
	lock, err := lockFile(dir + ".lock")
	if err != nil {
		return // in use: another time
	}
	defer lock.Close()
	_ = d.git(ctx, dir, d.gitEnv(), "pack-refs", "--all")
	_ = d.git(ctx, dir, d.gitEnv(), "repack", "-d", "-q", "--geometric=2")
}

// git runs git on a kept repository, in a process group of its own.
func (d *Direct) git(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.Command(d.gitCmd, append([]string{"--git-dir=" + dir}, args...)...)
	cmd.Env = env
	ownGroup(cmd)
	var out limitedText
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { killGroup(cmd.Process.Pid) })
	err := cmd.Wait()
	stop()
	buryGroup(cmd.Process.Pid)
	if err != nil {
		d.cfg.Logger.Debug("git on a kept repository", "args", args, "error", err, "git", out.String())
		mendLocked(dir, d.cfg.Logger)
	}
	return err
}

// gitEnv is for git without a network.
func (d *Direct) gitEnv() []string {
	return []string{"PATH=" + d.path(), "HOME=" + d.files.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ALLOW_PROTOCOL=https:ssh", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"}
}

// evict removes the kept repositories that no module was fetched from since.
func (d *Direct) evict(since time.Time) {
	names, err := filepath.Glob(filepath.Join(d.files.vcs, "*.info"))
	if err != nil {
		return // the pattern is one
	}
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil || st.ModTime().After(since) {
			continue
		}
		if d.drop(name, "nobody asks for it") {
			d.room.weighed(strings.TrimSuffix(name, ".info"), 0)
		}
	}
}

// touch notes that the kept repository of a place is in use.
func (d *Direct) touch(p *place) {
	if dir := d.kept(p); dir != "" {
		now := time.Now()
		_ = os.Chtimes(dir+".info", now, now) // at worst it is fetched anew
	}
}

// mendPlace makes the kept repository usable after its git was killed.
func (d *Direct) mendPlace(p *place) {
	if dir := d.kept(p); dir != "" {
		mend(dir, d.cfg.Logger)
	}
}

// mendAll removes from all repositories what a process left that was killed.
func mendAll(vcs string, log *slog.Logger) {
	entries, err := os.ReadDir(vcs)
	if err != nil {
		log.Warn("kept repositories", "error", err)
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			mend(filepath.Join(vcs, e.Name()), log)
		}
	}
}

// mend removes stale locks and half packs of a repository that no go command
// uses now, and the repository itself if it was killed while it was made: git
// would refuse it for ever.
func mend(dir string, log *slog.Logger) {
	// The go command's own lock (cmd/go/internal/modfetch/codehost: WorkDir).
	lock, err := lockFile(dir + ".lock")
	if err != nil {
		return // in use
	}
	defer lock.Close()
	mendLocked(dir, log)
}

func mendLocked(dir string, log *slog.Logger) {
	if _, err := os.Stat(filepath.Join(dir, ".hg")); err == nil {
		mendMercurial(dir, log)
		return
	}
	config, err := os.ReadFile(filepath.Join(dir, "config"))
	_, errObjects := os.Stat(filepath.Join(dir, "objects"))
	if err != nil || errObjects != nil || !strings.Contains(string(config), `[remote "origin"]`) || !strings.Contains(string(config), "url =") {
		log.Info("removing a repository that is not whole", "dir", dir)
		if err := removeAll(dir); err != nil {
			log.Warn("a repository that is not whole stays", "error", err)
		}
		return
	}
	_ = filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		base := e.Name()
		switch {
		case e.IsDir():
			if len(base) == 2 && filepath.Base(filepath.Dir(name)) == "objects" {
				return filepath.SkipDir // loose objects, which are many
			}
		case strings.HasSuffix(base, ".lock"), strings.HasPrefix(base, "tmp_"):
			log.Info("removing what a killed git left", "file", name)
			_ = os.Remove(name)
		}
		return nil
	})
}
