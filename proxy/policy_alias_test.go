package proxy_test

import (
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// TestAliasDirections: which names of one commit a rule for one of them means. The
// tag v1.1.0 is the commit of aliasOf; another pseudo-version of it, a branch, and
// the start of the hash lead there too.
func TestAliasDirections(t *testing.T) {
	t.Parallel()
	const sameCommit = "v0.0.0-20240101000000-aaaaaaaaaaaa"
	yes := true
	names := []string{"v1.1.0", aliasOf, sameCommit, "main", "aaaaaaaaaaaa", "v1.1"}
	for _, test := range []struct {
		what    string
		rule    policy.Rule
		refused string // of names
	}{
		{"a tag", policy.Rule{Versions: []string{"v1.1.0"}}, "v1.1.0 " + aliasOf + " " + sameCommit + " main aaaaaaaaaaaa v1.1"},
		{"a range with the tag", policy.Rule{Versions: []string{">=v1.1.0 <v1.2.0"}}, "v1.1.0 " + aliasOf + " " + sameCommit + " main aaaaaaaaaaaa v1.1"},
		{"retracted", policy.Rule{When: policy.When{Retracted: &yes}}, "v1.1.0 " + aliasOf + " " + sameCommit + " main aaaaaaaaaaaa v1.1"},
		{"a pseudo-version", policy.Rule{Versions: []string{aliasOf}}, aliasOf + " " + sameCommit + " main aaaaaaaaaaaa"},
		{"another of the commit", policy.Rule{Versions: []string{sameCommit}}, aliasOf + " " + sameCommit + " main aaaaaaaaaaaa"},
		{"all pseudo-versions", policy.Rule{Versions: []string{"pseudo"}}, aliasOf + " " + sameCommit + " main aaaaaaaaaaaa"},
		{"when pseudo", policy.Rule{When: policy.When{Pseudo: &yes}}, aliasOf + " " + sameCommit + " main aaaaaaaaaaaa"},
		{"another tag", policy.Rule{Versions: []string{"v1.2.0"}}, ""},
		{"another commit", policy.Rule{Versions: []string{"v0.0.0-20240101000000-bbbbbbbbbbbb"}}, ""},
	} {
		mods := append(versions(t, "example.com/m", "retract v1.1.0\n", "v1.0.0", "v1.1.0", "v1.2.0"), proxytest.Simple(t, "example.com/m", aliasOf), proxytest.Simple(t, "example.com/m", sameCommit))
		test.rule.Action = deny
		w := newWorld(t, options{config: ruled(t, "", test.rule)}, mods...)
		w.up.SetFile("/example.com/m/@v/v1.1.0.info", taggedInfo("v1.1.0"))
		for query, version := range map[string]string{"main": aliasOf, "aaaaaaaaaaaa": sameCommit, "v1.1": "v1.1.0"} {
			w.up.SetFile("/example.com/m/@v/"+query+".info", taggedInfo(version))
		}
		refused := strings.Fields(test.refused)
		for range 3 {
			for _, name := range names {
				want := 200
				for _, r := range refused {
					if r == name {
						want = 403
					}
				}
				files := []string{"info"}
				if module.CanonicalVersion(name) == name {
					files = []string{"info", "zip"}
				}
				for _, file := range files {
					if a := w.get("/example.com/m/@v/" + name + "." + file); a.status != want {
						t.Errorf("refused: %s; %s.%s: %d, want %d", test.what, name, file, a.status, want)
					}
				}
			}
		}
	}
}

// TestIncompatibleIsNoWayAround: what a version without +incompatible leads to is
// judged, whichever of the two a rule names.
func TestIncompatibleIsNoWayAround(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v2.0.0+incompatible")
	for _, versions := range []string{"v2.0.0", "v2.0.0+incompatible", "incompatible", ">=v2.0.0"} {
		w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{versions}, Action: deny})}, m)
		w.up.SetFile("/example.com/m/@v/v2.0.0.info", infoOf("v2.0.0+incompatible"))
		for _, file := range []string{"v2.0.0.info", "v2.0.0+incompatible.info", "v2.0.0+incompatible.zip"} {
			w.wantNo(w.get("/example.com/m/@v/"+file), 403, access.Denied, "blocked: example.com/m@v2.0.0+incompatible")
		}
	}
}

// TestUnreadableTagIsNoWayAround: a refused tag of which nobody can tell the
// commit may be that of any pseudo-version of its module, unless it is no tag.
func TestUnreadableTagIsNoWayAround(t *testing.T) {
	t.Parallel()
	const info, zip = "/example.com/m/@v/v1.1.0.info", "/example.com/m/@v/" + aliasOf + ".zip"
	for _, test := range []struct {
		status int
		says   string
	}{
		{403, "do: have the upstream give them, or ask for an exemption"},
		{404, "the commit of the refused tag v1.1.0 (it is listed, and yet not found)"},
		{410, "the commit of the refused tag v1.1.0 (it is listed, and yet not found)"},
		{500, "do: try again in a moment"},
	} {
		mods := append(versions(t, "example.com/m", "", "v1.0.0", "v1.1.0", "v1.2.0"), proxytest.Simple(t, "example.com/m", aliasOf))
		w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny})}, mods...)
		w.up.SetFile(info, taggedInfo("v1.1.0"))
		for _, up := range []*proxytest.Server{w.up, w.up2} {
			up.SetFault(info, proxytest.Status(test.status, "taken down"))
		}
		for range 2 {
			w.wantNo(w.get(zip), 503, access.Trouble, test.says)
		}
		if a := w.get("/example.com/m/@v/v1.2.0.zip"); a.status != 200 {
			t.Errorf("%d: a tag of its own name: %d", test.status, a.status)
		}
	}
	// Stored once, and known to no source any more.
	gone := proxytest.Simple(t, "example.com/m", "v1.1.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny})}, gone, proxytest.Simple(t, "example.com/m", aliasOf))
	if a := w.get("/example.com/m/@v/v1.1.0.mod"); a.status != 200 {
		t.Fatalf("its go.mod: %d", a.status)
	}
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault(info, proxytest.Status(404, "not found"))
		up.SetFault(listPath, proxytest.Status(404, "not found"))
	}
	if a := w.get(zip); a.status != 200 {
		t.Errorf("what is not listed and does not exist closes the module: %d %s", a.status, a.text())
	}
}
