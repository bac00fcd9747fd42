package upstream

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

const hgLib = gitHost + "/team/old"

// newHgWorld is a world with a Mercurial repository that has three versions.
func newHgWorld(t *testing.T, change func(*gitWorld)) (*gitWorld, *gittest.HgRepo) {
	t.Helper()
	gittest.Need(t, "hg")
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Rules.Mercurial = []string{gitHost + "/team/*"}
		if change != nil {
			change(w)
		}
	})
	r := w.server.NewHg(t, hgLib,
		gittest.Commit{Files: map[string]string{"go.mod": "module " + hgLib + "\n\ngo 1.20\n", "lib.go": "package lib // one\n"}, Tags: []string{"v1.0.0"}},
		gittest.Commit{Files: map[string]string{"lib.go": "package lib // two\n"}, Tags: []string{"v1.1.0"}})
	w.server.SetImport(hgLib, "hg", "https://"+hgLib)
	return w, r
}

// A module comes from Mercurial where a rule allows it, with the credentials
// that modgate alone has, and is what the go command makes of it.
func TestDirectFromMercurial(t *testing.T) {
	w, r := newHgWorld(t, nil)
	info := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), hgLib, "v1.0.0")))
	if info.Version != "v1.0.0" || info.Origin.VCS != "hg" || info.Origin.URL != "https://"+hgLib {
		t.Errorf("info: %+v", info)
	}
	zip := must[[]byte](t)(w.read(hgLib, "v1.0.0", "zip"))
	if text := inZip(t, zip, hgLib+"@v1.0.0/lib.go"); text != "package lib // one\n" {
		t.Errorf("lib.go: %q", text)
	}
	if mod := must[[]byte](t)(w.read(hgLib, "v1.1.0", "mod")); !strings.HasPrefix(string(mod), "module "+hgLib+"\n") {
		t.Errorf("mod: %q", mod)
	}
	if list := must[[]string](t)(w.direct.List(t.Context(), hgLib)); !slices.Equal(list, []string{"v1.0.0", "v1.1.0"}) {
		t.Errorf("list: %q", list)
	}
	_, err := w.direct.Info(t.Context(), hgLib, "v1.2.0")
	wantReason(t, "unknown version", err, unknownVersion, "")
	w.server.NewHg(t, gitHost+"/team/x", gittest.Commit{Files: map[string]string{"go.mod": "module " + gitHost + "/team/x.hg\n"}, Tags: []string{"v1.0.0"}})
	must[[]byte](t)(w.read(gitHost+"/team/x.hg", "v1.0.0", "mod")) // the path says what it is
	// A new process finds what was kept, and what is new.
	w.settle()
	kept := w.direct.kept(&place{seen: "https://" + hgLib})
	r.Commit(t, gittest.Commit{Files: map[string]string{"lib.go": "package lib // three\n"}, Tags: []string{"v1.2.0"}})
	w.direct, _ = startDirect(t, w.cfg)
	if latest := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), hgLib, "latest"))); latest.Version != "v1.2.0" {
		t.Errorf("latest is %s", latest.Version)
	}
	if got := w.direct.kept(&place{seen: "https://" + hgLib}); got != kept || kept == "" {
		t.Errorf("kept in %q, then in %q", kept, got)
	}
	// As the go command has it, straight from the repository.
	if got, want := must[[]byte](t)(w.read(hgLib, "v1.0.0", "zip")), w.goDownload(hgLib, "v1.0.0"); string(got) != string(want) {
		t.Error("the zip is another than the go command's")
	}
}

// goDownload is the zip that the go command makes without modgate.
func (w *gitWorld) goDownload(path, version string) []byte {
	w.Helper()
	dir := w.TempDir()
	hgrc := w.file("hgrc", "[auth]\nx.prefix = "+gitHost+"\nx.username = ci\nx.password = secret\n[web]\ncacerts = "+w.server.CAFile+"\n")
	netrc := filepath.Join(dir, ".netrc")
	if err := os.WriteFile(netrc, []byte("machine "+gitHost+" login ci password secret\n"), 0o600); err != nil {
		w.Fatal(err)
	}
	cmd := exec.CommandContext(w.Context(), "go", "mod", "download", "-modcacherw", path+"@"+version)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GOPROXY=direct", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOVCS=*:all", "SSL_CERT_FILE=" + w.server.CAFile,
		"HGRCPATH=" + hgrc, "HTTPS_PROXY=" + w.forward(), "http_proxy=" + w.forward()}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("go mod download: %v\n%s", err, out)
	}
	return must[[]byte](w)(os.ReadFile(filepath.Join(dir, "go", "pkg", "mod", "cache", "download", filepath.FromSlash(path), "@v", version+".zip")))
}

