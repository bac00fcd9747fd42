package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// company is a world with private repositories, and what modgate must be told
// to reach them.
type company struct {
	*world
	git     *gittest.Server
	forward *gittest.Forward
	lib     *gittest.Repo
	repos   string // directory of the repositories
	rules   string // file of direct.file
}

const libPath = "git.corp.example/team/lib"

func newCompany(t *testing.T) *company {
	t.Helper()
	gittest.Need(t, "git", "go")
	root := t.TempDir()
	c := &company{world: newWorld(t), repos: root}
	c.lib = gittest.NewRepo(t, root, libPath, gittest.Commit{
		Files: map[string]string{
			"go.mod":         "module " + libPath + "\n\ngo 1.21\n\nrequire example.com/greet v1.0.0\n",
			"lib.go":         "package lib\n\nconst Name = \"lib\"\n",
			"sub/sub.go":     "package sub\n\nimport _ \"example.com/greet\"\n\nconst Name = \"sub\"\n",
			"tool/go.mod":    "module " + libPath + "/tool\n\ngo 1.21\n",
			"tool/tool.go":   "package tool\n",
			"internal/x.txt": "x",
		},
		Tags: []string{"v1.0.0", "tool/v0.3.0"},
	}, gittest.Commit{Files: map[string]string{"lib.go": "package lib\n\nconst Name = \"lib 1.1\"\n"}, Tags: []string{"v1.1.0"}})
	c.git = gittest.Start(t, gittest.Config{Root: root, Accounts: []gittest.Account{{Prefix: "git.corp.example", User: "ci", Password: "s3cret"}}})
	c.forward = c.git.Proxy(t)
	c.rules = filepath.Join(t.TempDir(), "private.yaml")
	c.allow(t, "s3cret")
	return c
}

