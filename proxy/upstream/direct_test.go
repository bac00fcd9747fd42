package upstream

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// version is what an .info says.
type version struct {
	Version string
	Time    time.Time
	Origin  struct{ VCS, URL, Subdir, Ref, Hash string }
}

func parseVersion(t testing.TB, info []byte) version {
	t.Helper()
	var v version
	if err := json.Unmarshal(info, &v); err != nil {
		t.Fatalf("%q: %v", info, err)
	}
	return v
}

func TestDirectServesAModule(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"), tagged("not-a-version"))
	info := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0")))
	if info.Version != "v1.0.0" || info.Time.Year() != 2024 || info.Origin.Ref != "refs/tags/v1.0.0" || info.Origin.URL != "https://"+lib+".git" {
		t.Errorf("info: %+v", info)
	}
	mod := must[[]byte](t)(w.read(lib, "v1.0.0", "mod"))
	if !strings.HasPrefix(string(mod), "module "+lib+"\n") {
		t.Errorf("mod: %q", mod)
	}
	data := must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	f := must[io.ReadCloser](t)(fileIn(z, lib+"@v1.0.0/lib.go"))
	if text := must[[]byte](t)(io.ReadAll(f)); string(text) != "package lib // v1.0.0\n" {
		t.Errorf("lib.go: %q", text)
	}
	if list := must[[]string](t)(w.direct.List(t.Context(), lib)); !slices.Equal(list, []string{"v1.0.0", "v1.1.0"}) {
		t.Errorf("list: %q", list)
	}
	for query, want := range map[string]string{"latest": "v1.1.0", "v1": "v1.1.0", "v1.0": "v1.0.0"} {
		if got := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), lib, query))); got.Version != want {
			t.Errorf("%s is %s, want %s", query, got.Version, want)
		}
	}
	branch := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), lib, "main")))
	if !strings.HasPrefix(branch.Version, "v1.1.1-0.2024") {
		t.Errorf("main is %q", branch.Version)
	}
	for _, kind := range []string{"mod", "zip"} {
		must[[]byte](t)(w.read(lib, branch.Version, kind))
	}
}

func fileIn(z *zip.Reader, name string) (io.ReadCloser, error) { return z.Open(name) }

// What is only a directory, or not even that, is no module.
func TestDirectKnowsWhatIsNoModule(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, gittest.Commit{Files: map[string]string{"dir/d.go": "package dir\n"}, Tags: []string{"v1.0.0"}})
	for _, path := range []string{lib + "/dir", lib + "/v2", lib + "/absent/x", gitHost + "/team/none", gitHost + "/team"} {
		for _, err := range []error{
			second(w.direct.List(t.Context(), path)),
			second(w.direct.Info(t.Context(), path, "latest")),
			second(w.direct.Info(t.Context(), path, "main")),
			second(w.direct.Info(t.Context(), path, "v2.0.0")),
		} {
			wantAbsent(t, path, err)
		}
	}
}

// A module that wants a later go than this server has is known, but its zip
// is made by the go command, which refuses.
func TestDirectModuleForALaterGo(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, gittest.Commit{Files: map[string]string{"go.mod": "module " + lib + "\n\ngo 1.99\n"}, Tags: []string{"v1.0.0"}})
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "latest"))
	must[[]byte](t)(w.read(lib, "v1.0.0", "mod"))
	_, err := w.read(lib, "v1.0.0", "zip")
	wantReason(t, "zip", err, oldGo, "wants go 1.99")
}

func second[T any](_ T, err error) error { return err }
