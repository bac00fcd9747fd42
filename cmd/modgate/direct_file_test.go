package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/upstream"
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
		"no file":          {"", "cannot be read"},
		"unknown key":      {"credentials:\n  - match: git.corp.example\n    password: canary\n    sshkey: x\n", "sshkey"},
		"no known hosts":   {"credentials:\n  - match: git.corp.example\n    ssh_key: /x\n", "known hosts"},
		"plain http":       {"repositories:\n  - {match: git.corp.example/*, url: 'http://10.0.0.1/{1}'}\n", "http"},
		"mercurial":        {"mercurial: ['*']\n", "pattern of module paths"},
		"star":             {"repositories:\n  - match: *.corp.example/x\n", `private.yaml:2: repositories[0].match: a word that begins with * needs quotes: write "*.corp.example/x"`},
		"secret star":      {"credentials:\n  - match: x\n    password: *canary\n", `write "*…"`},
		"nearest":          {"credential:\n  - match: x\n", `private.yaml:1: credential: "credential" is not a key: did you mean credentials?`},
		"no list":          {"networks: 10.1.2.3\n", "private.yaml:1: networks: a list is expected here"},
		"list at top":      {"- match: x\n", "private.yaml:1: the file: keys are expected here"},
		"cut off":          {"# rules\n", "the file says nothing"},
		"blank":            {" \n", "the file says nothing"},
		"null":             {"~\n", "the file says nothing"},
		"nothing behind":   {"networks: [10.1.2.3]\ncredentials:\n", "private.yaml:2: credentials: nothing stands behind the key"},
		"network":          {"networks:\n  - 10.1.2.3\n  - ten\n", `private.yaml:3: networks[1]: "ten": want an address`},
		"line of a key":    {"credentials:\n  - match: a.corp.example\n    password: canary\n  - match: git.corp.example\n    ssh_key: /absent/key\n    known_hosts: /absent/hosts\n", `private.yaml:5: credentials[1].ssh_key (match "git.corp.example"): stat /absent/key`},
		"next to it":       {"credentials:\n  - match: git.corp.example\n    ssh_key: /absent/key\n    known_hosts: /absent/hosts\n", `private.yaml:4: credentials[0].known_hosts (match`},
		"line of an entry": {"# rules\ncredentials:\n  - match: git.corp.example\n", `private.yaml:3: credentials[0] (match "git.corp.example"): want exactly one of`},
		"line of a url":    {"repositories:\n- match: git.corp.example/*\n  url: https://10.0.0.1/{2}\n", `private.yaml:3: repositories[0].url (match "git.corp.example/*"): {2} in the URL`},
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
	if err := os.WriteFile(file, []byte("repositories: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := check("--private=git.corp.example/*"); err != nil {
		t.Errorf("no rules: %v", err)
	}
	if err := check(); err == nil || !strings.Contains(err.Error(), "name their patterns") {
		t.Errorf("rules without private modules: %v", err)
	}
}

// A file that was cut off must not take the rules away that the server has.
func TestDirectFileThatWasCutOff(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "private.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("networks: [10.1.2.3]\n")
	var now upstream.Rules
	r := newReloads(slog.New(slog.DiscardHandler))
	err := r.add("direct.file", file, func(data []byte) error {
		rules, err := parseDirectFile(file, data)
		if err == nil {
			now = rules
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []string{"", "\n", "# networks\n", "---\n", "networks:\n"} {
		write(cut)
		r.look(r.files[0])
		if len(now.Networks) != 1 || len(r.failures()) != 1 {
			t.Errorf("%q: networks %v, failures %v", cut, now.Networks, r.failures())
		}
	}
	write("networks: []\n")
	if r.look(r.files[0]); len(now.Networks) != 0 || len(r.failures()) != 0 {
		t.Errorf("an empty list: networks %v, failures %v", now.Networks, r.failures())
	}
}

// A variable that is missing is told at the start, and not by the first request alone.
func TestUnsetVariablesAreTold(t *testing.T) {
	t.Parallel()
	data := []byte("credentials:\n  - match: a.example\n    password: env:SET\n  - match: b.example\n    username: ci\n    password: env:NOSUCH\n")
	rules, err := parseDirectFile("f", data)
	if err != nil {
		t.Fatal(err)
	}
	got := unsetVariables(rules, data, func(name string) (string, bool) { return "x", name == "SET" })
	if len(got) != 1 || got[0] != (unsetVariable{"NOSUCH", 6}) {
		t.Errorf("%v", got)
	}
}