// allow writes the rules with this password.
func (c *company) allow(t *testing.T, password string) {
	t.Helper()
	text := fmt.Sprintf("credentials:\n  - {match: git.corp.example, username: ci, password: %s}\n", password)
	if err := os.WriteFile(c.rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start starts a server that reaches the repositories through a proxy.
func (c *company) start(t *testing.T, args ...string) *instance {
	t.Helper()
	return c.launch(t, []string{"HTTPS_PROXY=" + c.forward.URL}, args...)
}

func (c *company) launch(t *testing.T, environ []string, args ...string) *instance {
	t.Helper()
	flags := append(c.flags(), "--private=git.corp.example/*", "--direct-file="+c.rules, "--tls-trust="+c.git.CAFile, "--log-level=debug")
	i, err := launch(environ, t.TempDir(), append(flags, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// lastLines returns the end of a log.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// TestPrivateSession is a day of a developer who has neither git nor a
// password: private and public modules come through one GOPROXY, and nobody
// outside learns a private name.
func TestPrivateSession(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	i := c.start(t)
	c.session(t, i, i.url)
	for _, host := range c.forward.Asked() {
		if host != "git.corp.example:443" {
			t.Errorf("the proxy was asked for %s", host)
		}
	}
}

// session works with the server at url and looks who has learned what.
func (c *company) session(t *testing.T, i *instance, url string) {
	t.Helper()
	client := c.developer(t, url)
	run := func(args ...string) string {
		t.Helper()
		out, err := client(args...)
		if err != nil {
			t.Fatalf("go %v: %v\n%s\n%s", args, err, out, lastLines(i.log(), 20))
		}
		return out
	}
	run("get", "git.corp.example/team/lib/sub@v1.0.0")
	run("mod", "tidy")
	if out := run("list", "-m", "-u", "all"); !strings.Contains(out, libPath+" v1.0.0 [v1.1.0]") {
		t.Errorf("go list -m -u all shows no update of the private module:\n%s", out)
	}
	run("get", libPath+"@latest", libPath+"/tool@latest")
	run("mod", "download")
	if out := run("run", "-buildvcs=false", "."); !strings.Contains(out, "lib 1.1 sub") {
		t.Errorf("the program prints %q", out)
	}
	if out := run("list", "-m", "-json", libPath+"@main"); !strings.Contains(out, `"Hash"`) || !strings.Contains(out, "v1.1.0") {
		t.Errorf("a branch leads to\n%s", out)
	}
	for _, probe := range []string{"git.corp.example", "git.corp.example/team", libPath + "/sub", libPath + "/none/deeper"} {
		for _, file := range []string{"/@v/list", "/@latest", "/@v/v1.0.0.info"} {
			if code, body := get(t, i.url+"/"+probe+file); code != http.StatusNotFound && !(probe == libPath+"/sub" && code == 200) {
				t.Errorf("%s%s: %d %s", probe, file, code, body)
			}
		}
	}
	if code, _ := get(t, i.url+"/sumdb/"+c.log.Name()+"/lookup/"+libPath+"@v1.0.0"); code != http.StatusForbidden {
		t.Errorf("a lookup of a private module: %d, want 403", code)
	}
	c.wantNoLeak(t)
	if strings.Contains(i.log(), "s3cret") {
		t.Error("the password is in the log")
	}
}

// developer returns what runs the go command for somebody who has nothing yet,
// in a module that needs lib. What environ has counts before all else.
func (c *company) developer(t *testing.T, url string, environ ...string) func(args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	app := filepath.Join(home, "app")
	if err := os.Mkdir(app, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod":  "module app.example.org/app\n\ngo 1.21\n",
		"main.go": "package main\n\nimport (\n\t\"git.corp.example/team/lib\"\n\t\"git.corp.example/team/lib/sub\"\n)\n\nfunc main() { println(lib.Name, sub.Name) }\n",
	} {
		if err := os.WriteFile(filepath.Join(app, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	goPath, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (string, error) {
		cmd := exec.Command(goPath, args...)
		cmd.Dir = app
		cmd.Env = append(goEnv(home, url, c.log.Key()), "PATH="+filepath.Dir(goPath), "GONOPROXY=none", "GONOSUMDB=git.corp.example/*")
		cmd.Env = append(cmd.Env, environ...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// wantNoLeak fails if anybody but the company's own server has learned a
// private name.
func (w *world) wantNoLeak(t *testing.T) {
	t.Helper()
	for _, r := range w.upstream.Requests() {
		if strings.Contains(r.Path, "corp") {
			t.Errorf("the upstream has learned %s", r.Path)
		}
	}
	for _, path := range w.log.Requests("") {
		if strings.Contains(path, "corp") {
			t.Errorf("the checksum database has learned %s", path)
		}
	}
}

// TestPrivateMovedTag moves a tag whose first content is not cached any more:
// it is refused with both hashes until an operator accepts it, and so is its
// .mod, which nobody had asked for but with the zip.
func TestPrivateMovedTag(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	i := c.start(t, "--cache-memory=0", "--ttl-private=0s")
	zip := i.url + "/" + libPath + "/@v/v1.0.0.zip"
	if code, body := get(t, zip); code != 200 {
		t.Fatalf("%d %s\n%s", code, body, lastLines(i.log(), 20))
	}
	hashes := c.lib.Commit(t, gittest.Commit{Files: map[string]string{"go.mod": "module " + libPath + "\n\ngo 1.20\n", "lib.go": "package lib\n\nconst Name = \"evil\"\n"}})
	c.lib.Tag(t, "v1.0.0", hashes[0])
	purge := func() {
		t.Helper()
		if _, err := modgate(t, "cache", "purge", "--cache-dir="+i.dir, libPath+"@v1.0.0"); err != nil {
			t.Fatal(err)
		}
	}
	purge()
	mod := strings.TrimSuffix(zip, ".zip") + ".mod"
	for url, content := range map[string]string{mod: "with other go.mod", zip: "with other content"} {
		code, body := get(t, url)
		for _, part := range []string{"received: h1:", "expected: h1:", content, "its tag was moved"} {
			if code != http.StatusForbidden || !strings.Contains(body, part) {
				t.Errorf("moved tag: %d %q, want 403 with %q", code, body, part)
			}
		}
	}
	if m := metrics(t, i); m["modgate_pin_mismatches_total"] == 0 {
		t.Error("modgate_pin_mismatches_total does not count it")
	}
	if !strings.Contains(i.log(), "security:") {
		t.Error("the log has no security event")
	}
	if _, err := modgate(t, "pin", "accept", "--cache-dir="+i.dir, libPath+"@v1.0.0", "--reason=test"); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{mod, zip} {
		if code, body := get(t, url); code != 200 {
			t.Errorf("after it was accepted: %d %s", code, body)
		}
	}
}

// TestPrivateTrouble: each thing that can be wrong with a repository has its
// own text, is no absence, and leaves nothing behind; the next request works.
func TestPrivateTrouble(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	i := c.start(t, "--cache-memory=0", "--ttl-private=0s")
	list := i.url + "/" + libPath + "/@v/list"
	c.git.SetAccounts(gittest.Account{Prefix: "git.corp.example", User: "ci", Password: "another"})
	if code, body := get(t, list); code != http.StatusBadGateway || !strings.Contains(body, "credentials") || strings.Contains(body, "s3cret") {
		t.Errorf("expired password: %d %q", code, body)
	}
	c.allow(t, "another")
	i.cmd.Process.Signal(syscall.SIGHUP)
	until(t, "the new password works", func() bool { code, _ := get(t, list); return code == 200 })
	if code, _ := get(t, i.url+"/"+libPath+"/@v/v1.9.9.info"); code != http.StatusNotFound {
		t.Errorf("unknown version: %d, want 404", code)
	}
	c.lib.Tag(t, "v1.9.9", "main")
	if code, body := get(t, i.url+"/"+libPath+"/@v/v1.9.9.info"); code != 200 {
		t.Errorf("a tag that was pushed after it was missed: %d %s", code, body)
	}
	if code, body := get(t, i.url+"/git.corp.example/team/none/@v/list"); code != http.StatusNotFound {
		t.Errorf("no such repository: %d %s", code, body)
	}
	entries, err := filepath.Glob(filepath.Join(i.dir, "git.corp.example", "team", "none", "*"))
	if err != nil || slices.ContainsFunc(entries, func(string) bool { return true }) {
		t.Errorf("stored for what does not exist: %v %v", entries, err)
	}
}
