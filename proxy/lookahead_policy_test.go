package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// TestLookaheadFetchesWhatAClientWouldHaveFetched: look-ahead does not ask the
// rules, because they decide nothing before a small file is fetched: what is no
// module must be 404 and not 403, and that only upstream knows. So the upstream
// sees of a refused version what it sees when a client asks for it, never its zip,
// and clients get what was fetched ahead as little as what was not.
func TestLookaheadFetchesWhatAClientWouldHaveFetched(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]policy.Rules{
		"denied":      {Rules: []policy.Rule{{Name: "r", Modules: []string{"example.com/low"}, Action: deny, Reason: "because"}}},
		"strict":      {Rules: []policy.Rule{{Name: "r", Modules: []string{"example.com/low"}, Action: deny, Reason: "because", Strict: true}}},
		"not allowed": {Default: deny, Rules: []policy.Rule{{Name: "r", Modules: []string{"example.com/top", "example.com/other"}, Action: "allow"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, err := policy.New(policy.Config{Rules: rules})
			if err != nil {
				t.Fatal(err)
			}
			seen := func(lookAhead int) string {
				mod := func(path, requires string) *proxytest.Module {
					return proxytest.Build(t, module.Version{Path: path, Version: "v1.0.0"}, map[string][]byte{
						"go.mod": []byte("module " + path + "\n" + requires), "m.go": []byte("package m\n")})
				}
				w := newWorld(t, options{config: func(c *proxy.Config) { c.Policy, c.LookAhead = rules, lookAhead }},
					mod("example.com/top", "require example.com/low v1.0.0\n"), mod("example.com/other", ""), mod("example.com/low", ""))
				// As "go mod download" does: the graph, then each .info.
				w.get("/example.com/top/@v/v1.0.0.mod")
				w.get("/example.com/other/@v/v1.0.0.mod")
				low := w.get("/example.com/low/@v/v1.0.0.mod")
				w.get("/example.com/top/@v/v1.0.0.info")
				if lookAhead > 0 { // what it does it does now; else the requests below do it
					for _, file := range []string{"other/@v/v1.0.0.info", "low/@v/v1.0.0.mod"} {
						w.eventually(func() bool { return w.up.Count("/example.com/"+file) > 0 })
					}
				}
				w.get("/example.com/other/@v/v1.0.0.info")
				for range 2 {
					if a := w.get("/example.com/low/@v/v1.0.0.info"); a.status != 403 {
						t.Errorf("its .info: %d", a.status)
					}
					if a := w.get("/example.com/low/@v/v1.0.0.zip"); a.status != 403 {
						t.Errorf("its zip: %d", a.status)
					}
				}
				if want := map[bool]int{true: 403, false: 200}[name == "strict"]; low.status != want {
					t.Errorf("its go.mod: %d, want %d", low.status, want)
				}
				count := func(kind string) int { return w.up.Count("/example.com/low/@v/v1.0.0." + kind) }
				return fmt.Sprintf("info %d mod %d zip %d", count("info"), count("mod"), count("zip"))
			}
			for _, lookAhead := range []int{0, 4} {
				if got := seen(lookAhead); got != "info 1 mod 1 zip 0" {
					t.Errorf("with %d workers upstream is asked for: %s", lookAhead, got)
				}
			}
		})
	}
}

// eventually waits until something that nobody waits for has happened.
func (w *world) eventually(happened func() bool) {
	w.Helper()
	for deadline := time.Now().Add(20 * time.Second); !happened(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatal("in vain")
		}
	}
}
