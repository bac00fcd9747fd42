package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// ruled makes a Policy of rules for the options of a world.
func ruled(t testing.TB, otherwise string, rules ...policy.Rule) func(*proxy.Config) {
	t.Helper()
	for i := range rules {
		if rules[i].Name == "" {
			rules[i].Name = fmt.Sprintf("r%d", i)
		}
		if rules[i].Reason == "" {
			rules[i].Reason = "because"
		}
	}
	p, err := policy.New(policy.Config{Rules: policy.Rules{Default: otherwise, Rules: rules}})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *proxy.Config) { c.Policy = p }
}

// versions builds versions of one module; retracts is a line for the last.
func versions(t testing.TB, path, retracts string, all ...string) []*proxytest.Module {
	t.Helper()
	var mods []*proxytest.Module
	for i, v := range all {
		mod := "module " + path + "\n\ngo 1.20\n"
		if i == len(all)-1 {
			mod += retracts
		}
		mods = append(mods, proxytest.Build(t, module.Version{Path: path, Version: v}, map[string][]byte{
			"go.mod": []byte(mod), "m.go": []byte("package m\n\nconst Version = \"" + v + "\"\n"),
		}))
	}
	return mods
}

const deny = "deny"

func TestDeniedVersion(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny})}, mods...)
	for range 2 { // the second time some of it is stored
		w.wantNo(w.get("/example.com/m/@v/v1.1.0.zip"), 403, access.Denied, "blocked: example.com/m@v1.1.0 by rule r0\nwhy: because\nnewest allowed: v1.0.0\ndo: go get example.com/m@v1.0.0\nid: ")
		w.wantNo(w.get("/example.com/m/@v/v1.1.0.info"), 403, access.Denied, "blocked: example.com/m@v1.1.0")
		if a := w.get("/example.com/m/@v/v1.1.0.mod"); a.status != 200 {
			t.Errorf("its go.mod: %d, which breaks go mod tidy", a.status)
		}
		if a := w.get("/example.com/m/@v/list"); a.text() != "v1.0.0\n" {
			t.Errorf("list: %q", a.text())
		}
		if a := w.get("/example.com/m/@latest"); !strings.Contains(a.text(), `"v1.0.0"`) {
			t.Errorf("latest: %d %q", a.status, a.text())
		}
		if a := w.get("/example.com/m/@v/v1.0.0.zip"); a.status != 200 || a.header.Get("Cache-Control") != "private, no-cache" {
			t.Errorf("the other: %d, %v", a.status, a.header)
		}
	}
	if n := w.up.Count("/example.com/m/@v/v1.1.0.zip"); n != 0 {
		t.Errorf("the refused zip was asked for %d times", n)
	}
	w.wantNothing(mods[1], "zip")
}

// What was stored before a rule came is refused as well.
func TestRuleForWhatIsStored(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	first := newWorld(t, options{}, m)
	first.want(first.get("/example.com/m/@v/v1.0.0.zip"), m.Zip, access.Miss)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		w := newWorld(t, options{store: first.store, config: ruled(t, "", policy.Rule{Action: deny})}, m)
		if a := w.ask(method, "/example.com/m/@v/v1.0.0.zip"); a.status != 403 {
			t.Errorf("%s: %d", method, a.status)
		}
		if a := w.ask(method, "/example.com/m/@v/v1.0.0.zip", "If-None-Match", `"x"`, "Range", "bytes=0-9"); a.status != 403 {
			t.Errorf("%s of a part: %d", method, a.status)
		}
	}
}

func TestAbsentIsNotRefused(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/good/m", "v1.0.0")
	w := newWorld(t, options{config: ruled(t, deny, policy.Rule{Modules: []string{"example.com/good/*"}, Action: "allow"})}, m,
		proxytest.Simple(t, "example.com/other", "v1.0.0"))
	for _, path := range []string{"/example.com/good/m/pkg/@v/list", "/example.com/good/@v/list", "/example.com/@v/v1.0.0.info", "/example.com/good/m/pkg/@latest", "/example.com/nothing/@v/v1.0.0.zip", "/example.com/good/m/@v/v1.9.0.zip"} {
		w.wantNo(w.get(path), 404, access.Absent)
	}
	w.wantNo(w.get("/example.com/other/@v/list"), 403, access.Denied, "blocked: example.com/other (every version) by rule default")
	w.wantNo(w.get("/example.com/other/@latest"), 403, access.Denied, "(every version)")
	w.wantNo(w.get("/example.com/other/@v/v1.0.0.zip"), 403, access.Denied, "blocked: example.com/other@v1.0.0 by rule default")
	w.want(w.get("/example.com/good/m/@v/v1.0.0.zip"), m.Zip, access.Miss)
}

