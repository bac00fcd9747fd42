package proxy_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// newPrivateWorld has one module in a private source and none upstream.
func newPrivateWorld(t *testing.T, o options, secret *proxytest.Module) (w *world, source *proxytest.Server) {
	t.Helper()
	source = proxytest.New(t, secret)
	pins, err := sumdb.NewPins(sumdb.PinsConfig{Storage: sumdbtest.NewStorage()})
	if err != nil {
		t.Fatal(err)
	}
	o.private = "git.corp.example/*"
	configure := o.config
	o.config = func(c *proxy.Config) {
		c.Private, c.Pins, c.PrivateTTL = newChain(t, source.URL), pins, 5*time.Second
		if configure != nil {
			configure(c)
		}
	}
	return newWorld(t, o), source
}

// A private module comes from its own source alone, is proven by its pin, and
// is kept from caches that others share.
func TestPrivateModule(t *testing.T) {
	t.Parallel()
	secret := proxytest.Simple(t, "git.corp.example/team/secret", "v1.0.0")
	w, source := newPrivateWorld(t, options{}, secret)
	base := "/git.corp.example/team/secret/@v/"
	for _, file := range []string{"list", "v1.0.0.info", "v1.0.0.mod", "v1.0.0.zip"} {
		for _, want := range []access.Outcome{access.Miss, access.Hit} {
			a := w.get(base + file)
			if a.status != 200 || a.outcome != want {
				t.Errorf("%s: status %d, %v, want %v", file, a.status, a.outcome, want)
			}
			if scope := a.header.Get("Cache-Control"); !strings.HasPrefix(scope, "private, max-age=") {
				t.Errorf("%s: Cache-Control %q", file, scope)
			}
		}
	}
	w.wantNo(w.get("/git.corp.example/team/secret/pkg/@latest"), 404, access.Absent)
	w.wantNo(w.get("/git.corp.example/@latest"), 404, access.Local, "private modules lie below this path")
	if got := append(w.up.Requests(), w.up2.Requests()...); len(got) != 0 {
		t.Errorf("the upstream has learned %v", got)
	}
	if got := w.log.Requests(""); len(got) != 0 {
		t.Errorf("the checksum database has learned %v", got)
	}
	if len(source.Requests()) == 0 {
		t.Error("the private source was not asked")
	}
}

// A tag that has moved is refused once its first content is not in the cache
// any more, and the client reads both hashes and what to do.
func TestPrivateTagMoved(t *testing.T) {
	t.Parallel()
	const path = "git.corp.example/team/secret"
	w, source := newPrivateWorld(t, options{}, proxytest.Simple(t, path, "v1.0.0"))
	first := w.get("/" + path + "/@v/v1.0.0.zip")
	if first.status != 200 {
		t.Fatalf("first fetch: %d", first.status)
	}
	w.must(w.store.Delete(t.Context(), path+"/@v/v1.0.0.zip"))
	source.SetFile("/"+path+"/@v/v1.0.0.zip", proxytest.Build(t, module.Version{Path: path, Version: "v1.0.0"}, map[string][]byte{
		"go.mod": []byte("module " + path + "\n"), "backdoor.go": []byte("package secret\n"),
	}).Zip)
	a := w.get("/" + path + "/@v/v1.0.0.zip")
	w.wantNo(a, 403, access.Denied, "checksum mismatch", "received: h1:", "expected: h1:", "its tag was moved", "modgate pin accept")
	if _, err := w.store.Get(t.Context(), path+"/@v/v1.0.0.zip"); !isAbsent(err) {
		t.Errorf("what was refused is stored: %v", err)
	}
}

