package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"pgregory.net/rapid"

	"github.com/modgate/modgate/policy"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	exempt := func(expires string) []policy.Exemption {
		return []policy.Exemption{{Versions: []string{"<v2.0.0"}, Reason: "release 7", Approver: "eve", Expires: expires}}
	}
	p := rules(t, "git.corp.example", "deny",
		policy.Rule{Name: "elsewhere", Line: 2, Modules: []string{"example.org", "example.net"}, Action: "deny"},
		policy.Rule{Name: "for-ci", Line: 5, Groups: []string{"ci", "nightly"}, Action: "deny"},
		policy.Rule{Name: "range", Line: 9, Versions: []string{"<v1.0.0", "v1.1.0"}, Action: "deny"},
		policy.Rule{Name: "exempt", Line: 12, Action: "deny", Exemptions: exempt("2026-12-31")},
		policy.Rule{Name: "served", Line: 16, Action: "deny", AppliesTo: "new"},
		policy.Rule{Name: "retracted", Line: 20, Action: "warn", When: policy.When{Retracted: &isTrue}},
		policy.Rule{Name: "not-private", Line: 24, Action: "audit", Modules: []string{"example.com/*"}, Groups: []string{"dev"}, When: policy.When{Private: &isNot, Pseudo: &isNot, Deprecated: &isTrue}},
		policy.Rule{Name: "tools", Line: 26, Action: "deny", When: policy.When{Toolchain: "<go1.26.6"}},
		policy.Rule{Name: "over", Line: 30, Action: "deny", Modules: []string{"example.com/m"}, Versions: []string{">=v1.2.0"}, Exemptions: exempt("2026-11-01")},
		policy.Rule{Name: "late", Line: 40, Action: "allow"},
	)
	facts := policy.Facts{Now: now, Known: 15, FirstSeen: now.Add(-time.Hour), Module: &policy.Module{
		Versions: []string{"v1.1.0", "v1.2.0", "v1.3.0"}, Newest: "v1.3.0", Deprecated: "use example.com/n",
	}}
	e := p.Explain(policy.Caller{Groups: []string{"dev"}}, version(t, "example.com/m@v1.2.0"), facts)
	var b strings.Builder
	fmt.Fprintf(&b, "%s@%s as %v: %s by %s, newest allowed %q\n", e.Module, e.Version, e.Groups, e.Action, e.Rule, e.Newest)
	for _, f := range e.Facts {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "%d %s %s applies=%v decides=%v\n  %s\n  %s\n", s.Line, s.Action, s.Rule, s.Applies, s.Decides, s.Why, s.Change)
	}
	golden(t, "explain.golden", b.String())
}

