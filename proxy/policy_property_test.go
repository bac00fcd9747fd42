package proxy_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/module"
	"pgregory.net/rapid"

	"github.com/modgate/modgate/cache/mem"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// swapped is a Policy that can be replaced between requests.
type swapped struct{ atomic.Pointer[policy.Policy] }

func (s *swapped) Current() *policy.Policy                         { return s.Load() }
func (s *swapped) Route(c policy.Caller, path string) policy.Route { return s.Load().Route(c, path) }
func (s *swapped) Decide(c policy.Caller, m module.Version, f policy.Facts) policy.Verdict {
	return s.Load().Decide(c, m, f)
}
func (s *swapped) Filter(c policy.Caller, path string, f policy.Facts) ([]string, policy.Verdict) {
	return s.Load().Filter(c, path, f)
}
func (s *swapped) Explain(c policy.Caller, m module.Version, f policy.Facts) policy.Explanation {
	return s.Load().Explain(c, m, f)
}

// ruleWorld are the modules of TestAsExplained and TestNoWayAround. The pseudo-versions are the
// commits of v1.0.0 and v1.2.0, and one of their own.
func ruleWorld(t testing.TB) *proxytest.Server {
	const first, third, own = "v1.0.1-0.20240101000000-aaaaaaaaaaaa", "v0.0.0-20240103000000-cccccccccccc", "v1.2.1-0.20240104000000-dddddddddddd"
	var mods []*proxytest.Module
	for _, path := range []string{"example.com/a", "example.com/A"} {
		mods = append(mods, versions(t, path, "retract v1.1.0 // broken\n", "v1.0.0", "v1.1.0", "v1.2.0")...)
		for _, v := range []string{first, third, own, "v1.3.0-rc.1", "v2.0.0+incompatible"} {
			mods = append(mods, proxytest.Simple(t, path, v))
		}
	}
	up := proxytest.New(t, mods...)
	for _, path := range []string{"/example.com/a/@v/", "/example.com/!a/@v/"} {
		for v, hash := range map[string]string{"v1.0.0": "aaaaaaaaaaaa", "v1.1.0": "bbbbbbbbbbbb", "v1.2.0": "cccccccccccc", "v1.3.0-rc.1": "eeeeeeeeeeee", "v2.0.0+incompatible": "ffffffffffff"} {
			up.SetFile(path+v+".info", []byte(`{"Version":"`+v+`","Time":"2024-01-01T00:00:00Z","Origin":{"Hash":"`+hash+`0000"}}`))
		}
		up.SetFile(path+"main.info", infoOf(own))
		up.SetFile(path+"v1.info", infoOf("v1.2.0"))
		up.SetFile(path+"v2.0.0.info", infoOf("v2.0.0+incompatible"))
	}
	return up
}

func randomRule(t *rapid.T, n int) policy.Rule {
	yes, no := true, false
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	r := policy.Rule{
		Name: "r" + string(rune('0'+n)), Reason: "because", Action: pick("action", "allow", "deny", "deny", "audit"),
		Modules:   []string{pick("modules", "example.com/*", "example.com/a", "example.com/A", "elsewhere.example")},
		AppliesTo: pick("applies", "all", "all", "new"),
	}
	if v := pick("versions", "", "v1.0.0", "v1.1.0", ">=v1.2.0", "<v1.1.0", "pseudo", "prerelease", "incompatible", "v2.0.0", "v0.0.0-20240103000000-cccccccccccc"); v != "" {
		r.Versions = []string{v}
	}
	switch rapid.IntRange(0, 9).Draw(t, "when") {
	case 0, 1:
		r.When.Retracted = &yes
	case 2:
		r.When.Deprecated = &no
	}
	if r.Action == deny && rapid.IntRange(0, 4).Draw(t, "strict") == 0 {
		r.Strict = true
	}
	if rapid.IntRange(0, 3).Draw(t, "exempt") == 0 {
		r.Exemptions = []policy.Exemption{{
			Versions: []string{pick("exempt versions", "v1.0.0", ">=v1.2.0", "pseudo")}, Reason: "r", Approver: "a", Expires: pick("expires", "2020-01-01", "2999-01-01"),
			Groups: rapid.SampledFrom([][]string{nil, {"dev"}}).Draw(t, "exempt groups"),
		}}
	}
	if rapid.IntRange(0, 3).Draw(t, "grouped") == 0 {
		r.Groups = []string{"ci"}
	}
	return r
}

