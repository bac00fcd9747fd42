package proxy_test

import (
	"strings"
	"testing"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// aliasOf is a pseudo-version whose commit taggedInfo gives a tag.
const aliasOf = "v1.0.1-0.20240101000000-aaaaaaaaaaaa"

// taggedInfo is the .info of a version that is the commit of aliasOf.
func taggedInfo(version string) []byte {
	return []byte(`{"Version":"` + version + `","Time":"2024-01-01T00:00:00Z","Origin":{"VCS":"git","Hash":"aaaaaaaaaaaa0123456789"}}`)
}

// What happens to be stored is a part of the list: while the source does not say
// the rest, it cannot be told whether a version is retracted or has another name.
func TestStoredFilesAreNotTheList(t *testing.T) {
	t.Parallel()
	yes := true
	for version, rule := range map[string]policy.Rule{
		aliasOf:  {Versions: []string{"v1.1.0"}, Action: deny},
		"v1.1.0": {When: policy.When{Retracted: &yes}, Action: deny},
	} {
		mods := append(versions(t, "example.com/m", "retract v1.1.0 // hole\n", "v1.0.0", "v1.1.0", "v1.2.0"), proxytest.Simple(t, "example.com/m", aliasOf))
		before := newWorld(t, options{}, mods...)
		before.get("/example.com/m/@v/v1.0.0.mod")
		before.get("/example.com/m/@v/" + aliasOf + ".mod")
		w := newWorld(t, options{store: before.store, config: ruled(t, "", rule)}, mods...)
		w.up.SetFile("/example.com/m/@v/v1.1.0.info", taggedInfo("v1.1.0"))
		for _, up := range []*proxytest.Server{w.up, w.up2} {
			up.SetFault("/example.com/m/@v/list", proxytest.Status(500, "down"))
		}
		zip := "/example.com/m/@v/" + version + ".zip"
		w.wantNo(w.get(zip), 503, access.Trouble, "not decided yet: example.com/m@"+version)
		if n := w.up.Count(zip); n != 0 {
			t.Errorf("%s: fetched %d times", version, n)
		}
		for _, up := range []*proxytest.Server{w.up, w.up2} {
			up.SetFault("/example.com/m/@v/list", nil)
		}
		w.wantNo(w.get(zip), 403, access.Denied, "blocked: example.com/m@"+version)
	}
}

// A module that has vanished has the versions that are here.
func TestVanishedModuleHasWhatIsStored(t *testing.T) {
	t.Parallel()
	mods := append(versions(t, "example.com/m", "", "v1.0.0", "v1.1.0"), proxytest.Simple(t, "example.com/m", aliasOf))
	before := newWorld(t, options{}, mods...)
	before.up.SetFile("/example.com/m/@v/v1.1.0.info", taggedInfo("v1.1.0"))
	before.get("/example.com/m/@v/v1.1.0.info")
	before.get("/example.com/m/@v/" + aliasOf + ".zip")
	w := newWorld(t, options{store: before.store, config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny})})
	w.wantNo(w.get("/example.com/m/@v/"+aliasOf+".zip"), 403, access.Denied, "(the commit of v1.1.0)")
}

// Of a part of the list, too, nothing refused is shown.
func TestPartOfAListIsFiltered(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0", "v1.2.0")
	before := newWorld(t, options{}, mods...)
	for _, v := range []string{"v1.0.0", "v1.1.0"} {
		before.get("/example.com/m/@v/" + v + ".mod")
	}
	yes := true
	for _, test := range []struct {
		rule   policy.Rule
		status int
		text   string
	}{
		{policy.Rule{Versions: []string{"<v1.1.0"}, Action: deny}, 200, "v1.1.0\n"},
		{policy.Rule{When: policy.When{Retracted: &yes}, Action: deny}, 503, "not decided yet"},
	} {
		w := newWorld(t, options{store: before.store, config: ruled(t, "", test.rule)}, mods...)
		for _, up := range []*proxytest.Server{w.up, w.up2} {
			up.SetFault("/example.com/m/@v/list", proxytest.Status(500, "down"))
		}
		a := w.get("/example.com/m/@v/list")
		if a.status != test.status || len(a.text()) < len(test.text) || a.text()[:len(test.text)] != test.text {
			t.Errorf("list: %d %q, want %d %q", a.status, a.text(), test.status, test.text)
		}
	}
}