// What no rule allows is not fetched, and hg is not started.
func TestDirectMercurialMustBeAllowed(t *testing.T) {
	for what, change := range map[string]func(*gitWorld){
		"no rule":      func(w *gitWorld) { w.cfg.Rules.Mercurial = nil },
		"another rule": func(w *gitWorld) { w.cfg.Rules.Mercurial = []string{"hg.corp.example"} },
	} {
		w, _ := newHgWorld(t, change)
		_, err := w.direct.Info(t.Context(), hgLib, "v1.0.0")
		wantReason(t, what, err, notModule, "under mercurial")
		_, err = w.direct.Info(t.Context(), gitHost+"/team/x.hg/sub", "v1.0.0")
		wantReason(t, what, err, notModule, "under mercurial")
		if n := w.server.Count(hgLib, gittest.Mercurial); n > 0 {
			t.Errorf("%s: %d requests of hg", what, n)
		}
	}
	w, _ := newHgWorld(t, nil)
	w.cfg.Rules.Networks = []string{"127.0.0.1"}
	for url, want := range map[string]string{
		"ssh://hg@" + gitHost + "/team/old": "over HTTPS alone; if it can be had so, say where in a rule under repositories",
		"http://" + gitHost + "/team/old":   "want an https or ssh URL",
		"https://127.0.0.2:1/x":             "is of this machine or its link",
	} {
		w.server.SetImport(hgLib, "hg", url)
		if err := w.direct.SetRules(w.cfg.Rules); err != nil { // forgets what was found
			t.Fatal(err)
		}
		_, err := w.direct.Info(t.Context(), hgLib, "v1.0.0")
		wantReason(t, url, err, forbidden, want)
	}
	rules := w.cfg.Rules
	rules.Repositories = []Repository{{Match: gitHost + "/team/old", URL: "ssh://hg@" + gitHost + "/team/old"}}
	if err := w.direct.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	_, err := w.direct.Info(t.Context(), hgLib, "v1.0.0")
	wantReason(t, "a rule with ssh", err, misconfigured, "give the rule an https URL")
	if err := (Rules{Mercurial: []string{"*", "a,b"}}).Check(gitHost); err == nil || strings.Count(err.Error(), "mercurial[") != 2 {
		t.Errorf("patterns that match too much: %v", err)
	}
}

// Trouble with a Mercurial host is told as with one of git, and what was
// killed in the middle is fetched anew.
func TestDirectMercurialTrouble(t *testing.T) {
	w, _ := newHgWorld(t, nil)
	w.server.SetFault(hgLib, gittest.Mercurial, gittest.Unauthorized())
	_, err := w.direct.Info(t.Context(), hgLib, "v1.0.0")
	wantReason(t, "refused", err, unauthorized, "refuses the credentials")
	w.server.SetFault(hgLib, gittest.Mercurial, proxytest.Status(503, "busy"))
	_, err = w.direct.Info(t.Context(), hgLib, "v1.0.0")
	wantReason(t, "busy", err, unreachable, "")
	w.server.SetFault(hgLib, gittest.Mercurial, nil)
	must[[]byte](t)(w.read(hgLib, "v1.0.0", "zip"))
	w.settle()
	kept := w.direct.kept(&place{seen: "https://" + hgLib})
	if err := os.WriteFile(filepath.Join(kept, ".hg", "store", "journal"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.direct, _ = startDirect(t, w.cfg)
	must[[]byte](t)(w.read(hgLib, "v1.1.0", "zip"))
	w.server.SetAccounts(gittest.Account{Prefix: ci.Prefix, User: "ci", Password: "another"})
	_, err = w.direct.List(t.Context(), hgLib)
	wantReason(t, "expired", err, unauthorized, "")
}