// golang/go#76485: who hides v1.2.0 must hide v1.1.0, which it takes back.
func TestHiddenRetraction(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "retract v1.1.0 // broken\n", "v1.0.0", "v1.1.0", "v1.2.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{">=v1.2.0"}, Action: deny})}, mods...)
	if a := w.get("/example.com/m/@v/list"); a.text() != "v1.0.0\n" {
		t.Errorf("list: %q", a.text())
	}
	if a := w.get("/example.com/m/@latest"); !strings.Contains(a.text(), `"v1.0.0"`) {
		t.Errorf("latest: %q", a.text())
	}
	w.wantNo(w.get("/example.com/m/@v/v1.2.0.info"), 403, access.Denied, "newest allowed: v1.0.0")
	w.want(w.get("/example.com/m/@v/v1.1.0.zip"), mods[1].Zip, access.Miss) // pinned builds go on
}

func TestRetractedAndDeprecated(t *testing.T) {
	t.Parallel()
	yes := true
	mods := versions(t, "example.com/m", "retract v1.1.0 // broken\n", "v1.0.0", "v1.1.0", "v1.2.0")
	mods = append(mods, proxytest.Build(t, module.Version{Path: "example.com/old", Version: "v1.0.0"}, map[string][]byte{
		"go.mod": []byte("// Deprecated: use example.com/m\nmodule example.com/old\n")}))
	w := newWorld(t, options{config: ruled(t, "",
		policy.Rule{Name: "retracted", When: policy.When{Retracted: &yes}, Action: deny},
		policy.Rule{Name: "deprecated", When: policy.When{Deprecated: &yes}, Action: "warn"})}, mods...)
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.zip"), 403, access.Denied, "why: because (retracted by v1.2.0: broken)\nnewest allowed: v1.2.0")
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), mods[0].Zip, access.Miss)
	for range 2 {
		a := w.get("/example.com/old/@v/v1.0.0.zip")
		if note := a.header.Get("Modgate-Policy"); a.status != 200 || !strings.HasPrefix(note, "warn; rule=deprecated; id=") {
			t.Errorf("%d, noted %q", a.status, note)
		}
	}
}

// What rules need to know cannot be had: that is neither a yes nor a refusal.
func TestUndecided(t *testing.T) {
	t.Parallel()
	yes := true
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{When: policy.When{Retracted: &yes}, Action: deny}, policy.Rule{When: policy.When{Deprecated: &yes}, Action: "audit"})}, m)
	w.up.SetFault("/example.com/m/@v/list", proxytest.Status(500, "down"))
	w.up2.SetFault("/example.com/m/@v/list", proxytest.Status(500, "down"))
	w.wantNo(w.get("/example.com/m/@v/v1.0.0.zip"), 503, access.Trouble, "not decided yet: example.com/m@v1.0.0")
	w.up.SetFault("/example.com/m/@v/list", nil)
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), m.Zip, access.Miss)
}

func TestAudit(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Action: "audit"}, policy.Rule{Action: "warn"})}, m)
	a := w.get("/example.com/m/@v/v1.0.0.zip")
	w.want(a, m.Zip, access.Miss)
	if notes := a.header.Values("Modgate-Policy"); len(notes) != 2 || !strings.HasPrefix(notes[0], "would-deny; rule=r0; id=") || !strings.HasPrefix(notes[1], "warn; rule=r1; id=") {
		t.Errorf("notes %q", notes)
	}
	if a := w.get("/example.com/m/@v/list"); a.text() != "v1.0.0\n" {
		t.Errorf("list: %q", a.text())
	}
}

