package sumdb_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
)

// tinyProxy is a GOPROXY of modules that have one file, with a Mirror.
type tinyProxy struct {
	t     *testing.T
	url   string
	files map[string][]byte // by path

	mu     sync.Mutex
	mirror http.Handler
	asked  []string // below /sumdb/
}

// requests returns what was asked for below /sumdb/ since use.
func (p *tinyProxy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *tinyProxy) use(mirror http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mirror, p.asked = mirror, nil
}

// addModule serves m and returns its two hashes.
func (p *tinyProxy) addModule(m module.Version) (zipHash, modHash string) {
	p.t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	gomod := fmt.Appendf(nil, "module %s\n", m.Path)
	for name, data := range map[string][]byte{"go.mod": gomod, "x.go": []byte("package x\n")} {
		f, err := w.Create(m.String() + "/" + name)
		if err != nil {
			p.t.Fatal(err)
		}
		f.Write(data)
	}
	if err := w.Close(); err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(p.t.TempDir(), "x.zip")
	if err := os.WriteFile(file, buf.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
	zipHash, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		p.t.Fatal(err)
	}
	base := "/" + m.Path + "/@v/" + m.Version
	p.files[base+".zip"], p.files[base+".mod"] = buf.Bytes(), gomod
	p.files[base+".info"] = fmt.Appendf(nil, `{"Version":%q}`, m.Version)
	sum := sumOf(gomod)
	return zipHash, sum
}

func (p *tinyProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/sumdb/"); ok {
		p.mu.Lock()
		p.asked = append(p.asked, rest)
		mirror := p.mirror
		p.mu.Unlock()
		http.StripPrefix("/sumdb/", mirror).ServeHTTP(w, r)
		return
	}
	data, ok := p.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(data)
}

// download runs go mod download in a fresh module cache.
func (p *tinyProxy) download(key, module string, env ...string) (string, error) {
	dir := p.t.TempDir()
	// Its telemetry starts a process that outlives it and writes to its home.
	mode := filepath.Join(dir, ".config", "go", "telemetry", "mode")
	if err := errors.Join(os.MkdirAll(filepath.Dir(mode), 0o700), os.WriteFile(mode, []byte("off"), 0o600)); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(p.t.Context(), "go", "mod", "download", "-modcacherw", module)
	cmd.Dir = dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GOPATH=" + dir, "GOENV=off", "GOTOOLCHAIN=local", "GOFLAGS=",
		"GOPROXY=" + p.url, "GOSUMDB=" + key, "GOMAXPROCS=2",
	}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestGoCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	t.Parallel()
	good := module.Version{Path: "example.com/good", Version: "v1.0.0"}
	evil := module.Version{Path: "example.com/evil", Version: "v1.0.0"}
	missing := module.Version{Path: "example.com/missing", Version: "v1.0.0"}
	secret := module.Version{Path: "corp.example/secret", Version: "v1.0.0"}

	p := &tinyProxy{t: t, files: make(map[string][]byte)}
	log := newLog(t, 1000)
	zipHash, modHash := p.addModule(good)
	log.Add(good, zipHash, modHash)
	_, modHash = p.addModule(evil)
	log.Add(evil, sumdbtest.Hash("what it was"), modHash)
	p.addModule(missing)
	p.addModule(secret)
	log.Fill(1000)
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage, func(c *sumdb.Config) {
		c.Private = func(path string) bool { return module.MatchPrefixPatterns("corp.example", path) }
	})
	p.use(newMirror(t, d))
	srv := httptest.NewServer(p)
	defer srv.Close()
	p.url = srv.URL

	tests := []struct {
		m    module.Version
		want string // in the output; empty for success
	}{
		{good, ""},
		{evil, "SECURITY ERROR\nThis download does NOT match the one reported by the checksum server."},
		{missing, "server response: example.com/missing@v1.0.0: not found in sum.test/db"},
		{secret, "go env -w 'GONOSUMDB=corp.example,*.internal'"},
	}
	for _, test := range tests {
		out, err := p.download(log.Key(), test.m.String())
		if (err == nil) != (test.want == "") || !strings.Contains(out, test.want) {
			t.Errorf("%s: %v\n%s", test.m, err, out)
		}
	}

	// The requests of one download, and no /latest among them.
	p.use(newMirror(t, d))
	if out, err := p.download(log.Key(), good.String()); err != nil {
		t.Error(out)
	}
	asked := p.requests()
	if len(asked) < 3 || asked[0] != "sum.test/db/supported" || asked[1] != "sum.test/db/lookup/example.com/good@v1.0.0" {
		t.Fatalf("asked for %q", asked)
	}
	for _, path := range asked[2:] {
		if !strings.HasPrefix(path, "sum.test/db/tile/8/") {
			t.Errorf("asked for %q", path)
		}
	}
	for _, path := range log.Requests("/") {
		if strings.Contains(path, "corp.example") || strings.Contains(path, "supported") {
			t.Errorf("the database was asked for %s", path)
		}
	}

	// Offline, and after a restart.
	log.Lie(sumdbtest.Say("/", 500, ""))
	p.use(newMirror(t, newDB(t, log, storage)))
	if out, err := p.download(log.Key(), good.String()); err != nil {
		t.Errorf("offline: %s", out)
	}
}

// sumOf is the h1 of a go.mod, as in go.sum.
func sumOf(gomod []byte) string {
	h, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(gomod)), nil
	})
	if err != nil {
		panic(err) // reads from memory
	}
	return h
}
