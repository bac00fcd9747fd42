package proxy_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// What rules need to know is read once, and asked for no more.
func TestFactsAreRemembered(t *testing.T) {
	t.Parallel()
	yes := true
	mods := versions(t, "example.com/m", "retract v1.1.0 // broken\n", "v1.0.0", "v1.1.0", "v1.2.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{When: policy.When{Retracted: &yes}, Action: deny})}, mods...)
	for range 3 {
		w.get("/example.com/m/@v/v1.0.0.zip")
	}
	for _, name := range []string{"list", "v1.2.0.mod"} {
		w.must(w.store.Delete(context.Background(), "example.com/m/@v/"+name))
		for _, up := range []*proxytest.Server{w.up, w.up2} {
			up.SetFault("/example.com/m/@v/"+name, proxytest.Status(500, "down"))
		}
	}
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), mods[0].Zip, access.Hit)
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.zip"), 403, access.Denied, "retracted by v1.2.0: broken")
}

// That a module has no release and no latest version is remembered as well.
func TestAbsentFactsAreRemembered(t *testing.T) {
	t.Parallel()
	yes := true
	mod := proxytest.Simple(t, "example.com/m", aliasOf)
	store := &counting{opened: make(map[string]int)}
	rules := ruled(t, "", policy.Rule{When: policy.When{Retracted: &yes}, Action: deny})
	w := newWorld(t, options{config: func(c *proxy.Config) {
		rules(c)
		store.Store, c.Store, c.NegativeTTL = c.Store, store, time.Hour
	}}, mod)
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault("/example.com/m/@latest", proxytest.Status(404, "not found"))
	}
	const hits = 10
	for range hits {
		w.get("/example.com/m/@v/" + aliasOf + ".zip")
	}
	for name, n := range store.opened {
		if n > 3 && !strings.HasSuffix(name, ".zip") {
			t.Errorf("%s was looked for %d times in %d hits", name, n, hits)
		}
	}
}

// counting counts what is looked for.
type counting struct {
	cache.Store
	mu     sync.Mutex
	opened map[string]int // by name; guarded by mu
}

func (c *counting) Get(ctx context.Context, name string) (*cache.Object, error) {
	c.mu.Lock()
	c.opened[name]++
	c.mu.Unlock()
	return c.Store.Get(ctx, name)
}

// A version that appears may take another one back.
func TestFactsChangeWithTheList(t *testing.T) {
	t.Parallel()
	yes := true
	mods := versions(t, "example.com/m", "retract v1.1.0 // broken\n", "v1.0.0", "v1.1.0", "v1.2.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{When: policy.When{Retracted: &yes}, Action: deny})}, mods...)
	w.up.SetFile("/example.com/m/@v/list", []byte("v1.0.0\nv1.1.0\n"))
	for range 3 {
		if a := w.get("/example.com/m/@v/v1.1.0.zip"); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.text())
		}
		if a := w.get("/example.com/m/@v/list"); a.text() != "v1.0.0\nv1.1.0\n" {
			t.Fatalf("list: %q", a.text())
		}
	}
	w.get("/example.com/m/@v/v1.2.0.mod")
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.zip"), 403, access.Denied, "retracted by v1.2.0")
	if a := w.get("/example.com/m/@v/list"); a.text() != "v1.0.0\nv1.2.0\n" {
		t.Errorf("list: %q", a.text())
	}
}

// What was found out for one set of rules, or for one caller, is not another's.
func TestFactsAreForRulesAndCallers(t *testing.T) {
	t.Parallel()
	live := new(swapped)
	load := func(groups string, versions ...string) {
		p, err := policy.New(policy.Config{Rules: policy.Rules{Rules: []policy.Rule{
			{Name: "r", Versions: versions, Groups: strings.Fields(groups), Action: deny, Reason: "because"}}}})
		if err != nil {
			t.Fatal(err)
		}
		live.Store(p)
	}
	mods := append(versions(t, "example.com/m", "", "v1.0.0", "v1.1.0"), proxytest.Simple(t, "example.com/m", aliasOf))
	load("", "v1.0.0")
	w := newWorld(t, options{config: func(c *proxy.Config) { c.Policy = live }}, mods...)
	w.up.SetFile("/example.com/m/@v/v1.1.0.info", taggedInfo("v1.1.0"))
	check := func(list string, alias int) {
		t.Helper()
		for range 3 {
			if a := w.get("/example.com/m/@v/list"); a.text() != list {
				t.Errorf("list: %q, want %q", a.text(), list)
			}
			if a := w.get("/example.com/m/@v/" + aliasOf + ".zip"); a.status != alias {
				t.Errorf("the commit of v1.1.0: %d, want %d", a.status, alias)
			}
		}
	}
	check("v1.1.0\n", 200)
	load("", "v1.1.0")
	check("v1.0.0\n", 403)
	load("ci", "v1.1.0")
	for range 3 {
		check("v1.0.0\nv1.1.0\n", 200)
		for groups, denied := range map[string]bool{"": false, "dev": false, "ci": true, "dev ci": true} {
			e, err := w.server.Explain(context.Background(), policy.Caller{Groups: strings.Fields(groups)}, "example.com/m", aliasOf)
			if err != nil || e.Verdict.Deny != denied {
				t.Errorf("in %q: refused %v, %v", groups, e.Verdict.Deny, err)
			}
		}
	}
}

