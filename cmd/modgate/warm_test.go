package main

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseGoMod(t *testing.T) {
	wants, err := parseGoMod("go.mod", []byte(`module m
go 1.22
toolchain go1.26.0
require (
	a.example/x v1.0.0
	b.example/y v1.1.0 // indirect
	c.example/local v0.0.1
	d.example/z/v2 v2.0.0
)
replace b.example/y => fork.example/y v1.1.1
replace c.example/local v0.0.1 => ../local
replace d.example/z/v2 v2.9.9 => never.example/z v0.0.1
exclude a.example/x v1.2.0
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range wants {
		path, err := w.path()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, path)
	}
	const want = `a.example/x/@v/v1.0.0.mod a.example/x/@v/v1.0.0.info a.example/x/@v/v1.0.0.zip ` +
		`fork.example/y/@v/v1.1.1.mod fork.example/y/@v/v1.1.1.info fork.example/y/@v/v1.1.1.zip ` +
		`d.example/z/v2/@v/v2.0.0.mod d.example/z/v2/@v/v2.0.0.info d.example/z/v2/@v/v2.0.0.zip`
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

func TestParseGoSum(t *testing.T) {
	wants, err := parseGoSum("go.sum", []byte("github.com/BurntSushi/toml v1.5.0 h1:zip=\ngithub.com/BurntSushi/toml v1.5.0/go.mod h1:mod=\n\nx.example/y v2.0.0+incompatible/go.mod h1:z=\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range wants {
		path, _ := w.path()
		got = append(got, path+" "+w.h1)
	}
	const want = `github.com/!burnt!sushi/toml/@v/v1.5.0.info |github.com/!burnt!sushi/toml/@v/v1.5.0.zip h1:zip=|` +
		`github.com/!burnt!sushi/toml/@v/v1.5.0.mod h1:mod=|x.example/y/@v/v2.0.0+incompatible.mod h1:z=`
	if strings.Join(got, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
	for _, bad := range []string{"a.example/x v1.0.0\n", "a.example/x v1.0.0 h1:x\n../x v1.0.0 h1:x\n", "a.example/x v1.0.0 h2:x\n"} {
		if _, err := parseGoSum("go.sum", []byte(bad)); err == nil || !strings.Contains(err.Error(), "go.sum:") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestWarmEndsEarly: what keeps a connection from coming about is told once.
func TestWarmEndsEarly(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	file := filepath.Join(t.TempDir(), "go.sum")
	if err := os.WriteFile(file, []byte("a.example/x v1.0.0 h1:x\na.example/y v1.0.0 h1:x\na.example/z v1.0.0 h1:x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		secure.URL: "SSL_CERT_FILE",
		"https" + strings.TrimPrefix(plain.URL, "http"): "write http://",
	} {
		out, err := modgate(t, "warm", "--url="+url, file)
		if !errors.Is(err, errNoServer) || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%s: %v\n%s", url, err, out)
		}
	}
	out, err := modgate(t, "warm", "--url="+plain.URL, file)
	if !errors.Is(err, errReported) || strings.Count(out, "404 Not Found") != 6 {
		t.Errorf("a server that has nothing: %v\n%s", err, out)
	}
}

// TestWarmOfSomethingElse: a file that is no go.mod is one mistake, with a remedy.
func TestWarmOfSomethingElse(t *testing.T) {
	_, err := modgate(t, "warm", "version.go")
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.HasPrefix(err.Error(), "version.go:1: unknown directive: package\n  → name a go.mod, ") {
		t.Errorf("got %v", err)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"a.example/x/@v/v1.0.0.zip", "github.com/!burnt!sushi/toml/@v/list", "a.example/@latest", "sumdb/sum.golang.org/latest", "x", "a.example/@v/.zip"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		o := parseName(name)
		known := false
		for _, k := range objectKinds {
			known = known || k == o.kind
		}
		if !known || o.version != "" && o.module == "" {
			t.Errorf("%q: %+v", name, o)
		}
		if o.kind == "zip" || o.kind == "mod" || o.kind == "info" {
			w := want{kind: o.kind}
			w.Path, w.Version.Version = o.module, o.version
			if path, err := w.path(); err != nil || path != name {
				t.Errorf("%q is %+v, which is %q, %v", name, o, path, err)
			}
		}
	})
}
