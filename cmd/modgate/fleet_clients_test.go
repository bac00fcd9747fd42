package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

// clients starts those that use the fleet until stopped is closed.
func (n *nemesis) clients(ctx context.Context) (running *sync.WaitGroup, stopped chan struct{}) {
	running, stopped = new(sync.WaitGroup), make(chan struct{})
	during := func(f func()) {
		running.Go(func() {
			for ctx.Err() == nil && !n.t.Failed() {
				select {
				case <-stopped:
					return
				default:
					f()
				}
			}
		})
	}
	for range 5 {
		during(func() { n.visit(ctx) })
	}
	for range 2 {
		during(func() { n.download(ctx) })
	}
	running.Go(func() {
		most := watchSizes(ctx, n.t, stopped, nemesisDisk, n.dirs)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.counts["most MiB on a disk"] = int(most >> 20)
	})
	return running, stopped
}

// visit asks for something.
func (n *nemesis) visit(ctx context.Context) {
	switch p := rand.IntN(100); {
	case p < 2:
		n.visitDenied(ctx)
	case p < 6:
		n.visitPrivate(ctx)
	case p < 10:
		n.visitList(ctx)
	default:
		n.visitFile(ctx)
	}
}

// visitFile asks for a file that never changes, new ones as often as others.
func (n *nemesis) visitFile(ctx context.Context) {
	n.mu.Lock()
	pool := n.known
	if len(n.fresh) > 0 && rand.IntN(2) == 0 {
		pool = n.fresh
	}
	path := pool[rand.IntN(len(pool))]
	n.mu.Unlock()
	n.ask(ctx, path, func(code int, body []byte) error {
		n.sharingFleet.mu.Lock()
		want := n.want[path]
		n.sharingFleet.mu.Unlock()
		switch {
		case code != http.StatusOK:
			return fmt.Errorf("%d %.200s", code, body)
		case !bytes.Equal(body, want):
			return fmt.Errorf("%w: %d of them, want %d", errWrongBytes, len(body), len(want))
		}
		n.mu.Lock()
		n.acked[path] = true
		n.mu.Unlock()
		return nil
	})
}

// visitList asks for a list. What was there at the start is always in it.
func (n *nemesis) visitList(ctx context.Context) {
	i := rand.IntN(4)
	n.ask(ctx, fmt.Sprintf("/example.com/fleet%d/@v/list", i), func(code int, body []byte) error {
		for v := i; v < 12; v += 4 {
			if want := fmt.Sprintf("v1.%d.0\n", v); code != http.StatusOK || !bytes.Contains(body, []byte(want)) {
				return fmt.Errorf("%d %.300q", code, body)
			}
		}
		return nil
	})
}

// visitDenied asks for what rules deny: all of it is refused, whatever happens.
func (n *nemesis) visitDenied(ctx context.Context) {
	n.ask(ctx, "/example.com/evil/@v/v1.0.0.zip", func(code int, body []byte) error {
		switch code {
		case http.StatusOK:
			return fmt.Errorf("%w: a denied zip was served", errWrongBytes)
		case http.StatusForbidden:
			return nil
		}
		return fmt.Errorf("%d %.200s", code, body)
	})
}

// visitPrivate asks for private files, and for names that nobody may learn.
func (n *nemesis) visitPrivate(ctx context.Context) {
	if rand.IntN(8) == 0 {
		n.ask(ctx, fmt.Sprintf("/git.corp.example/team/secret%d/@v/v1.0.0.info", rand.IntN(1000)), func(code int, body []byte) error {
			if code != http.StatusNotFound {
				return fmt.Errorf("%d %.200s", code, body)
			}
			return nil
		})
		return
	}
	path := "/" + libPath + []string{"/@v/v1.0.0", "/@v/v1.1.0", "/tool/@v/v0.3.0"}[rand.IntN(3)] + []string{".info", ".mod", ".zip"}[rand.IntN(3)]
	n.ask(ctx, path, func(code int, body []byte) error {
		if code != http.StatusOK {
			return fmt.Errorf("%d %.200s", code, body)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if first, ok := n.secret[path]; ok && !bytes.Equal(first, body) {
			return fmt.Errorf("%w: other ones than at first", errWrongBytes)
		}
		n.secret[path] = body
		return nil
	})
}

// ask asks for a path, again while a trouble is an excuse for that, and holds
// the answer against what it must be.
func (n *nemesis) ask(ctx context.Context, path string, check func(code int, body []byte) error) {
	for {
		begin := time.Now()
		code, body, err := fetch(ctx, sharingClient, n.nginx.URL+path)
		whole := err == nil
		if whole {
			err = check(code, body)
		}
		if err == nil {
			n.told("right")
			return
		}
		if errors.Is(err, errWrongBytes) || ctx.Err() != nil {
			n.errorf("%s: %v", path, err)
			return
		}
		// From the most to the least forgiving.
		switch p := n.pardon(begin, path); {
		case p == absent, p == unknown && code != http.StatusNotFound && code != http.StatusGone,
			p == unknown && bytes.Contains(body, []byte("(remembered: ")) && n.wasLost(path):
			n.told("refused")
			return
		case p == cutOff && !whole:
			n.told("cut off and asked again")
		default:
			n.errorf("%s, asked %v ago: %v", path, time.Since(begin).Round(time.Millisecond), err)
			return
		}
	}
}

// pardon is the most that the troubles since begin have excused.
func (n *nemesis) pardon(begin time.Time, paths ...string) pardon {
	n.mu.Lock()
	defer n.mu.Unlock()
	most := nothing
	for _, s := range slices.Backward(n.spells) {
		if !s.to.IsZero() && s.to.Before(begin) {
			continue
		}
		all := true
		for _, path := range paths {
			all = all && s.certain[path]
		}
		if s.pardon == cutOff || !all {
			most = max(most, s.pardon)
		}
	}
	return most
}

// wasLost reports whether upstream has once said that path is absent, which a
// replica says again while it cannot ask.
func (n *nemesis) wasLost(path string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.spells, func(s *spell) bool { return s.pardon == absent && !s.certain[path] })
}