// A tag that moves between the .mod and the .zip of a version makes one version
// of two commits. Whichever file came first, the other one is refused, and what
// was refused spoils nothing for the honest one.
func TestPrivateTagMovesBetweenFiles(t *testing.T) {
	t.Parallel()
	const path = "git.corp.example/team/secret"
	m := module.Version{Path: path, Version: "v1.0.0"}
	build := func(goMod string) *proxytest.Module {
		files := map[string][]byte{"a.go": []byte("package secret\n")}
		if goMod != "" {
			files["go.mod"] = []byte(goMod)
		}
		return proxytest.Build(t, m, files)
	}
	const plain, hostile = "module " + path + "\n\ngo 1.21\n", "module " + path + "\n\nrequire evil.example/x v1.0.0\n"
	for name, test := range map[string]struct{ before, after string }{
		"another go.mod":         {plain, hostile},
		"go.mod has come":        {"", hostile},
		"go.mod has gone":        {hostile, ""},
		"lines end in CR":        {plain, strings.ReplaceAll(hostile, "\n", "\r\n")},
		"lines ended in CR":      {strings.ReplaceAll(hostile, "\n", "\r\n"), plain},
		"made-up go.mod ends so": {"", "module " + path + "\r\nrequire evil.example/x v1.0.0\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := build(test.before), build(test.after)
			for _, order := range [][2]string{{"mod", "zip"}, {"zip", "mod"}} {
				w, source := newPrivateWorld(t, options{config: func(c *proxy.Config) { c.PrivateTTL = 0 }}, before)
				file := func(kind string) string { return "/" + path + "/@v/v1.0.0." + kind }
				if a := w.get(file(order[0])); a.status != 200 {
					t.Fatalf("%s: %d %q", order[0], a.status, a.body)
				}
				source.SetFile(file("mod"), after.Mod)
				source.SetFile(file("zip"), after.Zip)
				w.wantNo(w.get(file(order[1])), 403, access.Denied, "checksum mismatch", "with other go.mod", "its tag was moved")
				if _, err := w.store.Get(t.Context(), file(order[1])[1:]); !isAbsent(err) {
					t.Errorf("what was refused is stored: %v", err)
				}
				source.SetFile(file("mod"), before.Mod)
				source.SetFile(file("zip"), before.Zip)
				if a := w.get(file(order[1])); a.status != 200 {
					t.Errorf("%s of the first commit: %d %q", order[1], a.status, a.body)
				}
			}
		})
	}
}

// git writes the lines of an archive as .gitattributes says, and those of the
// .mod as they were committed: that is no other content.
func TestPrivateLineEnds(t *testing.T) {
	t.Parallel()
	const path = "git.corp.example/team/secret"
	m := module.Version{Path: path, Version: "v1.0.0"}
	const goMod = "module " + path + "\n\ngo 1.21\n"
	windows := strings.ReplaceAll(goMod, "\n", "\r\n")
	for name, served := range map[string]string{"committed so": windows, "eol=crlf": goMod} {
		for _, order := range [][2]string{{"mod", "zip"}, {"zip", "mod"}} {
			secret := proxytest.Build(t, m, map[string][]byte{"go.mod": []byte(windows)})
			secret.Mod = []byte(served)
			w, _ := newPrivateWorld(t, options{}, secret)
			for _, kind := range order {
				if a := w.get("/" + path + "/@v/v1.0.0." + kind); a.status != 200 {
					t.Errorf("%s, %s first: %s: %d %q", name, order[0], kind, a.status, a.body)
				}
			}
		}
	}
}

// A private list is fresh for its own time, and an absence no longer than that.
func TestPrivateFreshness(t *testing.T) {
	t.Parallel()
	w, _ := newPrivateWorld(t, options{config: func(c *proxy.Config) { c.PrivateTTL = 0 }}, proxytest.Simple(t, "git.corp.example/team/secret", "v1.0.0"))
	for range 2 {
		if a := w.get("/git.corp.example/team/secret/@v/list"); a.outcome != access.Miss {
			t.Errorf("list: %v, want it to be asked each time", a.outcome)
		}
		if a := w.get("/git.corp.example/team/none/@v/list"); a.outcome != access.Absent {
			t.Errorf("absent list: %v, want it to be asked each time", a.outcome)
		}
	}
}

// What is wrong with a repository is told to the client in the words of the
// source, and is never an absence.
func TestPrivateTrouble(t *testing.T) {
	t.Parallel()
	w, _ := newPrivateWorld(t, options{config: func(c *proxy.Config) { c.Private = refusing{} }}, proxytest.Simple(t, "git.corp.example/team/secret", "v1.0.0"))
	for _, file := range []string{"list", "v1.0.0.info", "v1.0.0.mod", "v1.0.0.zip"} {
		w.wantNo(w.get("/git.corp.example/team/secret/@v/"+file), 502, access.Trouble, "the repository refuses our credentials")
	}
}

