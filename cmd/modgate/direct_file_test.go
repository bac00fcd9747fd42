package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file of rules that serve would refuse is refused by config --check, without
// a word of what stands beside the mistake.
func TestDirectFileIsChecked(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "private.yaml")
	check := func(args ...string) error {
		t.Helper()
		_, err := modgate(t, append([]string{"config", "--check", "--direct-file=" + file}, args...)...)
		return err
	}
	for name, test := range map[string]struct{ text, want string }{
		"no file":        {"", "cannot be read"},
		"unknown key":    {"credentials:\n  - match: git.corp.example\n    password: canary\n    sshkey: x\n", "sshkey"},
		"no known hosts": {"credentials:\n  - match: git.corp.example\n    ssh_key: /x\n", "known hosts"},
		"plain http":     {"repositories:\n  - {match: git.corp.example/*, url: 'http://10.0.0.1/{1}'}\n", "http"},
		"mercurial":      {"mercurial: ['*']\n", "pattern of module paths"},
		"network":        {"networks: [ten]\n", "ten"},
	} {
		if test.text != "" {
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			os.Remove(file)
		}
		err := check("--private=git.corp.example/*")
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "direct.file") {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the password is shown: %v", name, err)
		}
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := check("--private=git.corp.example/*"); err != nil {
		t.Errorf("no rules: %v", err)
	}
	if err := check(); err == nil || !strings.Contains(err.Error(), "name their patterns") {
		t.Errorf("rules without private modules: %v", err)
	}
}
