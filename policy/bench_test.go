package policy_test

import (
	"fmt"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

// manyRules are 1,000 rules with 10,000 patterns of all forms.
func manyRules(tb testing.TB) *policy.Policy {
	var all policy.Rules
	forms := []string{"github.com/org%d/*", "github.com/org%d/repo", "*.host%d.example", "host%d.example/*/x", "gopkg.in/p%d*", "go-%d.example", "github.com/*/name%d", "example.com/a%d/b/c", "k%d.io", "github.com/s%d/go-*"}
	for i := range 1000 {
		r := policy.Rule{Name: fmt.Sprintf("r%d", i), Action: "deny", Reason: "because"}
		for _, form := range forms {
			r.Modules = append(r.Modules, fmt.Sprintf(form, i))
		}
		if i%2 == 0 {
			r.Versions = []string{"<v1.0.0", ">=v2.0.0 <v2.1.0"}
		}
		all.Rules = append(all.Rules, r)
	}
	p, err := policy.New(policy.Config{Private: "git.corp.example/*", Rules: all})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func BenchmarkDecide(b *testing.B) {
	p := manyRules(b)
	for _, m := range []module.Version{
		{Path: "github.com/prometheus/client_golang", Version: "v1.25.0"}, // no rule is for it
		{Path: "github.com/org500/repo", Version: "v1.25.0"},              // ranges are looked at
		{Path: "git.corp.example/org500/repo"},                            // may a private module be read at all
	} {
		b.Run(m.Path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p.Decide(policy.Caller{}, m, policy.Facts{Now: now}).Deny {
					b.Fatal("denied")
				}
			}
		})
	}
}

func TestDecisionsAllocateNothing(t *testing.T) {
	p := manyRules(t)
	for _, m := range []module.Version{{Path: "github.com/org500/repo", Version: "v1.25.0"}, {Path: "git.corp.example/org500/repo"}} {
		if n := testing.AllocsPerRun(100, func() { p.Decide(policy.Caller{}, m, policy.Facts{Now: now}) }); n > 0 {
			t.Errorf("%v: %v allocations", m, n)
		}
	}
}
