package upstream

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// sshWorld is a gitWorld whose modules are fetched by SSH.
func sshWorld(t *testing.T, change func(*Credential)) (*gitWorld, *gittest.SSH) {
	t.Helper()
	gittest.Need(t, "sshd", "ssh-keygen")
	var s *gittest.SSH
	w := newGitWorld(t, func(w *gitWorld) {
		s = gittest.StartSSH(t, w.root)
		cred := Credential{Match: s.Addr, SSHKey: s.KeyFile, KnownHosts: w.file("known_hosts", s.KnownHosts())}
		if change != nil {
			change(&cred)
		}
		w.cfg.Rules.Credentials = []Credential{cred}
		w.cfg.Rules.Repositories = []Repository{{Match: gitHost + "/*/*", URL: s.URL(gitHost + "/{1}/{2}.git")}}
		w.cfg.NoProgress = 3 * time.Second
	})
	return w, s
}

// file writes a file for the test.
func (w *gitWorld) file(name, content string) string {
	w.Helper()
	name = filepath.Join(w.TempDir(), name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		w.Fatal(err)
	}
	return name
}

func TestDirectOverSSH(t *testing.T) {
	w, s := sshWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
	info := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0")))
	if info.Origin.URL != "https://"+lib {
		t.Errorf("the origin shows where the rule leads: %+v", info.Origin)
	}
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
	if list := must[[]string](t)(w.direct.List(t.Context(), lib)); len(list) != 2 {
		t.Errorf("list: %q", list)
	}
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "main"))
	if w.direct.repository(parseURL(t, s.URL(lib+".git"))).capabilities() == nil {
		t.Error("the host speaks version 2 of the protocol, and nobody noticed")
	}
	for _, c := range s.Commands() {
		if c != "git-upload-pack '/"+lib+".git'" {
			t.Errorf("command on the host: %q", c)
		}
	}
	_, err := w.direct.Info(t.Context(), gitHost+"/team/none", "v1.0.0")
	wantReason(t, "no repository", err, noRepository, "no such repository")
	_, err = w.direct.Info(t.Context(), lib, "v9.9.9")
	wantReason(t, "no version", err, unknownVersion, "no such")
	if len(w.server.Requests()) > 0 {
		t.Errorf("the host of the module path was asked: %v", w.server.Requests())
	}
}

// A host that does not let the version of the protocol through is served by
// git's own ssh, which is this program.
func TestDirectOverSSHVersion0(t *testing.T) {
	w, s := sshWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
	repo := w.direct.repository(parseURL(t, s.URL(lib+".git")))
	repo.asked = time.Now() // as if it had not
	for _, v := range []string{"v1.0.0", "v1.1.0"} {
		must[[]byte](t)(w.read(lib, v, "zip"))
	}
	if repo.capabilities() != nil {
		t.Error("version 2 was used")
	}
}

func TestDirectSSHTrouble(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*testing.T, *Credential)
		want   reason
		text   string
	}{
		{"unknown host key", func(t *testing.T, c *Credential) { c.KnownHosts = emptyFile(t) }, hostKey, "is not known"},
		{"another host key", func(t *testing.T, c *Credential) {
			known := must[[]byte](t)(os.ReadFile(c.KnownHosts))
			other := gittest.StartSSH(t, t.TempDir())
			f := strings.Fields(string(known))
			f2 := strings.Fields(other.KnownHosts())
			c.KnownHosts = filepath.Join(t.TempDir(), "known")
			if err := os.WriteFile(c.KnownHosts, []byte(f[0]+" "+f2[1]+" "+f2[2]+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, hostKey, "another than the known one"},
		{"another key", func(t *testing.T, c *Credential) { c.SSHKey = gittest.StartSSH(t, t.TempDir()).KeyFile }, unauthorized, "refuses the SSH key"},
		{"no key", func(t *testing.T, c *Credential) { c.SSHKey = "env:NOWHERE" }, misconfigured, "cannot be read"},
		{"a key file that is none", func(t *testing.T, c *Credential) { c.SSHKey = c.KnownHosts }, misconfigured, "cannot be used"},
		{"a key with a passphrase", func(t *testing.T, c *Credential) {
			data := must[[]byte](t)(os.ReadFile(c.SSHKey))
			c.SSHKey = filepath.Join(t.TempDir(), "locked")
			if err := os.WriteFile(c.SSHKey, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("ssh-keygen", "-p", "-q", "-P", "", "-N", "canary", "-f", c.SSHKey).CombinedOutput(); err != nil {
				t.Fatalf("ssh-keygen: %v: %s", err, out)
			}
		}, misconfigured, "has a passphrase"},
		{"another host", func(t *testing.T, c *Credential) { c.Match = "elsewhere.corp.example" }, unauthorized, "wants an SSH key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, s := sshWorld(t, func(c *Credential) { tt.change(t, c) })
			w.repo(lib, tagged("v1.0.0"))
			_, err := w.direct.Info(t.Context(), lib, "v1.0.0")
			wantReason(t, tt.name, err, tt.want, tt.text)
			if entries, err := os.ReadDir(filepath.Join(w.cfg.Dir, "vcs")); err != nil || len(entries) > 0 {
				t.Errorf("kept of it: %v %v", entries, err)
			}
			rules := w.cfg.Rules
			rules.Credentials = []Credential{{Match: s.Addr, SSHKey: s.KeyFile, KnownHosts: w.file("known_hosts", s.KnownHosts())}}
			if err := w.direct.SetRules(rules); err != nil {
				t.Fatal(err)
			}
			must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
		})
	}
}

// Names in known_hosts may be hashed (ssh-keygen -H), as Debian's are.
func TestDirectSSHHashedKnownHosts(t *testing.T) {
	w, _ := sshWorld(t, func(c *Credential) {
		if out, err := exec.Command("ssh-keygen", "-H", "-f", c.KnownHosts).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
		if data := must[[]byte](t)(os.ReadFile(c.KnownHosts)); !strings.HasPrefix(string(data), "|1|") {
			t.Fatalf("not hashed: %s", data)
		}
	})
	w.repo(lib, tagged("v1.0.0"))
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
}

func emptyFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A host that says nothing, before or after the greeting, is given up.
func TestDirectSSHHangs(t *testing.T) {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	w, _ := sshWorld(t, func(c *Credential) { c.Match = l.Addr().String() })
	rules := w.cfg.Rules
	rules.Repositories = []Repository{{Match: gitHost + "/*/*", URL: "ssh://git@" + l.Addr().String() + "/{1}/{2}"}}
	if err := w.direct.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := w.direct.Info(ctx, lib, "v1.0.0")
	wantReason(t, "silent host", err, timedOut, "did not answer in time")
}