// A31: what a path means is judged, not how it is written.
func TestEncodingIsNoWayAround(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "github.com/evil/m", "v1.0.0")
	upper := proxytest.Simple(t, "github.com/Evil/m", "v1.0.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Modules: []string{"github.com/evil/*"}, Action: deny})}, m, upper)
	for _, path := range []string{
		"/github.com/evil/m/@v/v1.0.0.zip", "/github.com/!evil/m/@v/v1.0.0.zip", "/%67ithub.com/evil/m/@v/v1.0.0.zip", "/github.com/evil/m/@v/v1.0.0.zip/",
		"//github.com/evil/m/@v/v1.0.0.zip", "/github.com//evil/m/@v/v1.0.0.zip", "/github.com/Evil/m/@v/v1.0.0.zip", "/github.com/%21evil/m/@v/v1.0.0.zip",
		"/github.com/x/../evil/m/@v/v1.0.0.zip", "/github.com/evil/m/@v/v1.0.0%2ezip", "/github.com/evil/m/@v/v1.0.0.zip?x=y", "/github.com/evil/m/@v/v1.0.zip",
	} {
		if a := w.get(path); a.status != 403 && a.status != 404 {
			t.Errorf("%s: %d, %d bytes", path, a.status, len(a.body))
		}
	}
	for _, host := range w.up.Requests() {
		if strings.HasSuffix(host.Path, ".zip") {
			t.Errorf("fetched %s", host.Path)
		}
	}
}

// A32: a refused version by another name.
func TestAliasIsNoWayAround(t *testing.T) {
	t.Parallel()
	const pseudo, other = "v1.1.1-0.20240101000000-abcdefabcdef", "v1.1.1-0.20240102000000-bbcdefabcdef"
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0")
	timed := versions(t, "example.com/timed", "", "v1.0.0", "v1.1.0")
	all := append(mods, timed...)
	for _, v := range []string{pseudo, other} {
		all = append(all, proxytest.Simple(t, "example.com/m", v), proxytest.Simple(t, "example.com/timed", v))
	}
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny})}, all...)
	w.up.SetFile("/example.com/m/@v/v1.1.0.info", []byte(`{"Version":"v1.1.0","Time":"2024-01-01T00:00:00Z","Origin":{"VCS":"git","Hash":"abcdefabcdef0123456789"}}`))
	w.up.SetFile("/example.com/timed/@v/v1.1.0.info", []byte(`{"Version":"v1.1.0","Time":"2024-01-01T00:00:00Z"}`))
	w.up.SetFile("/example.com/m/@v/main.info", infoOf(pseudo))
	w.up.SetFile("/example.com/m/@v/v1.info", infoOf("v1.1.0"))
	w.up.SetFile("/example.com/m/@v/dev.info", infoOf(other))
	for _, path := range []string{"main.info", "v1.info", pseudo + ".info", pseudo + ".zip"} {
		w.wantNo(w.get("/example.com/m/@v/"+path), 403, access.Denied, "blocked: example.com/m@v1.1.")
	}
	w.wantNo(w.get("/example.com/m/@v/"+pseudo+".zip"), 403, access.Denied, "(the commit of v1.1.0)")
	w.wantNo(w.get("/example.com/timed/@v/"+pseudo+".zip"), 403, access.Denied, "(the commit of v1.1.0)")
	for _, path := range []string{"/example.com/m/@v/dev.info", "/example.com/m/@v/" + other + ".zip", "/example.com/timed/@v/" + other + ".zip"} {
		if a := w.get(path); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.text())
		}
	}
}

func TestNewAndServed(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0")
	before := newWorld(t, options{}, mods...)
	before.want(before.get("/example.com/m/@v/v1.0.0.zip"), mods[0].Zip, access.Miss)
	before.get("/example.com/m/@v/v1.1.0.mod") // says nothing about the zip
	w := newWorld(t, options{store: before.store, config: ruled(t, "", policy.Rule{AppliesTo: "new", Action: deny})}, mods...)
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), mods[0].Zip, access.Hit)
	if a := w.get("/example.com/m/@v/v1.0.0.info"); a.status != 200 {
		t.Errorf("its .info: %d", a.status)
	}
	if a := w.get("/example.com/m/@v/list"); a.text() != "v1.0.0\n" {
		t.Errorf("list: %q", a.text())
	}
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.zip"), 403, access.Denied)
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.info"), 403, access.Denied)
}

// A directory that another program has filled is what builds depend on.
func TestAdoptedIsNotNew(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0")
	w := newWorld(t, options{
		adopt:  map[string][]byte{"example.com/m/@v/v1.0.0.zip": mods[0].Zip},
		config: ruled(t, "", policy.Rule{AppliesTo: "new", Action: deny}),
	}, mods...)
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), mods[0].Zip, access.Miss)
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), mods[0].Zip, access.Hit)
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.zip"), 403, access.Denied)
}

func TestExplainAsEnforced(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny})}, mods...)
	w.up.SetFile("/example.com/m/@v/main.info", infoOf("v1.1.0"))
	for query, want := range map[string]string{"v1.0.0": "v1.0.0 allow default", "v1.1.0": "v1.1.0 deny r0", "main": "v1.1.0 deny r0", "": "v1.1.0 deny r0", "latest": "v1.1.0 deny r0"} {
		e, err := w.server.Explain(context.Background(), policy.Caller{}, "example.com/m", query)
		if got := fmt.Sprintf("%s %s %s", e.Version, e.Action, e.Rule); err != nil || got != want || e.Newest != "v1.0.0" {
			t.Errorf("%q: %q, %v, newest %s; want %q", query, got, err, e.Newest, want)
		}
	}
	for _, query := range []string{"v9.0.0", "nowhere", "../x"} {
		if e, err := w.server.Explain(context.Background(), policy.Caller{}, "example.com/m", query); err == nil {
			t.Errorf("%s is explained: %+v", query, e)
		}
	}
	denied := w.get("/example.com/m/@v/v1.1.0.zip")
	e, err := w.server.Explain(context.Background(), policy.Caller{}, "example.com/m", "v1.1.0")
	if err != nil || e.Verdict.Text != denied.text() {
		t.Errorf("%v: explained %q, answered %q", err, e.Verdict.Text, denied.text())
	}
}

// Over TLS the go command asks again for each 4xx: one refusal, in metrics and
// log.
func TestDoubledRefusalCountsOnce(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Action: deny})}, mods...)
	want := 0.0
	step := func(first bool, path string, header ...string) {
		t.Helper()
		if first {
			want++
		}
		w.get("/example.com/m/@v/"+path, header...)
		if n := w.counted("deny"); n != want {
			t.Errorf("%s: %v refusals counted, want %v", path, n, want)
			want = n
		}
	}
	step(true, "v1.0.0.zip", "X-Forwarded-Proto", "https")
	step(true, "v1.0.0.info", "X-Forwarded-Proto", "https") // another question
	step(false, "v1.0.0.zip", "X-Forwarded-Proto", "https")
	step(true, "v1.1.0.zip", "X-Forwarded-Proto", "https")
	step(true, "v1.0.0.zip", "X-Forwarded-Proto", "https") // a new pair
	for range 3 {                                          // without TLS there are no pairs
		step(true, "v1.0.0.zip")
	}
}

// One address may be that of many callers: the refusal of each counts.
func TestRefusalsOfTwoCallersAreNoPair(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Action: deny})}, versions(t, "example.com/m", "", "v1.0.0")...)
	for i, name := range []string{"ann", "bob", "ann", "bob"} {
		rw := httptest.NewRecorder()
		as := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			access.From(rw).Caller = name
			w.server.ServeHTTP(rw, r)
		})
		access.Handler(as, access.Reports{}).ServeHTTP(rw, httptest.NewRequest("GET", "https://go.corp.example/example.com/m/@v/v1.0.0.zip", nil))
		if n, want := w.counted("deny"), float64(min(i+1, 2)); rw.Code != 403 || n != want {
			t.Errorf("%s: %d, %v refusals counted, want %v", name, rw.Code, n, want)
		}
	}
}

// counted returns the number of decisions with this action.
func (w *world) counted(action string) float64 {
	w.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w.server.Collectors()...)
	families, err := registry.Gather()
	w.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "modgate_policy_decisions_total" && m.GetLabel()[0].GetValue() == action {
				return m.GetCounter().GetValue()
			}
		}
	}
	w.Fatalf("no series for %s", action)
	return 0
}

// Rules judge private modules like public ones, and ask nobody outside for it.
func TestRulesForPrivateModules(t *testing.T) {
	t.Parallel()
	yes := true
	secret := proxytest.Simple(t, "git.corp.example/team/secret", "v1.0.0")
	p, err := policy.New(policy.Config{Private: "git.corp.example/*", Rules: policy.Rules{Rules: []policy.Rule{
		{Name: "review", Action: deny, Reason: "because", When: policy.When{Private: &yes, Retracted: new(bool)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	w, _ := newPrivateWorld(t, options{config: func(c *proxy.Config) { c.Policy = p }}, secret)
	base := "/git.corp.example/team/secret/@v/"
	w.wantNo(w.get(base+"v1.0.0.zip"), 403, access.Denied, "blocked: git.corp.example/team/secret@v1.0.0 by rule review", "not retracted by v1.0.0")
	w.wantNo(w.get(base+"list"), 403, access.Denied, "(every version)")
	w.wantNo(w.get("/git.corp.example/team/secret/pkg/@v/list"), 404, access.Absent)
	if a := w.get(base + "v1.0.0.mod"); a.status != 200 {
		t.Errorf("its go.mod: %d", a.status)
	}
	if all := append(w.up.Requests(), w.up2.Requests()...); len(all) > 0 {
		t.Errorf("the public upstream was asked: %v", all)
	}
}

// A module that nobody has tagged: its list is empty, and @latest is judged.
func TestRulesForUntaggedModules(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v0.0.0-20240101000000-abcdefabcdef")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"pseudo"}, Action: deny})}, m)
	if a := w.get("/example.com/m/@v/list"); a.status != 200 || a.text() != "" {
		t.Errorf("list: %d %q", a.status, a.text())
	}
	w.wantNo(w.get("/example.com/m/@latest"), 403, access.Denied, "blocked: example.com/m@v0.0.0-20240101000000-abcdefabcdef")
	free := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"prerelease"}, Action: deny})}, m)
	if a := free.get("/example.com/m/@latest"); a.status != 200 {
		t.Errorf("latest: %d %s", a.status, a.text())
	}
}

func TestStrictRule(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0", "v1.2.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny, Strict: true, AppliesTo: "new"}, policy.Rule{Action: "audit"}, policy.Rule{Versions: []string{"v1.2.0"}, Action: deny})}, mods...)
	for range 2 {
		w.wantNo(w.get("/example.com/m/@v/v1.1.0.mod"), 403, access.Denied, "blocked: example.com/m@v1.1.0 by rule r0")
		for _, v := range []string{"v1.0.0", "v1.2.0"} {
			if a := w.get("/example.com/m/@v/" + v + ".mod"); a.status != 200 || a.header.Get("Modgate-Policy") != "" {
				t.Errorf("%s: %d %v", v, a.status, a.header)
			}
		}
	}
}

// A source that lists a version without a go.mod, or nothing at all, does not
// leave rules undecided for ever.
func TestNothingSpeaksForTheModule(t *testing.T) {
	t.Parallel()
	yes := true
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	silent := proxytest.Simple(t, "example.com/silent", "v1.0.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{When: policy.When{Retracted: &yes}, Action: deny})}, m, silent)
	w.up.SetFile("/example.com/m/@v/list", []byte("v1.0.0\nv1.9.0\n"))
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), m.Zip, access.Miss)
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault("/example.com/silent/@v/list", proxytest.Status(404, "not found"))
		up.SetFault("/example.com/silent/@latest", proxytest.Status(404, "not found"))
	}
	w.want(w.get("/example.com/silent/@v/v1.0.0.zip"), silent.Zip, access.Miss)
}

// While the upstream says nothing, a note that needs it costs one request a
// moment, and the others nothing.
func TestNotesDoNotWait(t *testing.T) {
	t.Parallel()
	yes := true
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	before := newWorld(t, options{}, m)
	before.get("/example.com/m/@v/v1.0.0.zip")
	w := newWorld(t, options{store: before.store, config: ruled(t, "", policy.Rule{When: policy.When{Deprecated: &yes}, Action: "warn"})}, m)
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault("*", proxytest.Stall(0))
	}
	start := time.Now()
	for range 20 {
		w.want(w.get("/example.com/m/@v/v1.0.0.zip"), m.Zip, access.Hit)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("20 hits took %v", took)
	}
}

// What the refused newest version takes back cannot be learned: the list must
// not be shown without it.
func TestUndecidedList(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "retract v1.1.0 // broken\n", "v1.0.0", "v1.1.0", "v1.2.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{">=v1.2.0"}, Action: deny})}, mods...)
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault("/example.com/m/@v/v1.2.0.mod", proxytest.Status(500, "down"))
	}
	for _, path := range []string{"/example.com/m/@v/list", "/example.com/m/@latest"} {
		w.wantNo(w.get(path), 503, access.Trouble, "not decided yet: example.com/m", "do: try again in a moment")
	}
	w.wantNo(w.get("/example.com/m/@v/v1.2.0.zip"), 403, access.Denied, "blocked: example.com/m@v1.2.0")
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), mods[0].Zip, access.Miss)
	if n := w.counted("undecided"); n != 2 {
		t.Errorf("%v counted as undecided, want 2", n)
	}
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault("/example.com/m/@v/v1.2.0.mod", nil)
	}
	if a := w.get("/example.com/m/@v/list"); a.text() != "v1.0.0\n" {
		t.Errorf("list: %d %q", a.status, a.text())
	}
}
