package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

func debugLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// children calls see with arguments and environment of each process that has
// dir in its environment. Linux only.
func children(dir string, see func(pid int, args, env []byte)) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !bytes.Contains(env, []byte(dir)) {
			continue
		}
		args, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		see(pid, args, env)
	}
}

// watchChildren writes down arguments and environment of children of this
// test, again and again.
func watchChildren(w io.Writer, dir string, stop <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			children(dir, func(_ int, args, env []byte) {
				_, _ = w.Write(args)
				_, _ = w.Write(env)
			})
		}
	}
}

func needProc(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("NOT RUN: needs /proc")
	}
}

// alive returns the arguments of the children that run now.
func (w *gitWorld) alive() []string {
	var out []string
	children(w.cfg.Dir, func(_ int, args, _ []byte) { out = append(out, string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))) })
	return out
}

// hang makes a fetch that does not end, and returns when git is at it.
func (w *gitWorld) hang(ctx context.Context) (result <-chan error) {
	w.Helper()
	begun := make(chan struct{}, 16)
	w.server.SetFault("*", gittest.Fetch, func(x proxytest.Exchange) {
		begun <- struct{}{}
		proxytest.Stall(100)(x)
	})
	out := make(chan error, 1)
	go func() {
		_, err := w.direct.Info(ctx, lib, "v1.0.0")
		out <- err
	}()
	select {
	case <-begun:
	case err := <-out:
		w.Fatalf("it ended before git asked: %v", err)
	}
	return out
}

// When nobody waits any more, or the server ends, everything that was started
// is killed and gone, and the next request works.
func TestDirectKillsItsChildren(t *testing.T) {
	needProc(t)
	for _, how := range []string{"caller leaves", "server ends"} {
		t.Run(how, func(t *testing.T) {
			w := newGitWorld(t, nil)
			w.repo(lib, tagged("v1.0.0"))
			var stop func()
			w.direct, stop = startDirect(t, w.cfg)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := w.hang(ctx)
			if len(w.alive()) < 2 {
				t.Errorf("only these run: %q", w.alive())
			}
			if how == "server ends" {
				stop()
			} else {
				cancel()
			}
			wantReason(t, how, <-result, stopped, "")
			if left := w.alive(); len(left) > 0 {
				t.Errorf("still alive: %q", left)
			}
			w.server.SetFault("*", gittest.Fetch, nil)
			if how == "server ends" {
				_, err := w.direct.Info(t.Context(), lib, "v1.0.0")
				wantReason(t, "after the end", err, stopped, "ending")
				w.direct, _ = startDirect(t, w.cfg)
			}
			must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
		})
	}
}

// The parent that is killed takes the go command along; what it left is
// cleaned when the next one starts, and the next request works.
func TestDirectAfterKill(t *testing.T) {
	needProc(t)
	w := newGitWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	// This test again, as a child that fetches until it is killed.
	cmd := exec.Command(w.cfg.Self, "-test.run=^TestDirectVictim$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "VICTIM_DIR="+w.cfg.Dir, "VICTIM_PROXY="+w.forward(), "VICTIM_CA="+w.server.CAFile)
	cmd.Stderr = os.Stderr
	begun := make(chan struct{}, 16)
	w.server.SetFault("*", gittest.Fetch, func(x proxytest.Exchange) {
		begun <- struct{}{}
		proxytest.Stall(100)(x)
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-begun
	kept := w.direct.kept(&place{seen: "https://" + lib + ".git"})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	w.server.SetFault("*", gittest.Fetch, nil)
	deadline := time.Now().Add(10 * time.Second)
	for len(w.alive()) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("still alive: %q", w.alive())
		}
		runtime.Gosched()
	}
	// As if git had been killed at its worst moments, too.
	for _, name := range []string{"shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock", "refs/tags/v1.1.0.lock", "objects/pack/tmp_pack_x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(kept, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(kept, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(w.cfg.Dir, "run")))
	if len(left) != 2 {
		t.Errorf("run: %v, want that of the victim beside that of this process", left)
	}
	w.direct, _ = startDirect(t, w.cfg)
	must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
	if left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(w.cfg.Dir, "run"))); len(left) != 2 {
		t.Errorf("run: %v, want those of the two that live", left)
	}
}

// Processes that share a directory and start or end at the same time leave
// each other alone.
func TestDirectStartsTogether(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				f, err := openWorkFiles(t.Context(), dir, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := f.module(); err != nil {
					t.Error(err)
				}
				if err := f.close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(dir, "run"))); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What is kept has an upper bound: the repository that was not used for
