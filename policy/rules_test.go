package policy_test

import (
	"strings"
	"testing"

	"github.com/modgate/modgate/policy"
)

func TestMistakesInRules(t *testing.T) {
	t.Parallel()
	fine := policy.Rule{Name: "r", Line: 3, Action: "deny", Reason: "why", Modules: []string{"example.com/*"}}
	tests := []struct {
		change func(*policy.Rule)
		want   string
	}{
		{func(r *policy.Rule) { r.Name = "" }, "line 3: rules[0].name: "},
		{func(r *policy.Rule) { r.Name = "two words" }, "rules[0].name: "},
		{func(r *policy.Rule) { r.Name = "default" }, "rules[0].name: "},
		{func(r *policy.Rule) { r.Action = "block" }, `rules[0].action: "block" is not an action: write allow, deny, warn or audit`},
		{func(r *policy.Rule) { r.Reason = "" }, "rules[0].reason: a refusal needs a reason"},
		{func(r *policy.Rule) { r.Reason = "für" }, "rules[0].reason: the text has characters beside plain ASCII"},
		{func(r *policy.Rule) { r.Reason = "a\nb" }, "rules[0].reason: "},
		{func(r *policy.Rule) { r.Reason = strings.Repeat("x", 201) }, "rules[0].reason: the text has 201 bytes, and 200 are shown"},
		{func(r *policy.Rule) { r.Link = "wiki" }, "rules[0].link: "},
		{func(r *policy.Rule) { r.Modules = []string{"ok.example", "https://x"} }, `rules[0].modules[1]: the pattern "https://x" matches nothing: a module path has no scheme`},
		{func(r *policy.Rule) { r.Modules = []string{"a[/b]"} }, "rules[0].modules[0]: "},
		{func(r *policy.Rule) { r.Modules = []string{"a,b"} }, "rules[0].modules[0]: "},
		{func(r *policy.Rule) { r.Modules = []string{""} }, "rules[0].modules[0]: "},
		{func(r *policy.Rule) { r.Versions = []string{"<v1"} }, `rules[0].versions[0]: "v1" is not a whole version: write v1.0.0`},
		{func(r *policy.Rule) { r.Groups = []string{""} }, "rules[0].groups[0]: "},
		{func(r *policy.Rule) { r.AppliesTo = "old" }, "rules[0].applies_to: "},
		{func(r *policy.Rule) { r.Since = "2026-01-01" }, "rules[0].since: since belongs to applies_to: new"},
		{func(r *policy.Rule) { r.AppliesTo, r.Since = "new", "yesterday" }, `rules[0].since: "yesterday" is not a day`},
		{func(r *policy.Rule) { r.Action, r.Strict = "audit", true }, "rules[0].strict: strict belongs to action: deny"},
		{func(r *policy.Rule) { r.When.Toolchain = "<1.26" }, "rules[0].when.toolchain: "},
		{func(r *policy.Rule) { r.Exemptions = []policy.Exemption{{Line: 9, Reason: "r", Approver: "a"}} }, "line 9: rules[0].exemptions[0].expires: an exemption needs"},
		{func(r *policy.Rule) {
			r.Exemptions = []policy.Exemption{{Reason: "r", Approver: "a", Expires: "soon"}}
		}, "line 3: rules[0].exemptions[0].expires: "},
	}
	if _, err := policy.New(policy.Config{Rules: policy.Rules{Rules: []policy.Rule{fine}}}); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		r := fine
		test.change(&r)
		_, err := policy.New(policy.Config{Rules: policy.Rules{Rules: []policy.Rule{r}}})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

func TestMistakesAreAllReported(t *testing.T) {
	t.Parallel()
	_, err := policy.New(policy.Config{Private: "a[", Rules: policy.Rules{
		Default: "maybe",
		Rules:   []policy.Rule{{Name: "twice", Line: 2, Action: "nothing"}, {Name: "twice", Line: 5, Action: "allow"}},
	}})
	for _, want := range []string{`"a["`, `"maybe"`, `"nothing"`, "line 5: rules[1].name: the name twice is taken by the rule in line 2"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s too", err, want)
		}
	}
}