func randomRules(t *rapid.T) *policy.Policy {
	cfg := policy.Config{Rules: policy.Rules{Default: rapid.SampledFrom([]string{"allow", "allow", "deny"}).Draw(t, "default")}}
	for i := range rapid.IntRange(0, 3).Draw(t, "rules") {
		cfg.Rules.Rules = append(cfg.Rules.Rules, randomRule(t, i))
	}
	p, err := policy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAsExplained asks for random files in random orders, under rules that
// change in between. No zip is ever completed that Explain calls refused just
// before, no refused zip is fetched, and the other files agree with that.
func TestAsExplained(t *testing.T) {
	t.Parallel()
	up := ruleWorld(t)
	chain := newChain(t, up.URL)
	rapid.Check(t, func(t *rapid.T) {
		store, err := mem.New(mem.Config{MaxBytes: 64 << 20, MaxObject: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		rules := new(swapped)
		rules.Store(randomRules(t))
		s, err := proxy.New(proxy.Config{Store: store, Public: chain, Policy: rules})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		for range rapid.IntRange(1, 12).Draw(t, "requests") {
			if rapid.IntRange(0, 5).Draw(t, "reload") == 0 {
				rules.Store(randomRules(t))
			}
			step(t, s, up)
		}
	})
}

// step sends one request and holds its answer against the explanation.
func step(t *rapid.T, s *proxy.Server, up *proxytest.Server) {
	path := rapid.SampledFrom([]string{"example.com/a", "example.com/A"}).Draw(t, "path")
	escaped, _ := module.EscapePath(path)
	version := rapid.SampledFrom([]string{"v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0-rc.1", "v2.0.0+incompatible", "v1.0.1-0.20240101000000-aaaaaaaaaaaa", "v0.0.0-20240103000000-cccccccccccc", "v1.2.1-0.20240104000000-dddddddddddd"}).Draw(t, "version")
	file := rapid.SampledFrom([]string{"zip", "zip", "zip", "info", "mod", "list", "latest", "main", "v1"}).Draw(t, "file")
	name := "/" + escaped + "/@v/"
	switch file {
	case "list":
		name += "list"
	case "latest":
		name = "/" + escaped + "/@latest"
	case "main", "v1":
		name += file + ".info"
	default:
		name += version + "." + file
	}
	zip := "/" + escaped + "/@v/" + version + ".zip"
	before, err := s.Explain(context.Background(), policy.Caller{}, path, version)
	if err != nil {
		t.Fatal(err)
	}
	fetched := up.Count(zip)
	status, body := serveOne(s, name)
	switch {
	case file == "mod" && (status == 200) == (before.Verdict.Deny && before.Verdict.Strict):
		t.Fatalf("%s: %d, explained as %+v", name, status, before.Verdict)
	case (file == "zip" || file == "info") && (status == 200) == before.Verdict.Deny:
		t.Fatalf("%s: %d, explained as %v by %s", name, status, before.Action, before.Rule)
	case before.Verdict.Deny && up.Count(zip) != fetched:
		t.Fatalf("%s fetched %s, which is refused", name, zip)
	case status != 200 && status != 403:
		t.Fatalf("%s: %d %s", name, status, body)
	}
	// What a client is told to choose must be there for it to have.
	for _, v := range strings.Fields(map[bool]string{true: body}[file == "list" && status == 200]) {
		if e, err := s.Explain(context.Background(), policy.Caller{}, path, v); err != nil || e.Verdict.Deny {
			t.Fatalf("%s is listed and refused: %v", v, err)
		}
	}
}

func serveOne(s *proxy.Server, path string) (int, string) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	body, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(body)
}
