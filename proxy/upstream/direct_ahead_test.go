package upstream

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// lookingAhead is a world in which a repository with versions v1.0.0 to
// v1.9.0 is looked ahead in. Each is a commit with a file of its own.
func lookingAhead(t *testing.T, most int64, slots int) (*gitWorld, *gittest.Repo) {
	t.Helper()
	w := newGitWorld(t, func(w *gitWorld) { w.cfg.MaxAhead, w.cfg.Slots = most, slots })
	commits := make([]gittest.Commit, 10)
	for i := range commits {
		commits[i] = tagged(fmt.Sprintf("v1.%d.0", i))
		commits[i].Files["big.bin"] = gittest.Random(64<<10, uint64(i))
	}
	return w, w.repo(lib, commits...)
}

// ahead waits until something was fetched ahead, and that is over.
func (w *gitWorld) ahead() {
	w.Helper()
	a := &w.direct.repository(parseURL(w, "https://"+lib+".git")).ahead
	for begin := time.Now(); ; runtime.Gosched() {
		a.mu.Lock()
		over := len(a.tried) > 0 && a.done == nil
		a.mu.Unlock()
		if over {
			return
		}
		if time.Since(begin) > 20*time.Second {
			w.Fatal("nothing was fetched ahead")
		}
	}
}

// The versions after one that was fetched, and the newest, need no further
// visit, and are what they are without.
func TestDirectLooksAhead(t *testing.T) {
	w, _ := lookingAhead(t, 0, 0)
	must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
	w.ahead()
	before := w.server.Count("*", gittest.Fetch)
	if before != 2 {
		t.Errorf("%d fetches for the first version and what follows it, want 2", before)
	}
	got := map[string][]byte{}
	for _, v := range []string{"v1.2.0", "v1.3.0", "v1.8.0", "v1.9.0"} {
		for _, kind := range []string{"info", "zip"} {
			if kind == "info" {
				got[v+kind] = must[[]byte](t)(w.direct.Info(t.Context(), lib, v))
				continue
			}
			got[v+kind] = must[[]byte](t)(w.read(lib, v, kind))
		}
		if v == "v1.2.0" && w.server.Count("*", gittest.Fetch) != before {
			t.Error("a version that came ahead was fetched again")
		}
	}
	w.cfg.Dir, w.cfg.MaxAhead = t.TempDir(), -1
	w.direct, _ = startDirect(t, w.cfg)
	for _, v := range []string{"v1.2.0", "v1.3.0", "v1.8.0", "v1.9.0"} {
		if info := must[[]byte](t)(w.direct.Info(t.Context(), lib, v)); !bytes.Equal(info, got[v+"info"]) {
			t.Errorf("%s.info: %s, without looking ahead %s", v, got[v+"info"], info)
		}
		if zip := must[[]byte](t)(w.read(lib, v, "zip")); !bytes.Equal(zip, got[v+"zip"]) {
			t.Errorf("%s.zip is another without looking ahead", v)
		}
	}
}

// A tag that is moved after its commit came ahead means what it means now, and
// so do commits, whose names need the history.
func TestDirectLooksAheadAndTagsMove(t *testing.T) {
	w, repo := lookingAhead(t, 0, 0)
	must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
	w.ahead()
	repo.Tag(t, "v1.2.0", repo.Commit(t, gittest.Commit{Files: map[string]string{"lib.go": "package lib // moved\n"}})[0])
	repo.Untag(t, "v1.3.0")
	if text := inZip(t, must[[]byte](t)(w.read(lib, "v1.2.0", "zip")), lib+"@v1.2.0/lib.go"); !strings.Contains(text, "moved") {
		t.Errorf("the tag is still what it was when its commit came: %q", text)
	}
	_, err := w.direct.Info(t.Context(), lib, "v1.3.0")
	wantReason(t, "removed", err, unknownVersion, "")
	info := must[[]byte](t)(w.direct.Info(t.Context(), lib, repo.Git(t, "rev-parse", "v1.5.0~1")[:12]))
	if !bytes.Contains(info, []byte(`"v1.4.0"`)) {
		t.Errorf("a commit that has a tag: %s", info)
	}
}

