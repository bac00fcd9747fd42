package upstream

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// runs returns how often the go command ran, by what for.
func (w *gitWorld) runs() map[string]uint64 {
	w.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(w.direct.metrics.runs)
	families, err := reg.Gather()
	if err != nil {
		w.Fatal(err)
	}
	runs := make(map[string]uint64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			runs[m.GetLabel()[0].GetValue()] = m.GetHistogram().GetSampleCount()
		}
	}
	return runs
}

// A branch and a commit cost one run of the go command: what it is, its go.mod
// and its zip come with it.
func TestDirectQueryIsOneRun(t *testing.T) {
	w := newGitWorld(t, nil)
	w.cfg.Dir = filepath.Join(t.TempDir(), "direct")
	var stop func()
	w.direct, stop = startDirect(t, w.cfg)
	repo := w.repo(lib, tagged("v1.0.0"), gittest.Commit{Files: map[string]string{"lib.go": "package lib // after it\n", "sub/go.mod": "module " + lib + "/sub\n"}})
	queries := []struct{ path, query string }{{lib, "main"}, {lib, repo.Git(t, "rev-parse", "v1.0.0")[:12]}, {lib + "/sub", "main"}}
	for _, query := range queries {
		version := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), query.path, query.query))).Version
		must[[]byte](t)(w.read(query.path, version, "mod"))
		zip := must[[]byte](t)(w.read(query.path, version, "zip"))
		if text := inZip(t, zip, query.path+"@"+version+"/go.mod"); !strings.Contains(text, query.path) {
			t.Errorf("%v: %q", query, text)
		}
	}
	stop() // a run is counted when it ends
	if n := w.runs(); n[runQuery] != uint64(len(queries)) || n[runDownload] != 0 {
		t.Errorf("runs of the go command for %d queries and what they mean: %v", len(queries), n)
	}
}

// What a branch is can be told although its zip cannot be made. Who wants that
// is told why.
func TestDirectQueryWithoutAZip(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, gittest.Commit{Files: map[string]string{"go.mod": "module " + lib + "\n", "a.go": "package a\n", "A.go": "package a\n"}})
	version := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), lib, "main"))).Version
	must[[]byte](t)(w.read(lib, version, "mod"))
	_, err := w.read(lib, version, "zip")
	wantReason(t, "zip", err, broken, "cannot be packed")
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "main"))
}
