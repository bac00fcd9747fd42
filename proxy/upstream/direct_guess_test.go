package upstream

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// guessed waits until the go command has written a file of a version although
// the host has not yet said what the refs are.
func (w *gitWorld) guessed(version, kind string, giveUp <-chan struct{}) {
	w.Helper()
	name := filepath.Join(w.cfg.Dir, "run", "*", "work", "*", "cache", "download", filepath.FromSlash(lib), "@v", version+"."+kind)
	for begin := time.Now(); ; {
		if names, _ := filepath.Glob(name); len(names) > 0 {
			return
		}
		if time.Since(begin) > 20*time.Second {
			w.Errorf("no %s of %s was made of what is probable: this test tests nothing", kind, version)
			return
		}
		select {
		case <-time.After(look):
		case <-giveUp:
			return
		}
	}
}

// content returns a file of a version, as text that names its commit.
func (w *gitWorld) content(version, kind string) (string, error) {
	if kind == "info" {
		data, err := w.direct.Info(w.Context(), lib, version)
		return string(data), err
	}
	data, err := w.read(lib, version, kind)
	if kind == "zip" && err == nil {
		return inZip(w, data, lib+"@"+version+"/lib.go"), nil
	}
	return string(data), err
}

// What a run has made of a guess is believed only if the host confirms it. When
// the host fails instead, nobody gets anything of it, then or later, and the
// first request after that is answered with what the tag is by then.
func TestDirectBelievesNoGuessUnconfirmed(t *testing.T) {
	for _, c := range []struct {
		name string
		then proxytest.Fault // after the run with the guess; nil: as it is
		want reason
	}{
		{"unavailable", proxytest.Status(http.StatusServiceUnavailable, "down"), unreachable},
		{"unauthorized", gittest.Unauthorized(), unauthorized},
		{"deleted", nil, unknownVersion},
		{"hung", proxytest.Stall(-1), timedOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, repo := lookingAhead(t, 0, 0)
			if c.want == timedOut {
				w.cfg.NoProgress = 4 * time.Second // the run with the guess takes less
				w.direct, _ = startDirect(t, w.cfg)
			}
			must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
			w.ahead()
			moved := repo.Commit(t, gittest.Commit{Files: map[string]string{"lib.go": "package lib // moved", "go.mod": "module " + lib + "\n\ngo 1.21\n"}})[0]
			for version, kind := range map[string]string{"v1.2.0": "info", "v1.3.0": "mod", "v1.8.0": "zip"} {
				w.settle()
				if repo.Tag(t, version, moved); c.want == unknownVersion {
					repo.Untag(t, version)
				}
				made := kind
				if kind == "info" {
					made = "zip" // which the same run makes
				}
				w.server.SetFault("*", gittest.Refs, func(x proxytest.Exchange) {
					w.guessed(version, made, x.R.Context().Done())
					if c.then == nil {
						x.Honest.ServeHTTP(x.W, x.R)
						return
					}
					c.then(x)
				})
				_, err := w.content(version, kind)
				wantReason(t, kind+", unconfirmed", err, c.want, "")
				if c.then != nil {
					w.server.SetFault("*", gittest.Refs, c.then)
				} else {
					w.server.SetFault("*", gittest.Refs, nil)
				}
				if c.want != timedOut { // which takes long, and is no other way
					for _, other := range []string{"info", "mod", "zip"} {
						_, err := w.content(version, other)
						wantReason(t, other+" after the failure", err, c.want, "")
					}
				}
				w.server.SetFault("*", gittest.Refs, nil)
				repo.Tag(t, version, moved)
				for other, want := range map[string]string{"info": moved, "mod": "go 1.21", "zip": "moved"} {
					if got, err := w.content(version, other); err != nil || !strings.Contains(got, want) {
						t.Errorf("%s at once after recovery: %q, %v; want %q", other, got, err, want)
					}
				}
			}
		})
	}
}

// A run that failed is not the answer to who comes after it, unless no run can
// do better.
func TestPackingFailed(t *testing.T) {
	over := make(chan struct{})
	close(over)
	for _, c := range []struct {
		name string
		run  *packing
		want bool
	}{
		{"never started", nil, false},
		{"running", &packing{done: make(chan struct{})}, false},
		{"done", &packing{done: over}, false},
		{"unreachable", &packing{done: over, err: troubled(unreachable, nil, "")}, true},
		{"stopped", &packing{done: over, err: troubled(stopped, nil, "")}, true},
		{"too large", &packing{done: over, err: troubled(tooBig, nil, "")}, false},
		{"later go", &packing{done: over, err: troubled(oldGo, nil, "")}, false},
	} {
		if got := c.run.failed(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
