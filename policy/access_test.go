package policy_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

const secretPath = "git.corp.example/team/lib"

// TestWithheld: who may not read a private module at all hears the same of every
// version of it, whatever is known; who may have one of its versions does not.
func TestWithheld(t *testing.T) {
	t.Parallel()
	team, inside := []string{"team"}, []string{policy.Inside}
	refuse := policy.Rule{Name: "refuse", Action: "deny", Modules: []string{"git.corp.example/*"}, Reason: "ask the team"}
	others := policy.Rule{Name: "others", Action: "deny", Modules: []string{"git.corp.example/team"}, Groups: []string{"ci"}, Reason: "not in builds"}
	allow := policy.Rule{Name: "team", Action: "allow", Modules: []string{"git.corp.example/team"}, Groups: team}
	with := func(r policy.Rule, f func(*policy.Rule)) policy.Rule { f(&r); return r }
	frozen := []policy.Exemption{{Versions: []string{"v1.0.0"}, Groups: []string{"ci"}, Reason: "frozen", Approver: "eve", Expires: now.Add(time.Hour).Format(time.RFC3339)}}
	tests := []struct {
		name      string
		otherwise string
		groups    []string
		by        string // the rule that withholds it
		rules     []policy.Rule
	}{
		{"no rule", "", nil, "", nil},
		{"a rule for a group, and one of it", "", []string{"ci"}, "others", []policy.Rule{others}},
		{"a rule for a group, and somebody else", "", []string{"dev"}, "", []policy.Rule{others}},
		{"allowed to a group, and one of it", "", team, "", []policy.Rule{allow, refuse}},
		{"allowed to a group, and somebody else", "", []string{"dev"}, "refuse", []policy.Rule{allow, refuse}},
		{"allowed to a group, and nobody", "", nil, "refuse", []policy.Rule{allow, refuse}},
		{"allowed to a group, and the server", "", inside, "", []policy.Rule{allow, refuse}},
		{"a rule for all is about the module", "", []string{"ci"}, "", []policy.Rule{refuse}},
		{"not on the list of what is allowed", "deny", team, "default", nil},
		{"on the list for others", "deny", nil, "default", []policy.Rule{allow}},
		{"some versions", "", []string{"ci"}, "", []policy.Rule{with(others, func(r *policy.Rule) { r.Versions = []string{"<v2.0.0"} })}},
		{"what is new", "", []string{"ci"}, "", []policy.Rule{with(others, func(r *policy.Rule) { r.AppliesTo = "new" })}},
		{"what is retracted", "", []string{"ci"}, "", []policy.Rule{with(others, func(r *policy.Rule) { r.When.Retracted = &isTrue })}},
		{"what is private", "", []string{"ci"}, "others", []policy.Rule{with(others, func(r *policy.Rule) { r.When.Private = &isTrue })}},
		{"what is not private", "", []string{"ci"}, "", []policy.Rule{with(others, func(r *policy.Rule) { r.When.Private = new(bool) })}},
		{"an exemption that counts", "", []string{"ci"}, "", []policy.Rule{with(others, func(r *policy.Rule) { r.Exemptions = frozen })}},
		{"an exemption that counts for others", "", []string{"ci"}, "others", []policy.Rule{with(others, func(r *policy.Rule) {
			r.Exemptions = []policy.Exemption{frozen[0]}
			r.Exemptions[0].Groups = []string{"dev"}
		})}},
		{"an exemption that has expired", "", []string{"ci"}, "others", []policy.Rule{with(others, func(r *policy.Rule) {
			r.Exemptions = []policy.Exemption{frozen[0]}
			r.Exemptions[0].Expires = now.Add(-time.Hour).Format(time.RFC3339)
		})}},
		{"a version is allowed before", "", []string{"ci"}, "", []policy.Rule{{Action: "allow", Versions: []string{"v1.0.0"}}, others}},
		{"a version is refused before", "", []string{"ci"}, "others", []policy.Rule{{Name: "hole", Action: "deny", Versions: []string{"v1.0.0"}, Reason: "a hole"}, others}},
	}
	for _, test := range tests {
		p := rules(t, "git.corp.example/*", test.otherwise, test.rules...)
		caller := policy.Caller{Name: "somebody", Groups: test.groups}
		all := p.Decide(caller, module.Version{Path: secretPath}, policy.Facts{Now: now})
		if all.Deny != (test.by != "") || all.Rule != test.by || all.Wants != 0 || all.Strict != all.Deny {
			t.Errorf("%s: %+v, want one by %q", test.name, all, test.by)
		}
		if test.by == "" {
			continue
		}
		checkWithheld(t, test.name, p, caller, all.Text)
		if v := p.Decide(caller, module.Version{Path: "example.com/public"}, policy.Facts{Now: now}); v.Deny {
			t.Errorf("%s: public modules are withheld", test.name)
		}
	}
}

// checkWithheld looks at the versions of a module that caller may not read, of which
// text is what is said of all.
func checkWithheld(t *testing.T, name string, p *policy.Policy, caller policy.Caller, text string) {
	t.Helper()
	checkText(t, text)
	known := policy.Facts{Now: now, Known: 15, Module: &policy.Module{Versions: []string{"v1.0.0", "v1.1.0"}, Newest: "v1.1.0"}}
	for _, version := range []string{"v1.0.0", "v1.1.0", "v9.9.9", "v1.0.1-0.20240101000000-aaaaaaaaaaaa"} {
		m := module.Version{Path: secretPath, Version: version}
		without, with := p.Decide(caller, m, policy.Facts{Now: now}), p.Decide(caller, m, known)
		if !without.Deny || !without.Strict || without.Wants != 0 || without.Text != with.Text || strings.Contains(with.Text, "newest") {
			t.Errorf("%s: of %s is said\n%s, and knowing it\n%s", name, version, without.Text, with.Text)
		}
		if e := p.Explain(caller, m, known); e.Verdict.Text != with.Text || e.Newest != "" {
			t.Errorf("%s: explained as\n%s", name, e.Verdict.Text)
		}
	}
	if versions, v := p.Filter(caller, secretPath, known); len(versions) > 0 || v.Text != text {
		t.Errorf("%s: visible are %v\n%s, want\n%s", name, versions, v.Text, text)
	}
}