// What was removed from the store is looked at again.
func TestForget(t *testing.T) {
	t.Parallel()
	yes := true
	mods := versions(t, "example.com/m", "retract v1.0.0\n", "v1.0.0", "v1.1.0")
	w := newWorld(t, options{noProofs: true, config: ruled(t, "", policy.Rule{When: policy.When{Retracted: &yes}, Action: deny})}, mods...)
	for range 3 {
		w.wantNo(w.get("/example.com/m/@v/v1.0.0.zip"), 403, access.Denied)
	}
	w.up.SetFile("/example.com/m/@v/v1.1.0.mod", []byte("module example.com/m\n"))
	for _, name := range []string{"list", "v1.1.0.mod"} {
		w.must(w.store.Delete(context.Background(), "example.com/m/@v/"+name))
	}
	w.server.Forget()
	if a := w.get("/example.com/m/@v/v1.0.0.zip"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.text())
	}
}

// What another server of the fleet has removed, and what it has changed, is looked
// at again here, of that module alone.
func TestHeardIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	yes := true
	for _, test := range []struct {
		what, heard string
		status      int
	}{
		{"its list is gone", "example.com/m/@v/list", 200},
		{"a file is gone", "example.com/m/@v/v1.1.0.mod", 200},
		{"another module", "example.com/m/v2/@v/list", 403},
		{"no module", "sumdb/sum.example/latest", 403},
		{"something was missed", "", 200},
	} {
		mods := versions(t, "example.com/m", "retract v1.0.0\n", "v1.0.0", "v1.1.0")
		w := newWorld(t, options{noProofs: true, config: ruled(t, "", policy.Rule{When: policy.When{Retracted: &yes}, Action: deny})}, mods...)
		for range 3 {
			w.wantNo(w.get("/example.com/m/@v/v1.0.0.zip"), 403, access.Denied)
		}
		w.up.SetFile("/example.com/m/@v/v1.1.0.mod", []byte("module example.com/m\n"))
		w.must(w.store.Delete(context.Background(), "example.com/m/@v/v1.1.0.mod"))
		w.server.Heard(test.heard)
		if a := w.get("/example.com/m/@v/v1.0.0.zip"); a.status != test.status {
			t.Errorf("%s: %d %s", test.what, a.status, a.text())
		}
	}
}

// Of which commit a tag is, is looked at again when its .info is gone.
func TestHeardAliasIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	mods := append(versions(t, "example.com/m", "", "v1.0.0", "v1.1.0", "v1.2.0"), proxytest.Simple(t, "example.com/m", aliasOf))
	w := newWorld(t, options{noProofs: true, config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny})}, mods...)
	w.up.SetFile("/example.com/m/@v/v1.1.0.info", infoOf("v1.1.0"))
	const zip, info = "/example.com/m/@v/" + aliasOf + ".zip", "example.com/m/@v/v1.1.0.info"
	if a := w.get(zip); a.status != 403 { // of the same second
		t.Fatalf("%d %s", a.status, a.text())
	}
	w.up.SetFile("/"+info, []byte(`{"Version":"v1.1.0","Time":"2023-01-01T00:00:00Z"}`))
	w.must(w.store.Delete(context.Background(), info))
	if a := w.get(zip); a.status != 403 {
		t.Errorf("it is not remembered: %d %s", a.status, a.text())
	}
	w.server.Heard(info)
	if a := w.get(zip); a.status != 200 {
		t.Errorf("%d %s", a.status, a.text())
	}
}