func (n *nemesis) told(verdict string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts[verdict]++
}

// forgets is called before files are purged whose paths begin with prefix.
func (n *nemesis) forgets(prefix string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.acked, func(path string, _ bool) bool { return strings.HasPrefix(path, prefix) })
}

// download runs the go command with empty caches on some modules, of which one
// may be new. Half of the time a go.sum knows them; without one the checksum
// database is asked, which is in trouble with upstream.
func (n *nemesis) download(ctx context.Context) {
	n.mu.Lock()
	mods := []*proxytest.Module{n.mods[rand.IntN(n.old)], n.mods[rand.IntN(n.old)], n.mods[rand.IntN(len(n.mods))]}
	n.mu.Unlock()
	args, paths, sum := []string{"mod", "download", "-json"}, []string{}, ""
	proven := rand.IntN(2) == 0
	for _, m := range mods {
		args = append(args, m.Version.String())
		if proven {
			sum += fmt.Sprintf("%s %s %s\n%s %s/go.mod %s\n", m.Path, m.Version.Version, m.H1, m.Path, m.Version.Version, m.ModH1)
		} else {
			paths = append(paths, "the checksum database")
		}
		for _, kind := range []string{"info", "mod", "zip"} {
			paths = append(paths, proxytest.Path(n.t, m.Version, kind))
		}
	}
	for {
		begin := time.Now()
		out, err := n.goCommand(ctx, sum, args...)
		if err == nil {
			for _, m := range mods {
				if !strings.Contains(out, m.H1) {
					n.errorf("go %q: no %s in\n%s", args, m.H1, out)
				}
			}
			n.told("go command right")
			return
		}
		switch p := n.pardon(begin, paths...); {
		case ctx.Err() != nil:
			return
		case p == cutOff:
			n.told("go command cut off and run again")
		case p >= unknown:
			n.told("go command refused")
			return
		default:
			n.errorf("go %q: %v\n%s", args, err, out)
			return
		}
	}
}

// goCommand runs the go command once, with empty caches, in a module with this
// go.sum.
func (n *nemesis) goCommand(ctx context.Context, sum string, args ...string) (string, error) {
	dir, err := os.MkdirTemp(n.t.TempDir(), "")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string]string{"go.mod": "module app.example.org/app\n\ngo 1.21\n", "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(limited, "go", args...)
	cmd.Dir, cmd.Env = dir, append(goEnv(dir, n.nginx.URL, n.log.Key()), "GONOSUMDB=git.corp.example/*")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// watchSizes holds the directories against their bound, all the time, and
// returns the most that was in one of them.
func watchSizes(ctx context.Context, t *testing.T, stopped <-chan struct{}, bound int64, dirs func() []string) (most int64) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return most
		case <-stopped:
			return most
		case <-tick.C:
		}
		for _, dir := range dirs() {
			size := diskSize(dir)
			if most = max(most, size); size > bound {
				t.Errorf("%d bytes in %s, want %d at most", size, dir, bound)
				return most
			}
		}
	}
}

// dirs are those of the replicas of now.
func (n *nemesis) dirs() (dirs []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, i := range n.replicas {
		dirs = append(dirs, i.dir)
	}
	return dirs
}

// diskSize is what the files of a cache directory take on the disk, downloads in
// progress included. What was put aside and clones of repositories have bounds
// of their own. A file that is renamed meanwhile counts once.
func diskSize(dir string) int64 {
	seen := map[uint64]int64{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		if d.IsDir() && filepath.Base(filepath.Dir(path)) == ".modgate" && d.Name() != "spool" {
			return fs.SkipDir
		}
		if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				seen[st.Ino] = st.Blocks * 512
			}
		}
		return nil
	})
	var sum int64
	for _, size := range seen {
		sum += size
	}
	return sum
}
