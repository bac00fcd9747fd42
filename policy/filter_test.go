package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"pgregory.net/rapid"

	"github.com/modgate/modgate/policy"
)

func TestNewest(t *testing.T) {
	t.Parallel()
	tests := []struct{ versions, want string }{
		{"", ""},
		{"v1.0.0 v1.10.0 v1.9.0", "v1.10.0"},
		{"v1.0.0 v1.1.0-rc.1", "v1.0.0"},
		{"v1.1.0-rc.1 v1.1.0-rc.2", "v1.1.0-rc.2"},
		{"v1.0.0 v2.0.0+incompatible", "v1.0.0"},
		{"v2.0.0+incompatible", "v2.0.0+incompatible"},
	}
	for _, test := range tests {
		if got := policy.Newest(strings.Fields(test.versions)); got != test.want {
			t.Errorf("of %q: %q, want %q", test.versions, got, test.want)
		}
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	retract := []policy.Retraction{{Low: "v1.1.0", High: "v1.1.9"}}
	known := policy.FactVersions | policy.FactNewest
	denyNew := policy.Rule{Versions: []string{">=v1.2.0"}, Action: "deny"}
	tests := []struct {
		name     string
		rule     policy.Rule
		facts    policy.Facts
		versions string
		want     string // and what is left, or the verdict
	}{
		{"nothing to say", policy.Rule{Modules: []string{"example.com/b"}, Action: "deny"}, policy.Facts{}, "", ""},
		{"versions are wanted", denyNew, policy.Facts{}, "", "wants"},
		{"all stay", denyNew, policy.Facts{Known: policy.FactVersions}, "v1.0.0 v1.1.0", "v1.0.0 v1.1.0"},
		{"the newest is hidden, what it retracts is wanted", denyNew, policy.Facts{Known: policy.FactVersions}, "v1.0.0 v1.1.0 v1.2.0", "wants"},
		// golang/go#76485: go get @latest must not take what v1.2.0 takes back.
		{"and hidden too", denyNew, policy.Facts{Known: known}, "v1.2.0 v1.0.0 v1.1.0", "v1.0.0"},
		{"an older one is hidden, the newest speaks for itself", policy.Rule{Versions: []string{"v1.0.0"}, Action: "deny"}, policy.Facts{Known: policy.FactVersions}, "v1.0.0 v1.1.0 v1.2.0", "v1.1.0 v1.2.0"},
		{"nothing is left", policy.Rule{Action: "deny"}, policy.Facts{Known: policy.FactVersions}, "v1.0.0 v1.1.0", "deny r0"},
		{"no tags", policy.Rule{Action: "deny"}, policy.Facts{Known: policy.FactVersions}, "", ""},
		{"notes hide nothing", policy.Rule{Action: "warn"}, policy.Facts{Known: policy.FactVersions}, "v1.0.0", "v1.0.0"},
		{"new, not known", policy.Rule{Action: "deny", AppliesTo: "new"}, policy.Facts{Known: policy.FactVersions}, "v1.0.0", "wants"},
		{"new", policy.Rule{Action: "deny", AppliesTo: "new"}, policy.Facts{Known: known | policy.FactFirstSeen}, "v1.0.0 v1.0.1", "v1.0.0"},
	}
	for _, test := range tests {
		p := rules(t, "", "", test.rule)
		test.facts.Module = &policy.Module{Versions: strings.Fields(test.versions), Newest: "v1.2.0", Retractions: retract, FirstSeen: map[string]time.Time{"v1.0.0": now}}
		versions, v := p.Filter(policy.Caller{}, "example.com/a", test.facts)
		got := strings.Join(versions, " ")
		switch {
		case v.Deny:
			got += about(v)
		case v.Wants != 0:
			got += "wants"
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// ruleOf generates rules about a small world, so that they meet.
func ruleOf(t *rapid.T, n int) policy.Rule {
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	some := func(name string, of ...string) []string {
		return rapid.SliceOfN(rapid.SampledFrom(of), 0, 2).Draw(t, name)
	}
	r := policy.Rule{
		Name: "r" + string(rune('a'+n)), Reason: "because",
		Action:   pick("action", "allow", "deny", "deny", "warn", "audit"),
		Modules:  some("modules", "example.com/*", "example.com/a", "example.com/A", "*/b", "github.com/x"),
		Versions: some("versions", "<v1.1.0", "v1.1.0", ">=v1.2.0", "pseudo", "prerelease"),
		Groups:   some("groups", "ci", "dev"),
	}
	if rapid.Bool().Draw(t, "new") {
		r.AppliesTo = "new"
	}
	if rapid.Bool().Draw(t, "retracted") {
		r.When.Retracted = &isTrue
	}
	if rapid.Bool().Draw(t, "exempt") {
		r.Exemptions = []policy.Exemption{{Versions: some("exempt versions", "v1.1.0", "<v1.2.0"), Reason: "r", Approver: "a", Expires: pick("expires", "2026-01-01", "2027-01-01")}}
	}
	return r
}

func factsOf(t *rapid.T) policy.Facts {
	f := policy.Facts{Now: now, Known: policy.Fact(rapid.IntRange(0, 15).Draw(t, "known"))}
	f.Module = &policy.Module{
		Versions: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"v1.0.0", "v1.1.0", "v1.1.1-rc.1", "v1.2.0", "v1.3.0"}), func(s string) string { return s }).Draw(t, "versions"),
	}
	f.Module.Newest = policy.Newest(f.Module.Versions)
	if rapid.Bool().Draw(t, "retracts") {
		f.Module.Retractions = []policy.Retraction{{Low: "v1.1.0", High: "v1.1.0"}}
	}
	if rapid.Bool().Draw(t, "seen") {
		f.FirstSeen = now.AddDate(0, -1, 0)
		f.Module.FirstSeen = map[string]time.Time{"v1.1.0": f.FirstSeen}
	}
	if rapid.Bool().Draw(t, "tags") {
		f.Tags = []string{"v1.1.0"}
	}
	return f
}

// TestProperties holds decisions, explanations and lists against each other
// for random rules.
func TestProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := policy.Config{
			Private: rapid.SampledFrom([]string{"", "example.com/*"}).Draw(t, "private"),
			Rules:   policy.Rules{Default: rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "default")},
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "rules") {
			cfg.Rules.Rules = append(cfg.Rules.Rules, ruleOf(t, i))
		}
		p, err := policy.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		caller := policy.Caller{Groups: rapid.SliceOfN(rapid.SampledFrom([]string{"ci", "dev"}), 0, 1).Draw(t, "caller")}
		path := rapid.SampledFrom([]string{"example.com/a", "example.com/A/x", "other.example/b"}).Draw(t, "path")
		facts := factsOf(t)
		m := module.Version{Path: path, Version: rapid.SampledFrom([]string{"v1.0.0", "v1.1.0", "v1.2.0", "v1.1.1-rc.1", "v1.1.1-0.20260101000000-abcdefabcdef"}).Draw(t, "version")}
		v := p.Decide(caller, m, facts)
		checkVerdict(t, p, caller, m, facts, v)
		if p.Decide(caller, module.Version{Path: path}, facts).Deny {
			// Nothing that is known may make a difference, or it would be told.
			if w := p.Decide(caller, m, policy.Facts{Now: now}); !v.Deny || !v.Strict || v.Wants != 0 || v.Text != w.Text || len(v.Notes) > 0 {
				t.Fatalf("%s may not be read, and of %s is said %+v, knowing nothing %+v", path, m, v, w)
			}
		}

		visible, listed := p.Filter(caller, path, facts)
		if listed.Wants != 0 {
			return
		}
		newest := policy.Newest(facts.Module.Versions)
		for _, version := range visible {
			f := facts
			f.FirstSeen, f.Tags = f.Module.FirstSeen[version], nil
			if p.Decide(caller, module.Version{Path: path, Version: version}, f).Deny {
				t.Fatalf("%s is listed and denied", version)
			}
			if version == "v1.1.0" && len(facts.Module.Retractions) > 0 && !slices.Contains(visible, newest) {
				t.Fatalf("%s is listed without %s, which retracts it", version, newest)
			}
		}
		if len(facts.Module.Versions) > 0 && facts.Known&policy.FactVersions != 0 && (len(visible) == 0) != listed.Deny {
			t.Fatalf("nothing is left of %v: %+v", facts.Module.Versions, listed)
		}
	})
}

// checkVerdict holds a Verdict against its promises.
func checkVerdict(t *rapid.T, p *policy.Policy, caller policy.Caller, m module.Version, facts policy.Facts, v policy.Verdict) {
	e := p.Explain(caller, m, facts)
	if about(e.Verdict) != about(v) || e.Verdict.Text != textOf(v, m) {
		t.Fatalf("decided %q, explained %q", about(v), about(e.Verdict))
	}
	if v.Wants&facts.Known != 0 {
		t.Fatalf("wants %b, and knows %b", v.Wants, facts.Known)
	}
	text := textOf(v, m)
	if v.Deny != (text != "") {
		t.Fatalf("deny %v with the text %q", v.Deny, text)
	}
	if v.Deny {
		checkText(t, text)
	}
	decides := 0
	for _, s := range e.Steps {
		if s.Decides {
			decides++
		}
		if s.Why == "" {
			t.Fatalf("%+v does not say why", s)
		}
	}
	if decides > 1 || decides == 0 && e.Rule != "default" {
		t.Fatalf("%d rules decide: %+v", decides, e)
	}
}
