package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

var (
	now    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	isTrue = true
	isNot  = false
)

// rules makes a Policy.
func rules(t testing.TB, private, otherwise string, rules ...policy.Rule) *policy.Policy {
	t.Helper()
	for i := range rules {
		if rules[i].Name == "" {
			rules[i].Name = fmt.Sprintf("r%d", i)
		}
		if rules[i].Reason == "" {
			rules[i].Reason = "because"
		}
	}
	p, err := policy.New(policy.Config{Private: private, Rules: policy.Rules{Default: otherwise, Rules: rules}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func version(t testing.TB, s string) module.Version {
	t.Helper()
	path, v, ok := strings.Cut(s, "@")
	if !ok {
		t.Fatalf("%q has no version", s)
	}
	return module.Version{Path: path, Version: v}
}

// about says of v what the tests want to know.
func about(v policy.Verdict) string {
	s := "allow"
	switch {
	case v.Deny && v.Wants != 0:
		s = "unsure"
	case v.Deny:
		s = "deny " + v.Rule
	}
	for _, n := range v.Notes {
		s += " " + n.Action.String() + " " + n.Rule
	}
	return s
}

func TestDecide(t *testing.T) {
	t.Parallel()
	day := func(s string) time.Time { d, _ := time.Parse(time.DateOnly, s); return d }
	everything := policy.FactFirstSeen | policy.FactTags | policy.FactVersions | policy.FactNewest
	retracts := &policy.Module{Newest: "v1.3.0", Retractions: []policy.Retraction{{Low: "v1.1.0", High: "v1.2.0", Rationale: "broken"}}, Deprecated: "use example.com/b"}
	exempt := []policy.Exemption{{Versions: []string{"v1.2.0"}, Reason: "r", Approver: "a", Expires: "2026-11-22"}}
	tests := []struct {
		name      string
		otherwise string
		rules     []policy.Rule
		groups    string
		mod       string
		facts     policy.Facts
		want      string
	}{
		{"no rules", "", nil, "", "example.com/a@v1.0.0", policy.Facts{}, "allow"},
		{"deny", "", []policy.Rule{{Modules: []string{"example.com/a"}, Action: "deny"}}, "", "example.com/a/b@v1.0.0", policy.Facts{}, "deny r0"},
		{"another module", "", []policy.Rule{{Modules: []string{"example.com/a"}, Action: "deny"}}, "", "example.com/ab@v1.0.0", policy.Facts{}, "allow"},
		{"restrictions take no account of case", "", []policy.Rule{{Modules: []string{"github.com/evil/*"}, Action: "deny"}}, "", "github.com/Evil/X@v1.0.0", policy.Facts{}, "deny r0"},
		{"permissions do", "deny", []policy.Rule{{Modules: []string{"github.com/good/*"}, Action: "allow"}}, "", "github.com/Good/x@v1.0.0", policy.Facts{}, "deny default"},
		{"allow list", "deny", []policy.Rule{{Modules: []string{"github.com/good/*"}, Action: "allow"}}, "", "github.com/good/x@v1.0.0", policy.Facts{}, "allow"},
		{"the first decides", "", []policy.Rule{{Modules: []string{"example.com/a"}, Action: "allow"}, {Modules: []string{"example.com/*"}, Action: "deny"}}, "", "example.com/a@v1.0.0", policy.Facts{}, "allow"},
		{"notes do not decide", "", []policy.Rule{{Action: "warn"}, {Action: "audit"}, {Action: "deny"}, {Action: "warn"}}, "", "example.com/a@v1.0.0", policy.Facts{}, "deny r2 warn r0 audit r1"},
		{"notes alone", "", []policy.Rule{{Action: "warn"}}, "", "example.com/a@v1.0.0", policy.Facts{}, "allow warn r0"},
		{"range", "", []policy.Rule{{Versions: []string{"<v1.0.0", "v1.2.0"}, Action: "deny"}}, "", "example.com/a@v1.2.0", policy.Facts{}, "deny r0"},
		{"outside", "", []policy.Rule{{Versions: []string{"<v1.0.0", "v1.2.0"}, Action: "deny"}}, "", "example.com/a@v1.1.0", policy.Facts{}, "allow"},
		{"group", "", []policy.Rule{{Groups: []string{"ci"}, Action: "deny"}}, "dev,ci", "example.com/a@v1.1.0", policy.Facts{}, "deny r0"},
		{"no group", "", []policy.Rule{{Groups: []string{"ci"}, Action: "deny"}}, "", "example.com/a@v1.1.0", policy.Facts{}, "allow"},
		{"exempt on its last day", "", []policy.Rule{{Action: "deny", Exemptions: exempt}}, "", "example.com/a@v1.2.0", policy.Facts{Now: day("2026-11-22").Add(23 * time.Hour)}, "allow"},
		{"exemption over", "", []policy.Rule{{Action: "deny", Exemptions: exempt}}, "", "example.com/a@v1.2.0", policy.Facts{Now: day("2026-11-23")}, "deny r0"},
		{"no clock, no exemption", "", []policy.Rule{{Action: "deny", Exemptions: exempt}}, "", "example.com/a@v1.2.0", policy.Facts{}, "deny r0"},
		{"exempt from one rule only", "", []policy.Rule{{Action: "deny", Exemptions: exempt}, {Action: "deny"}}, "", "example.com/a@v1.2.0", policy.Facts{Now: now}, "deny r1"},
		{"exemption of another version", "", []policy.Rule{{Action: "deny", Exemptions: exempt}}, "", "example.com/a@v1.2.1", policy.Facts{Now: now}, "deny r0"},
		{"new, not known", "", []policy.Rule{{Action: "deny", AppliesTo: "new"}}, "", "example.com/a@v1.2.1", policy.Facts{}, "unsure"},
		{"new", "", []policy.Rule{{Action: "deny", AppliesTo: "new"}}, "", "example.com/a@v1.2.1", policy.Facts{Known: everything}, "deny r0"},
		{"not new", "", []policy.Rule{{Action: "deny", AppliesTo: "new"}}, "", "example.com/a@v1.2.1", policy.Facts{Known: everything, FirstSeen: now}, "allow"},
		{"new since", "", []policy.Rule{{Action: "deny", AppliesTo: "new", Since: "2026-11-01"}}, "", "example.com/a@v1.2.1", policy.Facts{Known: everything, FirstSeen: now}, "deny r0"},
		{"older", "", []policy.Rule{{Action: "deny", AppliesTo: "new", Since: "2026-11-01"}}, "", "example.com/a@v1.2.1", policy.Facts{Known: everything, FirstSeen: day("2026-10-31")}, "allow"},
		{"retracted, not known", "", []policy.Rule{{Action: "deny", When: policy.When{Retracted: &isTrue}}}, "", "example.com/a@v1.2.0", policy.Facts{}, "unsure"},
		{"unknown, but only noted", "", []policy.Rule{{Action: "warn", When: policy.When{Retracted: &isTrue}}}, "", "example.com/a@v1.2.0", policy.Facts{}, "allow"},
		{"unknown, but denied before", "", []policy.Rule{{Action: "deny"}, {Action: "deny", When: policy.When{Retracted: &isTrue}}}, "", "example.com/a@v1.2.0", policy.Facts{}, "deny r0"},
		{"retracted", "", []policy.Rule{{Action: "deny", When: policy.When{Retracted: &isTrue}}}, "", "example.com/a@v1.2.0", policy.Facts{Known: everything, Module: retracts}, "deny r0"},
		{"not retracted", "", []policy.Rule{{Action: "deny", When: policy.When{Retracted: &isTrue}}}, "", "example.com/a@v1.2.1", policy.Facts{Known: everything, Module: retracts}, "allow"},
		{"deprecated", "", []policy.Rule{{Action: "warn", When: policy.When{Deprecated: &isTrue}}}, "", "example.com/a@v1.2.1", policy.Facts{Known: everything, Module: retracts}, "allow warn r0"},
		{"private", "", []policy.Rule{{Action: "deny", When: policy.When{Private: &isTrue}}}, "", "git.corp.example/a/b@v1.2.1", policy.Facts{}, "deny r0"},
		{"not private", "", []policy.Rule{{Action: "deny", When: policy.When{Private: &isNot}}}, "", "git.corp.example/a/b@v1.2.1", policy.Facts{}, "allow"},
		{"pseudo", "", []policy.Rule{{Action: "deny", When: policy.When{Pseudo: &isTrue}}}, "", "example.com/a@v0.0.0-20260101000000-abcdefabcdef", policy.Facts{}, "deny r0"},
		{"toolchain", "", []policy.Rule{{Action: "deny", When: policy.When{Toolchain: "<go1.26.6"}}}, "", "golang.org/toolchain@v0.0.1-go1.26.5.linux-amd64", policy.Facts{}, "deny r0"},
		{"toolchain, new enough", "", []policy.Rule{{Action: "deny", When: policy.When{Toolchain: "<go1.26.6"}}}, "", "golang.org/toolchain@v0.0.1-go1.26.6.linux-amd64", policy.Facts{}, "allow"},
		{"a toolchain is no pre-release", "", []policy.Rule{{Action: "deny", Versions: []string{"prerelease"}}}, "", "golang.org/toolchain@v0.0.1-go1.26.6.linux-amd64", policy.Facts{}, "allow"},
		{"what looks like a toolchain is", "", []policy.Rule{{Action: "deny", Versions: []string{"prerelease"}}}, "", "example.com/a@v0.0.1-go1.26.6.linux-amd64", policy.Facts{}, "deny r0"},
		{"both must hold", "", []policy.Rule{{Action: "deny", When: policy.When{Retracted: &isTrue, Deprecated: &isNot}}}, "", "example.com/a@v1.2.0", policy.Facts{Known: everything, Module: retracts}, "allow"},
		{"commit of a denied tag", "", []policy.Rule{{Action: "deny", Versions: []string{"v1.2.3"}}}, "", "example.com/a@v1.2.4-0.20260101000000-abcdefabcdef", policy.Facts{Known: everything, Tags: []string{"v1.2.3"}}, "deny r0"},
		{"commit of a denied tag, new or not", "", []policy.Rule{{Action: "deny", AppliesTo: "new", Versions: []string{"v1.2.3"}}}, "", "example.com/a@v1.2.4-0.20260101000000-abcdefabcdef", policy.Facts{Known: policy.FactTags, Tags: []string{"v1.2.3"}}, "unsure"},
		{"commit of another tag", "", []policy.Rule{{Action: "deny", Versions: []string{"v1.2.3"}}}, "", "example.com/a@v1.2.4-0.20260101000000-abcdefabcdef", policy.Facts{Known: everything, Tags: []string{"v1.2.2"}}, "allow"},
		{"commit of who knows what", "", []policy.Rule{{Action: "deny", Versions: []string{"v1.2.3"}}}, "", "example.com/a@v1.2.4-0.20260101000000-abcdefabcdef", policy.Facts{}, "unsure"},
		{"no tag matters", "", []policy.Rule{{Action: "deny", Versions: []string{"pseudo <v1.0.0"}}}, "", "example.com/a@v1.2.4-0.20260101000000-abcdefabcdef", policy.Facts{}, "allow"},
		{"commit of an exempt tag", "", []policy.Rule{{Action: "deny", Versions: []string{"v1.2.0"}, Exemptions: exempt}}, "", "example.com/a@v1.2.4-0.20260101000000-abcdefabcdef", policy.Facts{Now: now, Known: everything, Tags: []string{"v1.2.0"}}, "allow"},
		{"incompatible is the same number", "", []policy.Rule{{Action: "deny", Versions: []string{"v2.0.0"}}}, "", "example.com/a@v2.0.0+incompatible", policy.Facts{}, "deny r0"},
	}
	for _, test := range tests {
		p := rules(t, "git.corp.example/*", test.otherwise, test.rules...)
		caller := policy.Caller{Groups: strings.FieldsFunc(test.groups, func(r rune) bool { return r == ',' })}
		m := version(t, test.mod)
		v := p.Decide(caller, m, test.facts)
		if got := about(v); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		if e := p.Explain(caller, m, test.facts); about(e.Verdict) != test.want || e.Verdict.Text != textOf(v, m) || e.Verdict.ID != v.ID {
			t.Errorf("%s: explained as %q", test.name, about(e.Verdict))
		}
	}
}

// Of what cannot be told yet, the go.mod is open only if no rule that may decide
// is strict.
func TestSparesGoMod(t *testing.T) {
	t.Parallel()
	loose := policy.Rule{Action: "deny"}
	strict := policy.Rule{Action: "deny", Strict: true, Modules: []string{"example.com/malware"}}
	for _, test := range []struct {
		name, private, path string
		rules               []policy.Rule
		want                bool
	}{
		{"no rule", "", "example.com/a", nil, true},
		{"loose", "", "example.com/a", []policy.Rule{loose}, true},
		{"strict", "", "example.com/malware", []policy.Rule{loose, strict}, false},
		{"strict about another module", "", "example.com/a", []policy.Rule{loose, strict}, false},
		{"private", "git.corp.example/*", "git.corp.example/team/lib", []policy.Rule{loose}, false},
		{"private by another spelling", "git.corp.example/*", "git.corp.example/Team", nil, false},
		{"beside private ones", "git.corp.example/*", "example.com/a", []policy.Rule{loose}, true},
	} {
		if got := rules(t, test.private, "", test.rules...).SparesGoMod(test.path); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

func TestStrict(t *testing.T) {
	t.Parallel()
	retracted := policy.When{Retracted: &isTrue}
	loose, strict := policy.Rule{Action: "deny"}, policy.Rule{Action: "deny", Strict: true}
	looseFact, strictFact := policy.Rule{Action: "deny", When: retracted}, policy.Rule{Action: "deny", When: retracted, Strict: true}
	known := policy.Facts{Known: policy.FactNewest, Module: &policy.Module{}}
	for _, test := range []struct {
		name  string
		rules []policy.Rule
		facts policy.Facts
		want  bool
	}{
		{"strict", []policy.Rule{strict}, policy.Facts{}, true},
		{"loose first", []policy.Rule{loose, strict}, policy.Facts{}, false},
		{"loose perhaps, then strict", []policy.Rule{looseFact, strict}, policy.Facts{}, true},
		{"loose perhaps, then strict perhaps", []policy.Rule{looseFact, strictFact}, policy.Facts{}, true},
		{"strict perhaps, then loose", []policy.Rule{strictFact, loose}, policy.Facts{}, true},
		{"not the strict one", []policy.Rule{strictFact, loose}, known, false},
		{"loose perhaps", []policy.Rule{looseFact}, policy.Facts{}, false},
	} {
		p := rules(t, "", "", test.rules...)
		if v := p.Decide(policy.Caller{}, version(t, "example.com/a@v1.0.0"), test.facts); v.Strict != test.want {
			t.Errorf("%s: strict %v", test.name, v.Strict)
		}
		if test.want && p.SparesGoMod("example.com/a") {
			t.Errorf("%s: go.mod files are spared", test.name)
		}
	}
}

func TestIDsAreStable(t *testing.T) {
	t.Parallel()
	p := rules(t, "", "", policy.Rule{Name: "stable", Action: "deny"})
	ids := map[string]bool{}
	for _, m := range []string{"example.com/a@v1.0.0", "example.com/a@v1.0.1", "example.com/b@v1.0.0"} {
		first := p.Decide(policy.Caller{}, version(t, m), policy.Facts{}).ID
		if again := p.Decide(policy.Caller{Name: "x"}, version(t, m), policy.Facts{Now: now}).ID; again != first || first == "" {
			t.Errorf("%s has the ids %q and %q", m, first, again)
		}
		ids[first] = true
	}
	if len(ids) != 3 || !ids["f577ckj6t2"] {
		t.Errorf("ids %v: different refusals share one, or the way to make them has changed", ids)
	}
}

func TestNextExpiry(t *testing.T) {
	t.Parallel()
	exempt := func(days ...string) (all []policy.Exemption) {
		for _, d := range days {
			all = append(all, policy.Exemption{Reason: "r", Approver: "a", Expires: d})
		}
		return all
	}
	p := rules(t, "", "", policy.Rule{Action: "deny", Exemptions: exempt("2027-01-31", "2026-11-01")}, policy.Rule{Action: "deny", Exemptions: exempt("2027-01-30T12:00:00Z")})
	for at, want := range map[string]string{
		"2026-10-31T00:00:00Z": "2026-11-02T00:00:00Z", "2026-11-02T00:00:00Z": "2027-01-30T12:00:00Z",
		"2027-01-30T12:00:00Z": "2027-02-01T00:00:00Z", "2027-02-01T00:00:00Z": "0001-01-01T00:00:00Z",
	} {
		now, _ := time.Parse(time.RFC3339, at)
		if got := p.NextExpiry(now).Format(time.RFC3339); got != want {
			t.Errorf("after %s: %s, want %s", at, got, want)
		}
	}
}
