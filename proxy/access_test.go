package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// teamRules give the private modules below git.corp.example/team to its group alone,
// and keep one group from a module inside another. team is the pattern.
func teamRules(t *testing.T, team string) func(*proxy.Config) {
	t.Helper()
	p, err := policy.New(policy.Config{Private: "git.corp.example/*", Rules: policy.Rules{Rules: []policy.Rule{
		{Name: "in-it", Modules: []string{"git.corp.example/open/lib/in"}, Groups: []string{"ci"}, Action: deny, Reason: "not in builds"},
		{Name: "team", Modules: []string{team}, Groups: []string{"team"}, Action: "allow"},
		{Name: "not-yours", Modules: []string{team}, Action: deny, Reason: "the team alone reads it"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *proxy.Config) { c.Policy = p }
}

// askAs sends one request of a caller in these groups.
func (w *world) askAs(groups []string, method, path string, header ...string) (*httptest.ResponseRecorder, access.Outcome) {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	var outcome access.Outcome
	rec := httptest.NewRecorder()
	access.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		access.From(rw).Groups = groups
		w.server.ServeHTTP(rw, r)
		outcome = access.From(rw).Outcome
	}), access.Reports{}).ServeHTTP(rec, r)
	return rec, outcome
}

// TestWithheldIsNotLookedUp: who may not read a private module gets the same answer
// for each file of it, stored or not, existing or not, by every method, and nobody is
// asked for it.
func TestWithheldIsNotLookedUp(t *testing.T) {
	t.Parallel()
	for _, team := range []string{"git.corp.example/team", "git.corp.example/team/*"} {
		t.Run(team, func(t *testing.T) { checkNotLookedUp(t, team) })
	}
}

func checkNotLookedUp(t *testing.T, team string) {
	w, source := newPrivateWorld(t, options{config: teamRules(t, team)}, proxytest.Simple(t, "git.corp.example/team/secret", "v1.0.0"))
	const base = "/git.corp.example/team/secret"
	for _, file := range []string{"/@v/v1.0.0.zip", "/@v/v1.0.0.info", "/@v/v1.0.0.mod", "/@v/list"} {
		if rec, _ := w.askAs([]string{"team"}, "GET", base+file); rec.Code != 200 {
			t.Fatalf("the team asks for %s: %d %s", file, rec.Code, rec.Body)
		}
	}
	before := len(source.Requests())
	for _, file := range []string{"/@v/list", "/@latest", "/@v/v1.0.0.info", "/@v/v1.0.0.mod", "/@v/v1.0.0.zip", "/@v/main.info", "/@v/0123456789ab.info", "/pkg/@v/list"} {
		for _, header := range [][]string{nil, {"Range", "bytes=0-9"}, {"If-None-Match", "*"}, {"Disable-Module-Fetch", "true"}} {
			for _, method := range []string{"GET", "HEAD"} {
				for _, groups := range [][]string{nil, {"dev"}} {
					here, outcome := w.askAs(groups, method, base+file, header...)
					none, _ := w.askAs(groups, method, "/git.corp.example/team/nobody"+file, header...)
					if here.Code != 403 || none.Code != 403 || outcome != access.Denied || method == "GET" && here.Body.Len() == 0 {
						t.Errorf("%s %s: %d %s, and %d where there is nothing: %s", method, file, here.Code, outcome, none.Code, here.Body)
					}
					if got, want := nameless(here), nameless(none); got != want {
						t.Errorf("%s %s: what exists is told by\n%s\nagainst\n%s", method, file, got, want)
					}
				}
			}
		}
	}
	for query, version := range map[string]string{"v1.0.0": "v1.0.0", "main": "", "": "", "v0.9.9": "v0.9.9"} {
		e, err := w.server.Explain(t.Context(), policy.Caller{Groups: []string{"dev"}}, "git.corp.example/team/secret", query)
		if err != nil || !e.Verdict.Deny || e.Version != version || e.Rule != "not-yours" {
			t.Errorf("explained of %q: %+v, %v", query, e, err)
		}
	}
	for _, asked := range source.Requests()[before:] {
		// By the second pattern, the path above may be read by all.
		if asked.Path != "/git.corp.example/team/@v/list" || !strings.HasSuffix(team, "*") {
			t.Errorf("the source was asked for %v", asked)
		}
	}
}

// nameless is an answer without the name that the client has sent, and the id of it.
func nameless(rec *httptest.ResponseRecorder) string {
	text := fmt.Sprint(rec.Code, rec.Header(), rec.Body)
	return regexp.MustCompile(`id[=:] ?[a-z2-7]{10}`).ReplaceAllString(strings.ReplaceAll(text, "/nobody", "/secret"), "id")
}

// TestWithheldInsideOfWhatMayBeRead: below a module that a caller may read, what is no
// module is absent, or go get module/package would fail.
func TestWithheldInsideOfWhatMayBeRead(t *testing.T) {
	t.Parallel()
	w, source := newPrivateWorld(t, options{config: teamRules(t, "git.corp.example/team")}, proxytest.Simple(t, "git.corp.example/open/lib", "v1.0.0"))
	inner := proxytest.Simple(t, "git.corp.example/open/lib/in/module", "v1.0.0")
	for _, kind := range []string{"info", "mod", "zip"} {
		source.SetFile("/git.corp.example/open/lib/in/module/@v/v1.0.0."+kind, file(inner, kind))
	}
	source.SetFile("/git.corp.example/open/lib/in/module/@v/list", []byte("v1.0.0\n"))
	for path, want := range map[string]int{
		"/git.corp.example/open/lib/@v/list": 200, "/git.corp.example/open/lib/in/pkg/@v/list": 404, "/git.corp.example/open/lib/in/pkg/@v/v1.0.0.info": 404,
		"/git.corp.example/open/lib/in/module/@v/list": 403, "/git.corp.example/open/lib/in/module/@v/v1.0.0.mod": 403, "/git.corp.example/open/lib/in/module/@v/v1.0.0.zip": 403,
		"/git.corp.example/open/@v/list": 404,
	} {
		if rec, _ := w.askAs([]string{"ci"}, "GET", path); rec.Code != want {
			t.Errorf("%s: %d %s, want %d", path, rec.Code, rec.Body, want)
		}
	}
}
