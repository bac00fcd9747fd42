package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// fetched is what "go mod download -json" and "go list -m -json" say.
type fetched struct {
	Path, Query, Version, Sum, GoModSum string
	Versions                            []string
	Error                               any // a text, or more
}

// goJSON runs a go command and decodes what it prints.
func goJSON(t *testing.T, env []string, args ...string) []fetched {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = t.TempDir(), env
	out, err := cmd.Output() // fails if one of many does
	var all []fetched
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var f fetched
		e := dec.Decode(&f)
		if e == io.EOF {
			break
		}
		if e != nil {
			t.Fatalf("go %s: %v, %v", args, e, err)
		}
		all = append(all, f)
	}
	return all
}

// Every version of a dozen repositories is the same through modgate as for a
// developer who has git and a password.
func TestPrivateModulesAreWhatGitHas(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("fetches a dozen repositories twice")
	}
	gittest.Need(t, "git", "go")
	root := t.TempDir()
	shapes := gittest.Shapes(t, root, "git.corp.example/team")
	c := &company{world: newWorld(t), rules: filepath.Join(t.TempDir(), "private.yaml")}
	c.git = gittest.Start(t, gittest.Config{Root: root, Accounts: []gittest.Account{{Prefix: "git.corp.example", User: "ci", Password: "s3cret"}}})
	c.forward = c.git.Proxy(t)
	c.allow(t, "s3cret")
	i := c.start(t)

	var modules, queries []string
	for _, s := range shapes {
		modules = append(modules, s.Modules...)
		queries = append(queries, s.Queries...)
		for _, path := range s.Modules {
			queries = append(queries, path+"@latest")
			for _, tag := range strings.Fields(s.Repo.Git(t, "tag")) {
				queries = append(queries, path+"@"+tag[strings.LastIndexByte(tag, '/')+1:])
			}
		}
	}
	slices.Sort(queries)
	queries = slices.DeleteFunc(slices.Compact(queries), func(q string) bool {
		return strings.Contains(q[strings.LastIndexByte(q, '@'):], "/") // which the go command asks no proxy for
	})

	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte("machine git.corp.example login ci password s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := append(goEnv(home, "direct", "off"), "HTTPS_PROXY="+c.forward.URL, "SSL_CERT_FILE="+c.git.CAFile, "GIT_SSL_CAINFO="+c.git.CAFile)
	without := append(goEnv(t.TempDir(), i.url, "off"), "GIT_ALLOW_PROTOCOL=none")
	for _, args := range [][]string{
		append([]string{"list", "-m", "-e", "-json", "-retracted", "-versions"}, modules...),
		append([]string{"mod", "download", "-json"}, queries...),
	} {
		want, got := goJSON(t, with, args...), goJSON(t, without, args...)
		if len(want) < len(args)-6 || len(want) != len(got) {
			t.Fatalf("go %s: %d answers, want %d", args[:2], len(got), len(want))
		}
		good := 0
		for n, w := range want {
			g := got[n]
			if w.Error == nil {
				good++
			}
			if (g.Error == nil) != (w.Error == nil) || w.Error == nil && (g.Path != w.Path || g.Version != w.Version || g.Sum != w.Sum || g.GoModSum != w.GoModSum || !slices.Equal(g.Versions, w.Versions)) {
				t.Errorf("%s@%s through modgate\n%+v\nfrom git\n%+v", w.Path, w.Query, g, w)
			}
		}
		if good < len(shapes) {
			t.Errorf("go %s: only %d answers without an error", args[:2], good)
		}
	}
	if t.Failed() {
		t.Log(lastLines(i.log(), 10))
	}
}
