package proxytest

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	modzip "golang.org/x/mod/zip"

	"golang.org/x/mod/module"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const text = "-- go.mod --\nmodule example.com/a\n-- a.go --\npackage a\n-- .info --\n{\"Version\":\"v1.0.0\",\"Extra\":1}\n"
	m := Parse(t, "dir/example.com_a@v1.0.0.txtar", []byte(text))
	if m.Path != "example.com/a" || m.Version.Version != "v1.0.0" || !strings.Contains(string(m.Info), "Extra") {
		t.Errorf("got %v %s", m.Version, m.Info)
	}
	n := Parse(t, "x.txtar", []byte("example.com/b@v0.1.0\nwords\n"+text))
	if n.Path != "example.com/b" || n.H1 == m.H1 || n.ModH1 != m.ModH1 {
		t.Errorf("got %v", n.Version)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "example.com_a@v1.0.0.txtar"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if l := Load(t, dir); len(l) != 1 || l[0].H1 != m.H1 {
		t.Errorf("Load = %v", l)
	}
}

// The go command is the judge of whether this is a GOPROXY.
func TestGoCommand(t *testing.T) {
	t.Parallel()
	s := New(t, Modules(t)...)
	dir := t.TempDir()
	cmd := exec.Command("go", "mod", "download", "-json", "example.com/a@latest", "example.com/Upper/Case/v2@v2.0.0-RC.1", "example.com/big@v1.0.0", "example.com/untagged@latest")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY="+s.URL, "GONOSUMDB=*", "GOFLAGS=-modcacherw", "GOPATH="+dir, "GOMODCACHE="+dir+"/mod", "GOENV=off", "GONOPROXY=", "GOPRIVATE=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range Modules(t)[1:] {
		if !bytes.Contains(out, []byte(m.H1)) || !bytes.Contains(out, []byte(m.ModH1)) {
			t.Errorf("go did not report %v with %s and %s:\n%s", m.Version, m.H1, m.ModH1, out)
		}
	}
	if n := s.Count("/example.com/big/@v/v1.0.0.zip"); n != 1 {
		t.Errorf("the zip was asked for %d times", n)
	}
}

func TestTwoFaced(t *testing.T) {
	t.Parallel()
	m := Simple(t, "example.com/a", "v1.0.0")
	bad := TwoFaced(t, m)
	if h := hashZip(t, bad); h != m.H1 {
		t.Errorf("by its directory: %s, want %s", h, m.H1)
	}
	if bytes.Count(bad, []byte("PK\x03\x04")) != 4 || !bytes.Contains(bad, []byte("xxxxxxxxxx")) {
		t.Error("front to back it shows nothing else")
	}
	name := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(name, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := modzip.CheckZip(module.Version{Path: m.Path, Version: m.Version.Version}, name); err != nil {
		t.Errorf("x/mod sees through it: %v", err)
	}
	if _, err := zip.NewReader(bytes.NewReader(bad), int64(len(bad))); err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	m := Big(t, "example.com/big", "v1.0.0", 100<<10)
	s := New(t, m)
	path := Path(t, m.Version, "zip")
	get := func() (status int, length int64, n int, err error) {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			return 0, 0, 0, err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.ContentLength, len(data), err
	}
	size := len(m.Zip)
	for _, c := range []struct {
		name   string
		fault  Fault
		status int
		length int64
		n      int
		fails  bool
	}{
		{"none", nil, 200, int64(size), size, false},
		{"status", Status(503, "no"), 503, 3, 3, false},
		{"reset", Reset(1000), 200, int64(size), 1000, true},
		{"short", Short(1000), 200, -1, 1000, false},
		{"append", Append([]byte("garbage")), 200, -1, size + 7, false},
		{"bytes", Bytes("text/plain", []byte("abc")), 200, 3, 3, false},
		{"first", FirstN(1, Reset(0)), 200, int64(size), size, false}, // not the first
	} {
		s.SetFault(path, c.fault)
		status, length, n, err := get()
		if status != c.status || length != c.length || n != c.n || (err != nil) != c.fails {
			t.Errorf("%s: %d, length %d, %d bytes, %v", c.name, status, length, n, err)
		}
	}
	if n := s.Count(path); n != 7 || len(s.Requests()) != 7 {
		t.Errorf("counted %d", n)
	}
	s.Forget()
	if s.Count(path) != 0 || len(s.Requests()) != 0 {
		t.Error("not forgotten")
	}
}

func TestSumDBMount(t *testing.T) {
	t.Parallel()
	s := New(t)
	s.SumDB("sum.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }))
	for path, want := range map[string]string{"/sumdb/sum.test/supported": "", "/sumdb/sum.test/lookup/a@v1": "/lookup/a@v1"} {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(data) != want {
			t.Errorf("%s: %d %q", path, resp.StatusCode, data)
		}
	}
}
