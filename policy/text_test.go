package policy_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"pgregory.net/rapid"

	"github.com/modgate/modgate/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// checkText holds text against what the go command shows of a refusal
// (cmd/go/internal/web): more than this, and the user sees nothing or a part.
func checkText(t interface{ Fatalf(string, ...any) }, text string) {
	if len(text) > 640 || strings.Count(text, "\n") > 8 || !strings.HasSuffix(text, "\n") || strings.Contains(text, "\n\n") {
		t.Fatalf("%d bytes, %d lines: %q", len(text), strings.Count(text, "\n"), text)
	}
	for _, c := range []byte(text) {
		if (c < ' ' || c > '~') && c != '\n' {
			t.Fatalf("%q is not plain ASCII", text)
		}
	}
}

// textOf is what the client reads of v, about m.
func textOf(v policy.Verdict, m module.Version) string {
	if v.Deny && v.Wants != 0 {
		return v.Undecided(m)
	}
	return v.Text
}

func TestTexts(t *testing.T) {
	t.Parallel()
	full := policy.Rule{Name: "no-hole", Action: "deny", Versions: []string{"<v1.4.3", "v1.5.0"}, Reason: "every version before v1.4.3 has a hole (CVE-2026-1)", Link: "https://wiki.corp.example/hole", Owner: "security@corp.example"}
	bare := policy.Rule{Name: "no-copies", Action: "deny", Modules: []string{"example.com/*"}, Reason: "a copy of something else"}
	retracted := policy.Rule{Name: "no-retracted", Action: "deny", Reason: "the author took it back", When: policy.When{Retracted: &isTrue}}
	known := policy.Facts{Now: now, Known: policy.FactVersions | policy.FactNewest | policy.FactTags, Module: &policy.Module{
		Versions: []string{"v1.0.0", "v1.4.2", "v1.4.3", "v1.5.0"}, Newest: "v1.5.0",
		Retractions: []policy.Retraction{{Low: "v1.0.0", High: "v1.0.0", Rationale: "lost\nbytes: \x1b[31mé"}},
	}}
	commit := known
	commit.Tags = []string{"v1.5.0"}
	tests := []struct {
		name, otherwise string
		rule            policy.Rule
		mod             string
		facts           policy.Facts
	}{
		{"full", "", full, "example.com/m@v1.4.2", known},
		{"versions unknown", "", full, "example.com/m@v1.4.2", policy.Facts{}},
		{"none is left", "", bare, "example.com/m@v1.4.2", known},
		{"default", "deny", bare, "other.example/m@v1.4.2", known},
		{"retracted", "", retracted, "example.com/m@v1.0.0", known},
		{"unsure", "", retracted, "example.com/m@v1.0.0", policy.Facts{}},
		{"commit", "", full, "example.com/m@v1.5.1-0.20260101000000-abcdefabcdef", commit},
	}
	var all strings.Builder
	for _, test := range tests {
		p := rules(t, "", test.otherwise, test.rule)
		m := version(t, test.mod)
		text := textOf(p.Decide(policy.Caller{}, m, test.facts), m)
		checkText(t, text)
		all.WriteString("-- " + test.name + " --\n" + text)
	}
	p := rules(t, "", "", bare)
	_, v := p.Filter(policy.Caller{}, "example.com/m", known)
	all.WriteString("-- list --\n" + v.Text)
	golden(t, "texts.golden", all.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || got != string(want) {
		t.Errorf("%v; -update writes it anew; got\n%s", err, got)
	}
}

// TestTextsFit looks for names and reasons that do not fit.
func TestTextsFit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		long := func(name string, most int) string {
			return strings.Repeat("x", rapid.IntRange(1, most).Draw(t, name))
		}
		p, err := policy.New(policy.Config{Rules: policy.Rules{Rules: []policy.Rule{{
			Name: long("name", 60), Action: "deny", Reason: long("reason", 200), Versions: []string{"v1.0.0"},
			Link: "https://" + long("link", 112), Owner: long("owner", 60),
		}}}})
		if err != nil {
			t.Fatal(err)
		}
		m := module.Version{Path: "example.com/" + long("path", 1000), Version: "v1.0.0"}
		facts := policy.Facts{Known: policy.FactVersions | policy.FactNewest, Module: &policy.Module{Versions: []string{"v1.0.0", "v1.1.0-" + long("version", 200)}}}
		v := p.Decide(policy.Caller{}, m, facts)
		checkText(t, v.Text)
		for _, want := range []string{"\nid: " + v.ID + "\n", "\nsee: https://", "\nask: x", "\nwhy: ", "\ndo: ", "\nnewest allowed: "} {
			if !strings.Contains(v.Text, want) {
				t.Fatalf("%q lacks %q", v.Text, want)
			}
		}
	})
}
