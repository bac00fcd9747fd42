package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

const goodRules = `# who may have what
default: allow
link: https://wiki.corp.example/modules
owner: security@corp.example
rules:
  - name: no-hole
    modules: [example.com/m, example.com/n]
    versions: "<v1.4.3"
    action: deny
    reason: "every version before v1.4.3 has a hole"
    exemptions:
      - modules: example.com/m
        versions: [v1.4.2]
        reason: release 7
        approver: eve
        expires: 2027-01-31
  - name: old-toolchains
    when: {toolchain: "<go1.26.6", private: false}
    applies_to: new
    since: 2026-11-01
    groups: ci
    action: audit
`

func TestReadRules(t *testing.T) {
	t.Parallel()
	p, err := readRules("rules.yaml", []byte(goodRules), "git.corp.example")
	if err != nil {
		t.Fatal(err)
	}
	v := p.Decide(policy.Caller{}, module.Version{Path: "example.com/n", Version: "v1.4.2"}, policy.Facts{})
	if !v.Deny || !strings.Contains(v.Text, "see: https://wiki.corp.example/modules\nask: security@corp.example\n") {
		t.Errorf("got %+v", v)
	}
	if p.Rules() != 2 || !p.IsPrivate("git.corp.example/x") {
		t.Errorf("%d rules, private %v", p.Rules(), p.IsPrivate("git.corp.example/x"))
	}
	if p, err = readRules("rules.yaml", []byte("default: allow"), ""); err != nil || p.Rules() != 0 {
		t.Errorf("no rules, and meant so: %v", err)
	}
	for _, data := range []string{"", "# nothing\n", "rules:\n", "owner: x\n"} {
		if _, err = readRules("rules.yaml", []byte(data), ""); err == nil {
			t.Errorf("%q turns all rules off", data)
		}
	}
}

func TestRuleMistakesHaveLines(t *testing.T) {
	t.Parallel()
	tests := []struct{ from, to, want string }{
		{"action: deny", "action: block", `rules.yaml:9: rules[0].action: "block" is not an action: write allow, deny, warn or audit`},
		{"action: deny", "actoin: deny", `rules.yaml:9: rules[0].actoin: "actoin" is not a key: did you mean action?`},
		{`"<v1.4.3"`, `"<v1.4"`, `rules.yaml:8: rules[0].versions[0]: "v1.4" is not a whole version: write v1.4.0`},
		{`"<v1.4.3"`, `["<v1.0.0", "<v1.4"]`, `rules.yaml:8: rules[0].versions[1]: "v1.4"`},
		{"[v1.4.2]", "[1.4.2]", `rules.yaml:13: rules[0].exemptions[0].versions[0]: "1.4.2" lacks the v`},
		{"        approver: eve\n", "", "rules.yaml:12: rules[0].exemptions[0].approver: an exemption needs"},
		{"2027-01-31", "next year", "rules.yaml:16: rules[0].exemptions[0].expires"},
		{"default: allow", "default: maybe", `rules.yaml:2: default: "maybe"`},
		{"name: old-toolchains", "name: no-hole", "rules.yaml:17: rules[1].name: the name no-hole is taken by the rule in line 6"},
		{"private: false", "private: perhaps", "rules.yaml:18: "},
		{"private: false", "private: no way", "write true or false"},
		{"private: false", "private: maybe, vuln: true", "rules.yaml:18: rules[1].when.private: true or false is expected here"},
		{"private: false", "private: maybe, vuln: true", `rules.yaml:18: rules[1].when.vuln: "vuln" is not a key`},
		{"action: deny", "groups: [*.corp]", `rules.yaml:9: rules[0].groups[0]: a word that begins with * needs quotes: write "*.corp"`},
		{"action: deny", "action: [deny]", "rules.yaml:9: rules[0].action: one value is expected here"},
		{"  - name: no-hole", "  - name: no-hole\n\tlink: x", "rules.yaml:7: a tab stands in front of a word\n  → indent with spaces"},
		{"  - name: no-hole", "  - name: no-hole\n    name: twice", "rules.yaml:7: the key \"name\" stands here and in line 6\n  → keep one of them"},
		{`"<v1.4.3"`, ">=v1.2.0 <v1.4.3", "put a range that begins with > into quotes"},
		{"  - name: no-hole", "  - name: no-hole\n    name: twice", "rules.yaml:7: "},
	}
	for _, test := range tests {
		data := strings.Replace(goodRules, test.from, test.to, 1)
		if data == goodRules {
			t.Fatalf("%q is not in the file", test.from)
		}
		_, err := readRules("rules.yaml", []byte(data), "")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.to, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "Go struct") {
			t.Errorf("%s: a Go type is named: %v", test.to, err)
		}
	}
}