func TestDoubts(t *testing.T) {
	t.Parallel()
	deny := func(line int, modules string, more ...func(*policy.Rule)) policy.Rule {
		r := policy.Rule{Name: fmt.Sprintf("line%d", line), Line: line, Action: "deny", Modules: strings.Fields(modules)}
		for _, f := range more {
			f(&r)
		}
		return r
	}
	audit := func(r *policy.Rule) { r.Action = "audit" }
	old := func(r *policy.Rule) { r.Versions = []string{"<v1.0.0"} }
	ci := func(r *policy.Rule) { r.Groups = []string{"ci"} }
	in := func(ranges ...string) func(*policy.Rule) { return func(r *policy.Rule) { r.Versions = ranges } }
	expired := func(r *policy.Rule) {
		r.Exemptions = []policy.Exemption{{Line: 99, Reason: "r", Approver: "a", Expires: "2026-11-21"}}
	}
	tests := []struct {
		name  string
		rules []policy.Rule
		want  string
	}{
		{"same", []policy.Rule{deny(1, "example.com/a"), deny(2, "example.com/a")}, "2 rules[1]: the rule line2 never decides: line1 in line 1 has decided on all that it is for"},
		{"wider", []policy.Rule{deny(1, "example.com/* b.example"), deny(2, "EXAMPLE.com/a/b b.example/x")}, "2 rules[1]: the rule line2 never decides"},
		{"everything", []policy.Rule{deny(1, ""), deny(2, "x.example", old, ci, audit)}, "2 rules[1]: the rule line2 never decides"},
		{"narrower", []policy.Rule{deny(1, "example.com/a"), deny(2, "example.com/*")}, ""},
		{"a part", []policy.Rule{deny(1, "example.com/a"), deny(2, "example.com/a example.com/b")}, ""},
		{"not deciding", []policy.Rule{deny(1, "example.com/a", audit), deny(2, "example.com/a")}, ""},
		{"some versions", []policy.Rule{deny(1, "example.com/a", old), deny(2, "example.com/a")}, ""},
		{"the same versions", []policy.Rule{deny(1, "example.com/a", old), deny(2, "example.com/a", old)}, "2 rules[1]: the rule line2 never decides"},
		{"a version among them", []policy.Rule{deny(1, "example.com/a", old), deny(2, "example.com/a", in("v0.9.0", ">=v0.1.0 <=v0.2.0"))}, "2 rules[1]: the rule line2 never decides"},
		{"a version beside them", []policy.Rule{deny(1, "example.com/a", old), deny(2, "example.com/a", in("v0.9.0", ">=v0.1.0"))}, ""},
		{"some callers", []policy.Rule{deny(1, "example.com/a", ci), deny(2, "example.com/a")}, ""},
		{"expired", []policy.Rule{deny(1, "example.com/a", expired)}, "99 rules[0].exemptions[0]: the exemption from line1 expired 2026-11-21"},
		{"unseen", []policy.Rule{deny(1, "example.com/z Github.com/y")}, "1 rules[0].modules[0]: example.com/z matches none of the 2 modules seen here"},
	}
	for _, test := range tests {
		p := rules(t, "", "", test.rules...)
		var seen []string
		if test.name == "unseen" {
			seen = []string{"github.com/y/x", "example.com/zz"}
		}
		got := ""
		for _, m := range p.Doubts(now, seen, nil) {
			got += fmt.Sprintf("%d %s: %s\n", m.Line, m.Path, m.Problem)
		}
		if test.want == "" != (got == "") || !strings.HasPrefix(got, test.want) || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// TestNeverDecides: of a rule that is said never to decide, that is true.
func TestNeverDecides(t *testing.T) {
	t.Parallel()
	versions := []string{"v0.1.0", "v1.0.0-rc.1", "v1.0.0", "v1.0.1", "v1.1.0", "v2.0.0", "v2.0.0+incompatible", "v1.0.1-0.20260101000000-abcdefabcdef", "v0.0.0-20260101000000-abcdefabcdef"}
	term := rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 5).Draw(t, "word") == 0 {
			return rapid.SampledFrom([]string{"pseudo", "prerelease", "incompatible"}).Draw(t, "kind")
		}
		return rapid.SampledFrom([]string{"", "<", "<=", ">", ">="}).Draw(t, "op") + rapid.SampledFrom(versions).Draw(t, "version")
	})
	ranges := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(term, 1, 2).Draw(t, "terms"), " ") })
	said := 0
	rapid.Check(t, func(t *rapid.T) {
		var all []policy.Rule
		for i := range 2 {
			all = append(all, policy.Rule{Name: fmt.Sprintf("r%d", i), Action: "deny", Reason: "because", Versions: rapid.SliceOfN(ranges, 0, 2).Draw(t, "versions")})
		}
		p, err := policy.New(policy.Config{Rules: policy.Rules{Rules: all}})
		if err != nil || len(p.Doubts(now, nil, nil)) == 0 {
			return // some range is empty, or nothing is said
		}
		said++
		for _, v := range versions {
			facts := policy.Facts{Now: now, Known: policy.FactTags, Tags: rapid.SliceOfN(rapid.SampledFrom(versions[:7]), 0, 1).Draw(t, "tags")}
			if got := p.Decide(policy.Caller{}, module.Version{Path: "example.com/a", Version: v}, facts); got.Rule == "r1" {
				t.Fatalf("%v never decides, and does about %s", all, v)
			}
		}
	})
	if said == 0 {
		t.Error("nothing was said of any rule")
	}
}

