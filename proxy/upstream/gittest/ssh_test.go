package gittest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSSH(t *testing.T) {
	Need(t, "git", "ssh", "ssh-keygen", "sshd")
	root := t.TempDir()
	NewRepo(t, root, lib, goMod(lib, "v1.0.0"))
	s := StartSSH(t, root)
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte(s.KnownHosts()), 0o600); err != nil {
		t.Fatal(err)
	}
	ssh := "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -i " + s.KeyFile + " -o UserKnownHostsFile="
	good := newClient(t, "GIT_SSH_COMMAND="+ssh+known)
	good.run("refs/tags/v1.0.0", "git", "ls-remote", s.URL(lib))
	good.run("", "git", "-c", "protocol.version=2", "clone", "--bare", s.URL(lib)+".git", "clone")
	good.fail("does not appear to be a git repository", "git", "ls-remote", s.URL("git.corp.example/absent"))
	good.fail("only git-upload-pack is served", "git", "archive", "--remote="+s.URL(lib), "v1.0.0")
	newClient(t, "GIT_SSH_COMMAND="+ssh+"/dev/null").fail("Host key verification failed", "git", "ls-remote", s.URL(lib))
	other := newSSHKey(t, filepath.Join(t.TempDir(), "key"))
	if strings.Contains(s.KnownHosts(), other) {
		t.Error("two keys are the same")
	}
	t.Run("another key", func(t *testing.T) {
		second := StartSSH(t, root)
		wrong := strings.Replace(ssh, s.KeyFile, second.KeyFile, 1)
		newClient(t, "GIT_SSH_COMMAND="+wrong+known).fail("Permission denied", "git", "ls-remote", s.URL(lib))
	})
	if got := s.Commands(); !slices.Contains(got, "git-upload-pack '/"+lib+"'") {
		t.Errorf("commands %q", got)
	}
}