// Who asked for a version before its tag was pushed is not told that it is
// absent while the repository is in trouble. A path that may be no module at all
// is, or builds would fail that need nothing of it.
func TestPrivateAbsenceInTrouble(t *testing.T) {
	t.Parallel()
	const secret, pseudo = "git.corp.example/team/secret", "v0.0.0-20240102030405-0123456789ab"
	remembered := "(remembered: the repository cannot be reached now)"
	for name, test := range map[string]struct {
		module  *proxytest.Module
		before  string // is fetched
		path    string // is absent, then in trouble
		status  int
		outcome access.Outcome
		says    string
	}{
		"a version is stored": {proxytest.Simple(t, secret, "v1.0.0"), secret + "/@v/v1.0.0.mod", secret + "/@v/v1.0.1.info", 502, access.Trouble, "500 Internal Server Error"},
		"a commit is stored":  {proxytest.Simple(t, secret, pseudo), secret + "/@v/" + pseudo + ".mod", secret + "/@v/v1.0.1.info", 502, access.Trouble, "500 Internal Server Error"},
		"a list is stored":    {proxytest.Simple(t, secret, "v1.0.0"), secret + "/@v/list", secret + "/@v/v1.0.1.info", 502, access.Trouble, "500 Internal Server Error"},
		"a parent":            {proxytest.Simple(t, secret, "v1.0.0"), secret + "/@v/v1.0.0.mod", "git.corp.example/team/@v/v1.0.0.info", 404, access.Stale, remembered},
		"a child":             {proxytest.Simple(t, secret, "v1.0.0"), secret + "/@v/v1.0.0.mod", secret + "/cmd/@v/v1.0.0.info", 404, access.Stale, remembered},
		"a list of nothing":   {proxytest.Simple(t, secret, "v1.0.0"), secret + "/@v/v1.0.0.mod", "git.corp.example/team/none/@v/list", 404, access.Stale, remembered},
	} {
		t.Run(name, func(t *testing.T) {
			w, source := newPrivateWorld(t, options{config: func(c *proxy.Config) { c.PrivateTTL = 0 }}, test.module)
			if a := w.get("/" + test.before); a.status != 200 {
				t.Fatalf("%d %q", a.status, a.body)
			}
			w.wantNo(w.get("/"+test.path), 404, access.Absent)
			source.SetFault("*", proxytest.Status(500, "x"))
			w.wantNo(w.get("/"+test.path), test.status, test.outcome, test.says)
			if kind, ok := strings.CutSuffix(test.path, ".info"); ok { // the rest of a version is never remembered
				w.wantNo(w.get("/"+kind+".zip"), 502, access.Trouble)
			}
		})
	}
}

func newChain(t *testing.T, list string) *upstream.Chain {
	t.Helper()
	chain, err := upstream.New(upstream.Config{List: list, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }, Retries: -1, BreakAfter: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chain.Close() })
	return chain
}

// refusing is a source whose credentials have expired.
type refusing struct{}

type refusal struct{}

func (refusal) Error() string  { return "git: fatal: Authentication failed for https://canary@internal" }
func (refusal) Public() string { return "the repository refuses our credentials" }

func (refusing) Info(context.Context, string, string) ([]byte, error) { return nil, refusal{} }
func (refusing) List(context.Context, string) ([]string, error)       { return nil, refusal{} }
func (refusing) Open(context.Context, module.Version, string) (io.ReadCloser, int64, error) {
	return nil, 0, refusal{}
}

// What cannot be pinned is served, but not kept: a later request must be able
// to pin it, before a tag can be moved unnoticed.
func TestPrivateUnkept(t *testing.T) {
	t.Parallel()
	const path = "git.corp.example/team/secret"
	w, source := newPrivateWorld(t, options{config: func(c *proxy.Config) { c.Pins = unkeeping{} }}, proxytest.Simple(t, path, "v1.0.0"))
	for _, kind := range []string{"mod", "zip"} {
		for range 2 {
			if a := w.get("/" + path + "/@v/v1.0.0." + kind); a.status != 200 || a.outcome != access.Miss {
				t.Errorf("%s: %d, %v, want it to be served and fetched each time", kind, a.status, a.outcome)
			}
		}
	}
	if n := source.Count("/" + path + "/@v/v1.0.0.zip"); n != 2 {
		t.Errorf("the zip was fetched %d times", n)
	}
}

// unkeeping are pins on a full disk.
type unkeeping struct{}

func (unkeeping) Verify(context.Context, module.Version, string, string) error { return unkept{} }

type unkept struct{}

func (unkept) Error() string { return "no space left on device" }
func (unkept) Unkept() bool  { return true }
