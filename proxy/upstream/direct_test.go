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
