package policy_test

import (
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

func TestRoute(t *testing.T) {
	t.Parallel()
	tests := []struct {
		private, path string
		want          policy.Place
	}{
		{"", "example.com/a", policy.Public},
		{"git.corp.example/*", "git.corp.example/team/repo", policy.Private},
		{"git.corp.example/*", "git.corp.example/team/repo/v2/pkg", policy.Private},
		{"git.corp.example/*", "git.corp.example", policy.Nowhere},
		{"git.corp.example/*", "git.corp.example2/team", policy.Public},
		{"git.corp.example/*", "evil.git.corp.example/team", policy.Public},
		{"git.corp.example/secret/*", "git.corp.example/secret", policy.Nowhere},
		{"git.corp.example/secret/*", "git.corp.example", policy.Nowhere},
		{"git.corp.example/secret/*", "git.corp.example/open", policy.Public},
		{"*.corp.example", "git.corp.example/a/b", policy.Private},
		{"*.corp.example", "corp.example", policy.Public},
		{"*.corp.example/team/x", "git.corp.example/team", policy.Nowhere},
		{"*.corp.example/team/x", "git.corp.example", policy.Nowhere},
		{"*/*/secret", "gorm.io/gorm", policy.Public},
		{"*/*/secret", "example.com/a/secret/b", policy.Private},
		{"example.com/a,git.corp.example", "git.corp.example/x", policy.Private},
		{"example.com/a,git.corp.example", "example.com/ab", policy.Public},
		{"github.com/acme/*", "github.com/acme/tool", policy.Private},
		{"github.com/acme/*", "github.com/acme", policy.Nowhere},
		{"github.com/acme/*", "github.com/other/tool", policy.Public},
		{"Git.Corp.example/*", "git.corp.example/secret", policy.Private},
		{"github.com/mycorp/*", "github.com/MyCorp/x", policy.Private},
		{"github.com/MyCorp/*", "github.com/mycorp/x", policy.Private},
		{"", "github.com", policy.Nowhere},
		{"", "github.com/golang", policy.Nowhere},
		{"", "github.com/golang/go", policy.Public},
		{"", "gitlab.com/group", policy.Nowhere},
		{"", "bitbucket.org/team", policy.Nowhere},
		{"", "golang.org/x", policy.Public},
	}
	for _, test := range tests {
		p, err := policy.New(policy.Config{Private: test.private})
		if err != nil {
			t.Fatal(err)
		}
		got := p.Route(policy.Caller{}, test.path)
		if got.Place != test.want {
			t.Errorf("private %q: Route(%q) = %v, want %v", test.private, test.path, got.Place, test.want)
		}
		if got.Place == policy.Nowhere && got.Reason == "" {
			t.Errorf("private %q: Route(%q) has no reason for the client", test.private, test.path)
		}
	}
}

// TestPrivateMatchesLikeGOPRIVATE holds the patterns against the go command's
// own matching.
func TestPrivateMatchesLikeGOPRIVATE(t *testing.T) {
	t.Parallel()
	patterns := "git.corp.example/*,*.internal.example,example.com/a?c/x"
	p, err := policy.New(policy.Config{Private: patterns})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"git.corp.example/a", "x.internal.example", "a.b.internal.example/c", "example.com/abc/x/y", "example.com/abc/xy"} {
		if module.MatchPrefixPatterns(patterns, path) && !p.IsPrivate(path) {
			t.Errorf("%s is private for the go command, and not here", path)
		}
	}
}

func TestNewReportsAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := policy.New(policy.Config{Private: "a[,fine.example,b["})
	if err == nil || !strings.Contains(err.Error(), `"a["`) || !strings.Contains(err.Error(), `"b["`) {
		t.Errorf("got %v, want both patterns named", err)
	}
}

func TestNewRefusesPatternsThatProtectNothing(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"/git.corp.example", ".corp.example", "git.corp.example:8443/x", "git.corp.example/lib@v1.0.0", "https://git.corp.example", "git.corp.example//x", "git corp"} {
		if _, err := policy.New(policy.Config{Private: pattern}); err == nil {
			t.Errorf("%q is accepted, and no module path can match it", pattern)
		}
	}
}

func TestDecideAllowsWithoutRules(t *testing.T) {
	t.Parallel()
	p, err := policy.New(policy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if v := p.Decide(policy.Caller{}, module.Version{Path: "example.com/a", Version: "v1.0.0"}, policy.Facts{}); v.Deny {
		t.Error("denied without a rule")
	}
}

func BenchmarkRoute(b *testing.B) {
	p, err := policy.New(policy.Config{Private: "git.corp.example/*,*.internal.example"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Route(policy.Caller{}, "github.com/prometheus/client_golang")
	}
}