// Whoever mends a file is told all that is wrong in it at once.
func TestUnknownKeysHideNoMistakes(t *testing.T) {
	t.Parallel()
	_, err := readRules("f", []byte("defualt: allow\nrules:\n- name: a\n  actoin: deny\n  action: dney\n  zzz: 1\n- name: a\n  action: deny\n  when: {retarcted: true}\n  modules:\n"), "")
	for _, want := range []string{`f:1: defualt: "defualt" is not a key: did you mean default?`, `f:4: rules[0].actoin: "actoin" is not a key: did you mean action?`, `f:5: rules[0].action: "dney"`, `f:6: rules[0].zzz: "zzz" is not a key: there are name, `, "f:7: rules[1].name: the name a is taken", `f:9: rules[1].when.retarcted: "retarcted" is not a key: did you mean retracted?`, "f:10: rules[1].modules: the key is there"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s in\n%v", want, err)
		}
	}
	if p, err := readRules("f", []byte("defualt: deny\nrules: [{name: a, action: deny, reason: b}]\n"), ""); err == nil {
		t.Errorf("an unknown key is passed over: %v", p)
	}
	if _, err := readRules("f", []byte("rules:\n- name: a\n   action: deny\n"), ""); err == nil || !strings.Contains(err.Error(), "f:2: ") || !strings.Contains(err.Error(), "indentation") {
		t.Errorf("%v", err)
	}
}

// A key that says nothing would make the rule mean all.
func TestEmptyKeysAreMistakes(t *testing.T) {
	t.Parallel()
	const rule = "rules:\n- name: a\n  action: deny\n  reason: b\n"
	for _, test := range []struct{ data, want string }{
		{rule + "  modules:\n", "f:5: rules[0].modules: the key is there and says nothing"},
		{rule + "  modules: []\n", "f:5: rules[0].modules:"},
		{rule + "  versions: null\n  modules: example.com\n", "f:5: rules[0].versions:"},
		{rule + "  versions:\n    # - v1.1.0\n  modules: example.com\n", "f:5: rules[0].versions:"},
		{rule + "  modules: example.com\n  groups: ~\n", "f:6: rules[0].groups:"},
		{rule + "  when:\n", "f:5: rules[0].when:"},
		{rule + "  when: {}\n", "f:5: rules[0].when:"},
		{rule + "  when: {retracted: }\n", "f:5: rules[0].when.retracted:"},
		{rule + "  when:\n    toolchain: \"\"\n", "f:6: rules[0].when.toolchain:"},
		{rule + "  applies_to:\n", "f:5: rules[0].applies_to:"},
		{rule + "  modules: &none []\n", "f:5: rules[0].modules:"},
		{rule + "  modules: &none []\n  groups: *none\n", "f:6: rules[0].groups:"},
		{rule + "  exemptions:\n  - groups: []\n    reason: x\n    approver: y\n    expires: 2027-01-31\n", "f:6: rules[0].exemptions[0].groups:"},
		{"default:\n" + rule, "f:1: default:"},
	} {
		if _, err := readRules("f", []byte(test.data), ""); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.data, err, test.want)
		}
	}
	for _, data := range []string{"default: allow\nrules: []\n", "default: allow\nrules:\n", rule + "  modules: &m [example.com]\n  groups: *m\n"} {
		if _, err := readRules("f", []byte(data), ""); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
}

func FuzzReadRules(f *testing.F) {
	f.Add(goodRules)
	f.Add("default: deny\nrules:\n- {name: a, action: allow, modules: x}\n")
	f.Fuzz(func(t *testing.T, data string) {
		if p, err := readRules("f", []byte(data), ""); (p == nil || p.Rules() < 0) && err == nil {
			t.Error("neither rules nor a mistake")
		}
	})
}

// A changed file comes into force, a broken one changes nothing.
func TestRulesAreReadAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	write := func(data string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := &app{reloads: newReloads(slog.New(slog.DiscardHandler))}
	write("rules: [{name: a, action: deny, reason: b}]")
	live, err := a.openPolicy(&Config{Policy: Policy{File: file}, Private: List{"git.corp.example"}})
	if err != nil {
		t.Fatal(err)
	}
	m := module.Version{Path: "example.com/m", Version: "v1.0.0"}
	for _, step := range []struct {
		data   string
		denied bool
	}{
		{"rules: [{name: b, action: audit}]", false}, {"", false}, {"rules: [{name: a, action: deny, reason: b}]", true}, {"", true}, {"rules: [{name: a, action: dney, reason: b}]", true}, {"rules: {", true}, {"default: allow", false},
	} {
		write(step.data)
		a.reloads.look(a.reloads.files[0])
		if got := live.Decide(policy.Caller{}, m, policy.Facts{}).Deny; got != step.denied || !live.IsPrivate("git.corp.example/x") {
			t.Errorf("after %q: denied %v", step.data, got)
		}
	}
}