// longest goes first, and none that is in use.
func TestDirectMakesRoom(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) { w.cfg.MaxKept = 500 << 10 })
	dirs := map[string]string{}
	fetch := func(name string) {
		path := gitHost + "/team/" + name
		must[[]byte](t)(w.read(path, "v1.0.0", "zip"))
		dirs[name] = w.direct.kept(&place{seen: "https://" + path + ".git"})
	}
	there := func(name string) bool {
		_, err := os.Stat(dirs[name])
		return err == nil
	}
	for i, name := range []string{"a", "b", "c"} {
		w.repo(gitHost+"/team/"+name, gittest.Commit{Files: map[string]string{"big": gittest.Random(200<<10, uint64(i))}, Tags: []string{"v1.0.0"}})
	}
	fetch("a")
	fetch("b")
	if !there("a") || !there("b") {
		t.Fatal("gone although there is room")
	}
	for name, ago := range map[string]time.Duration{"a": time.Hour, "b": time.Minute} {
		if err := os.Chtimes(dirs[name]+".info", time.Time{}, time.Now().Add(-ago)); err != nil {
			t.Fatal(err)
		}
	}
	fetch("c")
	gone := func(name string) {
		for begin := time.Now(); there(name); runtime.Gosched() {
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("%s is there", name)
			}
		}
	}
	gone("a")
	if !there("b") || !there("c") {
		t.Errorf("there: b %v, c %v; want both", there("b"), there("c"))
	}
	w.cfg.MaxKept = 1
	w.direct, _ = startDirect(t, w.cfg)
	gone("b")
	gone("c")
	p := &place{seen: "https://" + gitHost + "/team/a.git"}
	end := w.direct.jobs.start(&job{place: p})
	err := errors.Join(os.Mkdir(dirs["a"], 0o700), os.WriteFile(dirs["a"]+".info", []byte("git3:"+p.seen), 0o600), os.WriteFile(filepath.Join(dirs["a"], "pack"), []byte("xx"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	w.direct.makeRoom()
	if !there("a") {
		t.Error("dropped although it was in use")
	}
	end()
	w.direct.makeRoom()
	if there("a") {
		t.Error("kept although there is no room")
	}
}

func TestDirectVictim(t *testing.T) {
	dir := os.Getenv("VICTIM_DIR")
	if dir == "" {
		t.Skip("is a child of TestDirectAfterKill")
	}
	self := must[string](t)(os.Executable())
	cfg := victimConfig(t, dir, self)
	d, _ := startDirect(t, cfg)
	_, _ = d.Info(t.Context(), lib, "v1.1.0")
	t.Error("survived")
}

// A helper that is not asked for does nothing, and one with a broken
// environment says so.
func TestHelper(t *testing.T) {
	if ran, _ := Helper([]string{"modgate", "serve"}, []string{"PATH=/bin"}, nil, nil, nil); ran {
		t.Error("ran without being asked")
	}
	var said strings.Builder
	ran, code := Helper([]string{"x", "git-upload-pack '/x'"}, []string{helperEnv + "=" + helperSSH, "HTTP_PROXY=http://127.0.0.1:1"}, strings.NewReader(""), io.Discard, &said)
	if !ran || code == 0 || said.Len() == 0 {
		t.Errorf("without a guard: %v %d %q", ran, code, said.String())
	}
}

// A repository that nobody asks for is removed at last, one in use is not, and
// many packs become few.
func TestDirectKeepsOrder(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	w.settle()
	p := &place{seen: "https://" + lib + ".git", url: parseURL(t, "https://"+lib+".git")}
	dir := w.direct.kept(p)
	packs := must[[]string](t)(filepath.Glob(filepath.Join(dir, "objects", "pack", "pack-*.pack")))
	for i := range manyPacks {
		for _, ext := range []string{".pack", ".idx"} { // the same again counts, too
			name := strings.TrimSuffix(packs[0], ".pack")
			data := must[[]byte](t)(os.ReadFile(name + ext))
			if err := os.WriteFile(name[:len(name)-2]+strconv.Itoa(10+i)+ext, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.direct.tidy(t.Context(), p)
	if packs := must[[]string](t)(filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack"))); len(packs) > 3 {
		t.Errorf("%d packs", len(packs))
	}
	must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
	w.direct.evict(time.Now().Add(-time.Hour))
	if _, err := os.Stat(dir); err != nil {
		t.Error("removed although it was in use")
	}
	w.direct.evict(time.Now().Add(time.Hour))
	if _, err := os.Stat(dir); err == nil {
		t.Error("kept although nobody asks for it")
	}
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
}

// A run that takes too long is ended, and who waits for a slot does not wait
// longer than they want.
func TestDirectTimeoutAndSlots(t *testing.T) {
	needProc(t)
	w := newGitWorld(t, func(w *gitWorld) { w.cfg.Timeout, w.cfg.Slots = 4*time.Second, 1 })
	w.repo(lib, tagged("v1.0.0"))
	w.repo(gitHost+"/team/other", tagged("v1.0.0"))
	result := w.hang(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := w.direct.List(ctx, gitHost+"/team/other")
	wantReason(t, "no slot", err, timedOut, "")
	wantReason(t, "too long", <-result, timedOut, "did not answer in time")
	if left := w.alive(); len(left) > 0 {
		t.Errorf("still alive: %q", left)
	}
	must[[]string](t)(w.direct.List(t.Context(), gitHost+"/team/other"))
}