// What is too large or does not come disturbs nobody, and is not tried again.
func TestDirectLooksAheadInVain(t *testing.T) {
	t.Run("too large", func(t *testing.T) {
		w, _ := lookingAhead(t, 1000, 0)
		must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
		w.ahead()
		must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
		must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
		if n := w.server.Count("*", gittest.Fetch); n > 4 {
			t.Errorf("%d fetches", n)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		w, _ := lookingAhead(t, 0, 0)
		must[[]byte](t)(w.read(lib, "v1.0.0", "mod"))
		begun := make(chan struct{}, 1)
		var once bool
		w.server.SetFault("*", gittest.Fetch, func(x proxytest.Exchange) {
			if once {
				x.Honest.ServeHTTP(x.W, x.R)
				return
			}
			once = true
			begun <- struct{}{}
			proxytest.Stall(100)(x)
		})
		must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
		<-begun
		begin := time.Now()
		must[[]byte](t)(w.read(lib, "v1.5.0", "zip")) // is not among what comes
		must[[]byte](t)(w.read(lib, "v1.1.0", "zip")) // is
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("two versions took %v beside a visit that hangs", took)
		}
	})
}

func TestLikely(t *testing.T) {
	r := &refs{hash: map[string]string{"HEAD": "h", "refs/heads/v1.9.0": "b"}}
	for _, tag := range []string{"v1.0.0", "v1.1.0", "v1.1.0^{}", "v1.2.0", "v1.10.0-rc.1", "v1.10.0", "v1.11.0", "v2.0.0", "v2.1.0", "v3.0.0", "v1.5", "vee", "sub/v1.0.0", "sub/v1.3.0", "sub/deep/v1.7.0"} {
		r.hash["refs/tags/"+tag] = "x"
	}
	for _, c := range []struct{ root, subdir, path, version, want string }{
		{lib, "", lib, "v1.0.0", "v1.1.0 v1.2.0 v1.10.0 v1.11.0"},
		{lib, "", lib, "v1.10.0", "v1.11.0"},
		{lib, "", lib, "v1.11.0", ""},
		{lib, "", lib, "v1.0.1", ""},
		{lib, "", lib, "v2.0.0+incompatible", "v2.1.0 v3.0.0"},
		{lib, "", lib + "/v2", "v2.0.0", "v2.1.0"},
		{lib + "/v2", "", lib + "/v2", "v2.0.0", "v2.1.0"},
		{lib, "", lib + "/sub", "v1.0.0", "sub/v1.3.0"},
		{lib, "sub", lib, "v1.0.0", "sub/v1.3.0"},
		{lib, "sub", lib + "/deep", "v1.7.0", ""},
	} {
		p := &place{root: c.root, subdir: c.subdir}
		got := strings.Join(r.likely(p.tagPrefix(c.path), module.Version{Path: c.path, Version: c.version}), " ")
		if got != c.want {
			t.Errorf("%s@%s in %s: %q, want %q", c.path, c.version, c.root, got, c.want)
		}
	}
}

// The go command begins with the refs that were known, but what it finds out
// with them is believed only once the host has said that they are the same.
func TestDirectGuessesRefs(t *testing.T) {
	for _, kind := range []string{"info", "mod", "zip"} {
		t.Run(kind, func(t *testing.T) {
			w := newGitWorld(t, nil)
			repo := w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
			must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
			w.settle()
			moved := repo.Commit(t, gittest.Commit{Files: map[string]string{"lib.go": "package lib // moved", "go.mod": "module " + lib + "\n\ngo 1.21\n"}})[0]
			repo.Tag(t, "v1.0.0", moved)
			// Time enough for a run with what was known.
			w.server.SetFault("*", gittest.Refs, proxytest.Delay(time.Second))
			var got []byte
			if kind == "info" {
				got = must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
			} else {
				got = must[[]byte](t)(w.read(lib, "v1.0.0", kind))
			}
			text := string(got)
			if kind == "zip" {
				text = inZip(t, got, lib+"@v1.0.0/lib.go")
			}
			if want := map[string]string{"info": moved, "mod": "go 1.21", "zip": "moved"}[kind]; !strings.Contains(text, want) {
				t.Errorf("%q has no %q", text, want)
			}
			must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
			repo.Untag(t, "v1.1.0")
			w.settle()
			_, err := w.read(lib, "v1.1.0", "zip")
			wantReason(t, "a tag that is gone", err, unknownVersion, "")
		})
	}
}
