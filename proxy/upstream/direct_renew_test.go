package upstream

import (
	"slices"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// A module that is to be asked for anew is, once, and no other repository is.
func TestDirectRenewsOneModule(t *testing.T) {
	const other = gitHost + "/team/other"
	w := newGitWorld(t, func(w *gitWorld) { w.cfg.RefsTTL = time.Hour })
	repos := map[string]*gittest.Repo{lib: w.repo(lib, tagged("v1.0.0")), other: w.repo(other, tagged("v1.0.0"))}
	list := func(path string, want ...string) {
		t.Helper()
		if got := must[[]string](t)(w.direct.List(t.Context(), path)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for path, r := range repos {
		list(path, "v1.0.0")
		r.Commit(t, tagged("v1.1.0"))
		list(path, "v1.0.0") // as it was an hour ago
	}
	asked := func(path string) int { return w.server.Count(path, "refs") }
	before, others := asked(lib), asked(other)
	if before == 0 || others == 0 {
		t.Fatalf("asked %d and %d times: this test counts nothing", before, others)
	}
	w.direct.Renew(lib)
	for range 2 {
		list(lib, "v1.0.0", "v1.1.0")
		list(other, "v1.0.0")
	}
	if n := asked(lib) - before; n != 1 {
		t.Errorf("the repository was asked %d times, want once", n)
	}
	if n := asked(other) - others; n != 0 {
		t.Errorf("another repository was asked %d times", n)
	}
	w.direct.Renew(other)
	list(other, "v1.0.0", "v1.1.0")
	repos[lib].Commit(t, tagged("v1.2.0"))
	w.direct.Renew(lib)
	if _, err := w.read(lib, "v1.2.0", "mod"); err != nil {
		t.Error(err)
	}
}