func TestDoubtsAboutGroups(t *testing.T) {
	t.Parallel()
	p := rules(t, "", "", policy.Rule{Line: 2, Action: "deny", Groups: []string{"ci"}, Exemptions: []policy.Exemption{
		{Line: 5, Groups: []string{"ci"}, Reason: "r", Approver: "a", Expires: "2999-12-31"}}})
	for _, groups := range [][]string{nil, {"dev", "ci"}} {
		if found := p.Doubts(now, nil, groups); len(found) != 0 {
			t.Errorf("in %v: %v", groups, found)
		}
	}
	found := p.Doubts(now, nil, []string{"dev"})
	if len(found) != 2 || found[0].Path != "rules[0].groups[0]" || found[1].Path != "rules[0].exemptions[0].groups[0]" || !strings.Contains(found[0].Problem, "no caller is in the group ci") {
		t.Errorf("a slip: %v", found)
	}
	if groups := p.Groups(); !slices.Equal(groups, []string{"ci"}) {
		t.Errorf("groups %v", groups)
	}
}

func TestDoubtsAboutToolchains(t *testing.T) {
	t.Parallel()
	const path = "golang.org/toolchain"
	for name, test := range map[string]struct {
		otherwise string
		rule      policy.Rule
		doubt     bool
	}{
		"allow":                   {"allow", policy.Rule{Action: "allow", Modules: []string{"example.com"}}, false},
		"forgotten":               {"deny", policy.Rule{Action: "allow", Modules: []string{"example.com"}}, true},
		"only noted":              {"deny", policy.Rule{Action: "warn", Modules: []string{path}}, true},
		"a name that begins so":   {"deny", policy.Rule{Action: "allow", Modules: []string{path + "2"}}, true},
		"allowed":                 {"deny", policy.Rule{Action: "allow", Modules: []string{path}}, false},
		"among others":            {"deny", policy.Rule{Action: "allow", Modules: []string{"golang.org"}}, false},
		"some of them":            {"deny", policy.Rule{Action: "allow", Modules: []string{path}, When: policy.When{Toolchain: ">=go1.99.0"}}, false},
		"all modules for a group": {"deny", policy.Rule{Action: "allow", Groups: []string{"ci"}}, false},
		"refused on purpose":      {"deny", policy.Rule{Action: "deny", Modules: []string{path}, Reason: "r"}, false},
	} {
		found := rules(t, "", test.otherwise, test.rule).Doubts(now, nil, nil)
		if doubt := len(found) == 1 && found[0].Path == "default" && strings.Contains(found[0].Problem, path); doubt != test.doubt || !doubt && len(found) > 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// What explain says of a group is what a caller in it reads, who has a token.
func TestExplainedAsTheClientReads(t *testing.T) {
	t.Parallel()
	p := rules(t, "git.corp.example", "", policy.Rule{Name: "not-yours", Action: "deny", Modules: []string{"git.corp.example/team"}, Reason: "r", Groups: []string{"other"}})
	p2 := rules(t, "git.corp.example", "deny")
	m := version(t, "git.corp.example/team@v1.0.0")
	for _, p := range []*policy.Policy{p, p2} {
		as := policy.Caller{Groups: []string{"other"}}
		read := p.Decide(policy.Caller{Name: "bob", Groups: as.Groups}, m, policy.Facts{}).Text
		if got := p.Explain(as, m, policy.Facts{}).Verdict.Text; got != read || read == "" {
			t.Errorf("explained %q, and the client reads %q", got, read)
		}
	}
	if text := p2.Explain(policy.Caller{}, m, policy.Facts{}).Verdict.Text; !strings.Contains(text, "do: put a token") {
		t.Errorf("without a token: %q", text)
	}
}
