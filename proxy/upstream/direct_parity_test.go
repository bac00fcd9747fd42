package upstream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// A developer is a go command that fetches by itself, in this environment.
type developer []string

func newDeveloper(t *testing.T, w *gitWorld) developer {
	t.Helper()
	home := t.TempDir()
	netrc := "machine " + gitHost + " login ci password secret\n"
	if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte(netrc), 0o600); err != nil {
		t.Fatal(err)
	}
	return developer{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOPROXY=direct", "GOSUMDB=off",
		"HTTPS_PROXY=" + w.server.Proxy(t).URL, "SSL_CERT_FILE=" + w.server.CAFile, "GIT_SSL_CAINFO=" + w.server.CAFile, "GIT_CONFIG_NOSYSTEM=1",
	}
}

// run returns what the go command printed; that it failed shows there, too.
func (d developer) run(t *testing.T, args ...string) []byte {
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env, cmd.Dir = d, t.TempDir()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Logf("go %s: %v: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// downloaded is what "go mod download -json" says of one version.
type downloaded struct {
	Path, Query, Version, Error, Info, GoMod, Sum string
}

func (d developer) download(t *testing.T, queries []string) []downloaded {
	t.Helper()
	var all []downloaded
	for dec := json.NewDecoder(bytes.NewReader(d.run(t, append([]string{"mod", "download", "-json"}, queries...)...))); ; {
		var m downloaded
		err := dec.Decode(&m)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	if len(all) != len(queries) {
		t.Fatalf("go mod download answered %d of %d", len(all), len(queries))
	}
	return all
}

// What comes from a repository by way of Direct is what the go command gets
// there: the same versions, times, go.mod files and hashes.
func TestDirectHasWhatTheGoCommandHas(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches a dozen repositories twice")
	}
	w := newGitWorld(t, nil)
	dev := newDeveloper(t, w)
	const group = gitHost + "/team"
	for _, shape := range gittest.Shapes(t, w.root, group) {
		t.Run(strings.TrimPrefix(shape.Repo.Name, group+"/"), func(t *testing.T) {
			t.Parallel()
			p := parity{t, w, dev}
			queries := shape.Queries
			for _, path := range shape.Modules {
				for _, v := range p.list(path) {
					queries = append(queries, path+"@"+v)
				}
				for _, tag := range strings.Fields(shape.Repo.Git(t, "tag")) { // also those that are no versions of this module
					queries = append(queries, path+"@"+tag[strings.LastIndexByte(tag, '/')+1:])
				}
				queries = append(queries, path+"@latest")
			}
			slices.Sort(queries)
			good := 0
			for _, want := range dev.download(t, slices.Compact(queries)) {
				if want.Error == "" {
					good++
				}
				p.compare(want)
			}
			if good == 0 {
				t.Error("nothing could be compared")
			}
		})
	}
}

// parity compares what Direct has with what a developer has.
type parity struct {
	*testing.T
	w   *gitWorld
	dev developer
}

// list returns the versions of a module that the go command knows.
func (p parity) list(path string) []string {
	p.Helper()
	want := strings.Fields(string(p.dev.run(p.T, "list", "-m", "-retracted", "-versions", path)))
	if len(want) > 0 {
		want = want[1:] // behind the path
	}
	got, err := p.w.direct.List(p.Context(), path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.Errorf("list of %s: %v", path, err)
	}
	semver.Sort(got)
	if !slices.Equal(got, want) {
		p.Errorf("list of %s: %q (%v), want %q", path, got, err, want)
	}
	return want
}

// compare fetches what the go command got, and what it did not get.
func (p parity) compare(want downloaded) {
	p.Helper()
	query := cmp.Or(want.Query, want.Version)
	name := want.Path + "@" + query
	info, err := p.w.direct.Info(p.Context(), want.Path, query)
	if want.Error != "" {
		if err == nil {
			_, err = p.w.read(want.Path, parseVersion(p, info).Version, "zip")
		}
		// What is there but cannot be packed is trouble.
		if !errors.Is(err, fs.ErrNotExist) && !(err != nil && strings.Contains(want.Error, "create zip")) {
			p.Errorf("%s: %v, want what is absent: %s", name, err, want.Error)
		}
		return
	}
	if err != nil {
		p.Errorf("%s: %v", name, err)
		return
	}
	got, wanted := parseVersion(p, info), parseVersion(p, readFile(p.T, want.Info))
	got.Origin.Ref, wanted.Origin.Ref = "", "" // of several tags on a commit it may be any
	if got.Version != want.Version || !got.Time.Equal(wanted.Time) || got.Origin != wanted.Origin {
		p.Errorf("%s: %+v, want %+v", name, got, wanted)
	}
	mod, err := p.w.read(want.Path, want.Version, "mod")
	if err != nil || !bytes.Equal(mod, readFile(p.T, want.GoMod)) {
		p.Errorf("%s: go.mod %q, %v, want %q", name, mod, err, readFile(p.T, want.GoMod))
	}
	zip, err := p.w.read(want.Path, want.Version, "zip")
	if err != nil {
		p.Errorf("%s: %v", name, err)
		return
	}
	file := filepath.Join(p.TempDir(), "zip")
	if err := os.WriteFile(file, zip, 0o600); err != nil {
		p.Fatal(err)
	}
	if sum, err := dirhash.HashZip(file, dirhash.Hash1); err != nil || sum != want.Sum {
		p.Errorf("%s has the hash %s (%v), want %s", name, sum, err, want.Sum)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