// A refused version that is known here is refused also where a file of it is
// missing: "not found" would send clients to the next entry of GOPROXY.
func TestKnownAndRefusedIsNotAbsent(t *testing.T) {
	t.Parallel()
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0")
	for _, known := range []string{"list", "v1.1.0.mod", ""} {
		w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"v1.1.0"}, Action: deny})}, mods...)
		for _, up := range []*proxytest.Server{w.up, w.up2} {
			up.SetFault("/example.com/m/@v/v1.1.0.info", proxytest.Status(404, "not found"))
			if known != "list" {
				up.SetFault("/example.com/m/@v/list", proxytest.Status(404, "not found"))
			}
		}
		if known != "" {
			w.get("/example.com/m/@v/" + known)
		}
		for _, header := range [][]string{nil, nil, {"Disable-Module-Fetch", "true"}} {
			for _, kind := range []string{"info", "zip"} {
				switch a := w.get("/example.com/m/@v/v1.1.0."+kind, header...); {
				case known == "":
					w.wantNo(a, 404, a.outcome)
				default:
					w.wantNo(a, 403, access.Denied, "blocked: example.com/m@v1.1.0")
				}
			}
		}
		w.wantNo(w.get("/example.com/m/@v/v1.7.0.info"), 404, access.Absent)
	}
}

// A rule that may decide before a strict one does not open its go.mod.
func TestStrictBehindWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	yes := true
	malware := policy.Rule{Name: "malware", Versions: []string{"v1.1.0"}, Action: deny, Strict: true}
	mods := append(versions(t, "example.com/m", "", "v1.0.0", "v1.1.0"), proxytest.Simple(t, "example.com/m", aliasOf))
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Name: "retracted", When: policy.When{Retracted: &yes}, Action: deny}, malware)}, mods...)
	w.up.SetFile("/example.com/m/@v/v1.1.0.info", taggedInfo("v1.1.0"))
	w.wantNo(w.get("/example.com/m/@v/"+aliasOf+".mod"), 403, access.Denied, "by rule malware")
	w.wantNo(w.get("/example.com/m/@v/v1.1.0.mod"), 403, access.Denied, "by rule malware")
	if a := w.get("/example.com/m/@v/v1.0.0.mod"); a.status != 200 {
		t.Errorf("another go.mod: %d", a.status)
	}
}

// What the upstream refuses for good is no reason to try again.
func TestUpstreamRefusesFacts(t *testing.T) {
	t.Parallel()
	yes := true
	mods := versions(t, "example.com/m", "", "v1.0.0", "v1.1.0", "v1.2.0")
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{When: policy.When{Retracted: &yes}, Action: deny})}, mods...)
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault("/example.com/m/@v/v1.2.0.mod", proxytest.Status(403, "blocked here"))
	}
	for _, path := range []string{"v1.0.0.zip", "list"} {
		a := w.get("/example.com/m/@v/" + path)
		w.wantNo(a, 503, access.Trouble, "not decided: example.com/m", "that the upstream does not give: ", "do: have the upstream give them")
		if strings.Contains(a.text(), "try again") {
			t.Errorf("%s: %s", path, a.text())
		}
	}
}

// Which refused tags are the commit of a pseudo-version is found out once, unless
// one of them could not be looked at.
func TestAliasesAreRemembered(t *testing.T) {
	t.Parallel()
	mods := append(versions(t, "example.com/m", "", "v1.0.0", "v1.1.0", "v1.2.0"), proxytest.Simple(t, "example.com/m", aliasOf))
	w := newWorld(t, options{config: ruled(t, "", policy.Rule{Versions: []string{"v1.0.0", "v1.1.0"}, Action: deny})}, mods...)
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault("/example.com/m/@v/v1.1.0.info", proxytest.Status(403, "not yet"))
	}
	zip := "/example.com/m/@v/" + aliasOf + ".zip"
	for range 3 {
		w.wantNo(w.get(zip), 503, access.Trouble, "the commit of the refused tag v1.1.0")
	}
	for _, up := range []*proxytest.Server{w.up, w.up2} {
		up.SetFault("/example.com/m/@v/v1.1.0.info", nil)
	}
	w.up.SetFile("/example.com/m/@v/v1.1.0.info", taggedInfo("v1.1.0"))
	w.wantNo(w.get(zip), 403, access.Denied, "(the commit of v1.1.0)")
	w.must(w.store.Delete(t.Context(), "example.com/m/@v/v1.1.0.info"))
	n := w.up.Count("/example.com/m/@v/v1.1.0.info")
	w.wantNo(w.get(zip), 403, access.Denied, "(the commit of v1.1.0)")
	if again := w.up.Count("/example.com/m/@v/v1.1.0.info"); again != n {
		t.Errorf("its .info was asked for %d times more", again-n)
	}
}
