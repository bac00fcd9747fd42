package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// Credentials of private hosts are tried where they can be, and a private module
// is found as a server finds it.
func TestDoctorOnCredentials(t *testing.T) {
	gittest.Need(t, "sshd", "ssh-keygen")
	c := newCompany(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	ssh := gittest.StartSSH(t, t.TempDir())
	known := file("known_hosts", ssh.KnownHosts())
	strangerKey := filepath.Join(dir, "stranger")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", strangerKey).CombinedOutput(); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	netrc := file("netrc", "machine other.corp.example login ci password s3cret\n")
	bySSH := func(key string) string {
		return "credentials:\n  - {match: '" + ssh.Addr + "', ssh_key: " + key + ", known_hosts: " + known + "}\nrepositories:\n  - {match: git.corp.example/*, url: '" + ssh.URL("{1}.git") + "'}\nnetworks: [127.0.0.1/32]\n"
	}
	named := "repositories:\n  - {match: " + libPath + ", url: 'https://" + libPath + ".git'}\n"
	password := func(word string) string {
		return "credentials:\n  - {match: git.corp.example, username: ci, password: " + word + "}\n"
	}
	for _, test := range []struct{ name, rules, module, want, says string }{
		{"a password", password("s3cret"), "", "", "the password can be read"},
		{"a password and a module", password("s3cret"), libPath, "", "2 versions"},
		{"a wrong password and a module", password("hunter2"), libPath, "server-private", "git.corp.example"},
		{"a repository", password("s3cret") + named, "", "", "the password opens the repository"},
		{"a wrong password for a repository", password("hunter2") + named, "", "server-credential", "git.corp.example"},
		{"a file that is not there", password("file:" + filepath.Join(dir, "nowhere")), "", "server-config", "nowhere"},
		{"a netrc without the host", "credentials:\n  - {match: git.corp.example, netrc: " + netrc + "}\n", "", "server-credential", "has no entry"},
		{"none", "credentials: []\n", "", "", "it is asked as anybody may"},
		{"an SSH key", bySSH(ssh.KeyFile), "", "", "the SSH key is accepted"},
		{"an SSH key of nobody", bySSH(strangerKey), "", "server-credential", "SSH key: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := append(c.flags(), "--private=git.corp.example/*", "--direct-file="+file("rules.yaml", test.rules), "--tls-trust="+c.git.CAFile)
			cmd := exec.Command("modgate", strings.Fields("doctor --server --json "+test.module)...)
			cmd.Env = append(machineEnv(t, flags), "HTTPS_PROXY="+c.forward.URL)
			out, _ := cmd.Output()
			var r struct {
				Findings []struct{ Code, Severity string }
			}
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got := []string{}
			for _, f := range r.Findings {
				if f.Severity != "note" {
					got = append(got, f.Code)
				}
			}
			slices.Sort(got)
			if strings.Join(got, " ") != test.want || !strings.Contains(string(out), test.says) || strings.Contains(string(out), "hunter2") || strings.Contains(string(out), "s3cret") {
				t.Errorf("found %q, want %q and %q\n%s", got, test.want, test.says, out)
			}
		})
	}
}
