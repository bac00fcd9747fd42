package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// aloneDownload is what `go mod download -json` says.
type aloneDownload struct{ Version, Info, GoMod, Zip, Sum, Error string }

// alone asks the go command by itself, without modgate.
func (w *gitWorld) alone(query string, args ...string) aloneDownload {
	w.Helper()
	home := w.TempDir()
	netrc := "machine " + gitHost + " login ci password secret\n"
	if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte(netrc), 0o600); err != nil {
		w.Fatal(err)
	}
	cmd := exec.Command("go", append(append([]string{"mod", "download", "-json"}, args...), query)...)
	cmd.Dir = home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOPROXY=direct", "GOSUMDB=off", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOTELEMETRY=off",
		"SSL_CERT_FILE=" + w.server.CAFile, "GIT_SSL_CAINFO=" + w.server.CAFile, "HTTPS_PROXY=" + w.forward(),
	}
	out, err := cmd.Output()
	var d aloneDownload
	if jsonErr := json.Unmarshal(out, &d); jsonErr != nil || err != nil && d.Error == "" {
		w.Fatalf("go mod download %s: %v %s", query, err, out)
	}
	return d
}

// forward is the HTTP proxy by which the go command finds the server.
func (w *gitWorld) forward() string {
	if w.proxy == "" {
		w.proxy = w.server.Proxy(w).URL
	}
	return w.proxy
}

// Every form that a version can take gives the same bytes as from the go
// command alone.
func TestDirectGivesWhatTheGoCommandGives(t *testing.T) {
	w := newGitWorld(t, nil)
	const mono = gitHost + "/team/mono"
	goMod := func(path string) string { return "module " + path + "\n\ngo 1.20\n" }
	r := w.repo(mono,
		tagged("v0.1.0"),
		gittest.Commit{Files: map[string]string{"LICENSE": "free", "sub/go.mod": goMod(mono + "/sub"), "sub/s.go": "package sub\n", "nomod/n.go": "package nomod\n"}, Tags: []string{"v1.0.0", "sub/v0.9.0", "v1.0.1-rc.1"}},
		gittest.Commit{Files: map[string]string{"v2/go.mod": goMod(mono + "/v2"), "v2/m.go": "package mono\n"}, Tags: []string{"v2.0.0"}, Annotated: true},
		gittest.Commit{Files: map[string]string{"sub/v3/go.mod": goMod(mono + "/sub/v3"), "sub/v3/s.go": "package sub\n"}, Tags: []string{"sub/v3.1.0"}},
		gittest.Commit{Branch: "dev", From: "main", Files: map[string]string{"go.mod": goMod(mono + "/v4")}, Tags: []string{"v4.0.0"}},
		gittest.Commit{Files: map[string]string{"go.mod": goMod(mono) + "\nretract v1.1.0\n", "later.go": "package lib\n"}, Tags: []string{"v1.1.0"}},
		gittest.Commit{Files: map[string]string{"README": "after the last tag"}},
	)
	old := gittest.NewRepo(t, w.root, gitHost+"/team/old", gittest.Commit{Files: map[string]string{"o.go": "package old\n", "Upper.TXT": "x"}, Tags: []string{"v1.0.0", "v2.3.4"}},
		gittest.Commit{Links: map[string]string{"link": "o.go"}, Files: map[string]string{"crlf.txt": "a\r\nb\r\n"}})
	future := w.repo(gitHost+"/team/Future", gittest.Commit{Files: map[string]string{"go.mod": "module " + gitHost + "/team/Future\n\ngo 1.99\n", "f.go": "package f\n"}, Tags: []string{"v1.0.0"}})
	hash := r.Git(t, "rev-parse", "main")
	for _, tt := range []struct{ path, query string }{
		{mono, "v0.1.0"}, {mono, "v1.0.0"}, {mono, "v1.0.1-rc.1"}, {mono, "v1.1.0"},
		{mono + "/sub", "v0.9.0"}, {mono + "/v2", "v2.0.0"}, {mono + "/sub/v3", "v3.1.0"}, {mono + "/v4", "v4.0.0"},
		{mono, "latest"}, {mono, "main"}, {mono + "/v4", "dev"}, {mono, hash[:12]}, {mono, hash}, {mono, "v1"},
		{old.Name, "v1.0.0"}, {old.Name, "v2.3.4+incompatible"}, {old.Name, "main"}, {old.Name, "latest"},
		{future.Name, "v1.0.0"}, {future.Name, "latest"},
	} {
		t.Run(tt.path+"@"+tt.query, func(t *testing.T) {
			want := w.alone(tt.path + "@" + tt.query)
			if want.Error != "" && !strings.Contains(want.Error, "requires go >= 1.99") {
				t.Fatal(want.Error)
			}
			info := must[[]byte](t)(w.direct.Info(t.Context(), tt.path, tt.query))
			v := parseVersion(t, info)
			if want.Version != v.Version {
				t.Fatalf("version is %s, the go command says %s", v.Version, want.Version)
			}
			if data := must[[]byte](t)(os.ReadFile(want.Info)); !bytes.Equal(info, data) && !onlyHintsDiffer(t, info, data) {
				t.Errorf(".info is\n%s, the go command says\n%s", info, data)
			}
			mod := must[[]byte](t)(w.read(tt.path, v.Version, "mod"))
			if data := must[[]byte](t)(os.ReadFile(want.GoMod)); !bytes.Equal(mod, data) {
				t.Errorf(".mod is\n%s, the go command says\n%s", mod, data)
			}
			if want.Error != "" {
				_, err := w.read(tt.path, v.Version, "zip")
				var e *DirectError
				if !errors.As(err, &e) || reason(e.Reason) != oldGo {
					t.Errorf("zip of a module for a later go: %v", err)
				}
				wantPublic(t, err)
				return
			}
			name := filepath.Join(t.TempDir(), "zip")
			if err := os.WriteFile(name, must[[]byte](t)(w.read(tt.path, v.Version, "zip")), 0o600); err != nil {
				t.Fatal(err)
			}
			if sum := must[string](t)(dirhash.HashZip(name, dirhash.Hash1)); sum != want.Sum && want.Sum != "" {
				t.Errorf("h1 is %s, the go command says %s", sum, want.Sum)
			}
		})
	}
	list := must[[]string](t)(w.direct.List(t.Context(), mono))
	if want := []string{"v0.1.0", "v1.0.0", "v1.0.1-rc.1", "v1.1.0"}; !slices.Equal(list, want) {
		t.Errorf("list is %q, want %q", list, want)
	}
	for _, path := range []string{mono + "/nomod", mono + "/sub/v9", mono + "/absent", gitHost + "/team/none"} {
		for _, err := range []error{
			second(w.direct.List(t.Context(), path)),
			second(w.direct.Info(t.Context(), path, "latest")),
			second(w.direct.Info(t.Context(), path, "v1.0.0")),
		} {
			wantAbsent(t, path, err)
		}
	}
}

// onlyHintsDiffer reports whether two .info have the same version, time,
// commit and place. The go command adds sums of all tags to what it resolves.
func onlyHintsDiffer(t *testing.T, a, b []byte) bool {
	t.Helper()
	x, y := parseVersion(t, a), parseVersion(t, b)
	return x == y
}

func second[T any](_ T, err error) error { return err }
