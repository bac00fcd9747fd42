package upstream

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// git may speak its own protocol, because it does so with the guard. Whatever
// URL it is given, it does so with nobody else, and over plain HTTP or ssh it
// reaches nobody.
func TestGitReachesNobodyElse(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"))
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	var connections atomic.Int32
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	u := parseURL(t, "https://"+lib+".git")
	j := &job{place: &place{root: lib, seen: u.String(), url: u}, repo: w.direct.repository(u), ctx: t.Context(), most: 1 << 20, refs: promised(&refs{})}
	defer w.direct.jobs.start(j)()
	files := must[*work](t)(w.direct.scratch())
	defer w.direct.discard(files)
	env := w.direct.childEnv(files, j, os.DevNull)
	if !strings.Contains(strings.Join(env, "\n"), "GIT_ALLOW_PROTOCOL=https:ssh:git\n") {
		t.Fatal("git's own protocol is not allowed: this test sees nothing")
	}
	for _, scheme := range []string{"git", "http", "https", "ssh", "ftp", "git+ssh", "ext"} {
		cmd := exec.CommandContext(t.Context(), w.direct.gitCmd, "ls-remote", scheme+"://"+l.Addr().String()+"/x")
		cmd.Env = append(slices.Clone(env), helperEnv+"="+helperSSH) // as git has it below the go command
		var exit *exec.ExitError
		if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) {
			t.Errorf("%s: %v %s", scheme, err, out)
		}
	}
	// The test itself must be able to see one.
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections to a host that no job is about", n)
	}
	c := must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
	if connections.Load() == 0 {
		t.Error("the listener does not count")
	}
	_ = l.Close()
	<-ended
}

// No rule and no go-import tag leads to a host by git's own protocol.
func TestDirectRefusesGitProtocol(t *testing.T) {
	w := newGitWorld(t, nil)
	for _, url := range []string{"git://" + gitHost + "/team/lib.git", "GIT://" + gitHost + "/team/lib.git", "git+ssh://" + gitHost + "/team/lib.git"} {
		rules := w.cfg.Rules
		rules.Repositories = []Repository{{Match: gitHost + "/*/*", URL: url}}
		if err := w.direct.SetRules(rules); err == nil || !strings.Contains(err.Error(), "want an https or ssh URL") {
			t.Errorf("a rule with %s: %v", url, err)
		}
		w.server.SetImport("go.corp.example/x", "git", url)
		if err := w.direct.SetRules(w.cfg.Rules); err != nil { // forgets what was found
			t.Fatal(err)
		}
		_, err := w.direct.Info(t.Context(), "go.corp.example/x", "v1.0.0")
		wantReason(t, url, err, forbidden, "want an https or ssh URL")
	}
	for _, r := range w.server.Requests() {
		if r.Kind != gittest.Meta {
			t.Errorf("asked for %s of %s", r.Kind, r.Path)
		}
	}
	for _, address := range w.dialed {
		if address != "127.0.0.1:443" {
			t.Errorf("dialed %s", address)
		}
	}
}
