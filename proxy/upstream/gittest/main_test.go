package gittest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const lib = "git.corp.example/team/lib"

// goMod is a commit of a module with one package.
func goMod(path string, tags ...string) Commit {
	return Commit{Files: map[string]string{"go.mod": "module " + path + "\n\ngo 1.20\n", "lib.go": "package lib\n"}, Tags: tags}
}

// a client is an empty home with programs that know the server.
type client struct {
	t   *testing.T
	env []string
}

func newClient(t *testing.T, env ...string) *client {
	home := t.TempDir()
	return &client{t, append(gitEnv("HOME="+home, "GOPATH="+filepath.Join(home, "go"), "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOPROXY=direct", "GOSUMDB=off"), env...)}
}

// through is newClient for the hosts of s, by its proxy and authority.
func through(t *testing.T, s *Server, f *Forward, env ...string) *client {
	return newClient(t, append([]string{"HTTPS_PROXY=" + f.URL, "SSL_CERT_FILE=" + s.CAFile, "GIT_SSL_CAINFO=" + s.CAFile}, env...)...)
}

func (c *client) netrc(line string) {
	c.t.Helper()
	for _, v := range c.env {
		if home, ok := strings.CutPrefix(v, "HOME="); ok && home != os.DevNull {
			if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte(line+"\n"), 0o600); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// try runs a command and returns all that it printed.
func (c *client) try(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), name, args...)
	cmd.Env, cmd.Dir = c.env, c.t.TempDir()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

// run is try that must succeed and print want.
func (c *client) run(want, name string, args ...string) {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil || !strings.Contains(out, want) {
		c.t.Errorf("%s %s: %v\n%s\nwant %q", name, strings.Join(args, " "), err, out, want)
	}
}

// fail is try that must fail and print want.
func (c *client) fail(want, name string, args ...string) {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err == nil || !strings.Contains(out, want) {
		c.t.Errorf("%s %s: %v\n%s\nwant a failure with %q", name, strings.Join(args, " "), err, out, want)
	}
}
