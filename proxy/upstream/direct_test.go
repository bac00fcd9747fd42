package upstream

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io/fs"
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
	if text := inZip(t, must[[]byte](t)(w.read(lib, "v1.0.0", "zip")), lib+"@v1.0.0/lib.go"); text != "package lib // v1.0.0\n" {
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

// inZip returns a file of a zip.
func inZip(t testing.TB, data []byte, name string) string {
	t.Helper()
	text, err := fs.ReadFile(must[*zip.Reader](t)(zip.NewReader(bytes.NewReader(data), int64(len(data)))), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Repositories are found behind vanity hosts, in groups of groups, by a .git
// in the path, and by rules, also for hosts that the go command knows itself.
func TestDirectFindsRepositories(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Private = "*.corp.example,github.com/corp"
		w.cfg.Rules.Repositories = []Repository{
			{Match: "github.com/corp/*", URL: "https://" + gitHost + "/team/{1}.git"},
			{Match: "deep.corp.example/*/*/*", URL: "https://" + gitHost + "/team/{3}"},
		}
	})
	goMod := func(path string) map[string]string { return map[string]string{"go.mod": "module " + path + "\n"} }
	const group = gitHost + "/team/a/b/proj"
	w.repo(group, tagged("v1.0.0"), gittest.Commit{Files: map[string]string{"sub/go.mod": "module " + group + "/sub\n"}, Tags: []string{"sub/v1.0.0"}})
	gittest.NewRepo(t, w.root, gitHost+"/team/hub", gittest.Commit{Files: goMod("github.com/corp/hub"), Tags: []string{"v1.0.0"}})
	gittest.NewRepo(t, w.root, gitHost+"/team/deep", gittest.Commit{Files: goMod("deep.corp.example/x/y/deep"), Tags: []string{"v1.0.0"}})
	gittest.NewRepo(t, w.root, gitHost+"/team/dot", gittest.Commit{Files: goMod(gitHost + "/team/dot.git"), Tags: []string{"v1.0.0"}})
	gittest.NewRepo(t, w.root, gitHost+"/team/vanity", gittest.Commit{Files: map[string]string{"go.mod": "module go.corp.example/vanity\n", "in/here/go.mod": "module go.corp.example/inside\n"}, Tags: []string{"v1.0.0", "in/here/v1.0.0"}})
	w.server.SetImport("go.corp.example/vanity", "git", "https://"+gitHost+"/team/vanity.git")
	w.server.SetImport("go.corp.example/inside", "git", "https://"+gitHost+"/team/vanity.git in/here")
	for _, path := range []string{
		group, group + "/sub", "github.com/corp/hub", "deep.corp.example/x/y/deep", gitHost + "/team/dot.git",
		"go.corp.example/vanity", "go.corp.example/inside",
	} {
		for range 2 { // the second time by git's own protocol
			if list := must[[]string](t)(w.direct.List(t.Context(), path)); !slices.Equal(list, []string{"v1.0.0"}) {
				t.Errorf("%s: list %q", path, list)
			}
			mod := must[[]byte](t)(w.read(path, "v1.0.0", "mod"))
			if string(bytes.Fields(mod)[1]) != path {
				t.Errorf("%s: go.mod is %q", path, mod)
			}
			must[[]byte](t)(w.read(path, "v1.0.0", "zip"))
			must[[]byte](t)(w.direct.Info(t.Context(), path, "main"))
		}
	}
	for _, r := range w.server.Requests() {
		if strings.HasPrefix(r.Host, "github.com") || strings.HasPrefix(r.Host, "deep.") {
			t.Errorf("asked %s although there is a rule", r.Host)
		}
	}
	_, err := w.direct.List(t.Context(), gitHost+"/team/a/b/none")
	wantAbsent(t, "no project", err)
}

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
	w.repo(lib, gittest.Commit{Files: map[string]string{"go.mod": "module " + lib + "\n\ngo 1.99\n"}, Tags: []string{"v1.0.0"}}, gittest.Commit{Files: map[string]string{"a.go": "package lib\n"}})
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "latest"))
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "main"))
	must[[]byte](t)(w.read(lib, "v1.0.0", "mod"))
	_, err := w.read(lib, "v1.0.0", "zip")
	wantReason(t, "zip", err, oldGo, "wants go 1.99")
}

func second[T any](_ T, err error) error { return err }
