package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
)

// The trouble tests do to the program what the world does: kill it, fill its
// disk, rot its files, break its upstream. Their oracle is always the same:
// nothing wrong is ever completed, nothing acknowledged is lost, and the error
// says why.

// addTo adds modules to w, known to its checksum database.
func (w *world) addTo(t *testing.T, mods ...*proxytest.Module) {
	t.Helper()
	w.upstream.Add(t, mods...)
	for _, m := range mods {
		w.log.Add(m.Version, m.H1, m.ModH1)
	}
}

// expected returns the right bytes of every file of the modules by URL path,
// and of the lists of their versions.
func expected(t *testing.T, mods ...*proxytest.Module) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, m := range mods {
		files[proxytest.Path(t, m.Version, "info")] = m.Info
		files[proxytest.Path(t, m.Version, "mod")] = m.Mod
		files[proxytest.Path(t, m.Version, "zip")] = m.Zip
		path, err := module.EscapePath(m.Path)
		if err != nil {
			t.Fatal(err)
		}
		list := "/" + path + "/@v/list"
		files[list] = append(files[list], m.Version.Version+"\n"...) // in order, if mods are
	}
	return files
}

// fetch gets a URL. An error means that no whole answer came.
func fetch(ctx context.Context, client *http.Client, url string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// want fails the test unless path is answered with exactly data.
func (i *instance) want(t *testing.T, path string, data []byte) {
	t.Helper()
	code, body, err := fetch(t.Context(), http.DefaultClient, i.url+path)
	switch {
	case err != nil || code != http.StatusOK:
		t.Errorf("%s: %d, %v: %.300q", path, code, err, body)
	case !bytes.Equal(body, data):
		t.Errorf("%s: WRONG BYTES: %d of them, want %d: %.100q", path, len(body), len(data), body)
	}
}

// wantNoBody fails the test if path is answered with a complete 200; it returns
// status and text of a refusal, and 0 if a body was begun and cut off.
func (i *instance) wantNoBody(t *testing.T, path string) (int, string) {
	t.Helper()
	code, body, err := fetch(t.Context(), http.DefaultClient, i.url+path)
	if err == nil && code == http.StatusOK {
		t.Errorf("%s: completed with %d bytes: %.100q", path, len(body), body)
	}
	if err != nil {
		return 0, ""
	}
	return code, string(body)
}

// metric returns the sum of all series whose name with labels begins with
// prefix.
func (i *instance) metric(t *testing.T, prefix string) float64 {
	t.Helper()
	_, text := get(t, i.admin+"/metrics")
	sum, found := 0.0, false
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum, found = sum+v, true
	}
	if !found {
		t.Fatalf("there is no metric %s", prefix)
	}
	return sum
}

// startIn starts a server in w on a cache directory. stop ends it, and the test
// fails if it does not end well; it may be called once more.
func (w *world) startIn(t *testing.T, dir string, args ...string) (i *instance, stop func()) {
	t.Helper()
	i, err := launch(nil, dir, append(w.flags(), args...)...)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := i.stop(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return i, stop
}

// storedFile reports whether there is a file at path in the cache.
func (i *instance) storedFile(path string) bool {
	_, err := os.Lstat(filepath.Join(i.dir, filepath.FromSlash(path)))
	return err == nil
}

// strays returns the files in the spool of a cache directory, of which an idle
// server has none.
func strays(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(dir, ".modgate", "spool"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

// Environment of a test that runs in a mount namespace of its own.
const (
	envTrouble    = "MODGATE_TEST_TROUBLE"
	envTroubleDir = "MODGATE_TEST_TROUBLE_DIR"
)

// mounted runs f in a process of its own that sees a small file system at dir
// and may mount more. Where none can be mounted the test is skipped.
func mounted(t *testing.T, options string, f func(t *testing.T, dir string)) {
	t.Helper()
	if os.Getenv(envTrouble) == t.Name() {
		f(t, os.Getenv(envTroubleDir))
		return
	}
	flags := "-m"
	if os.Getuid() != 0 {
		flags = "-Urm"
	}
	mount := func(then string) *exec.Cmd {
		c := exec.Command("unshare", flags, "sh", "-c", "mount -t tmpfs -o "+options+" tmpfs \"$"+envTroubleDir+"\" && "+then,
			"sh", os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v", "-test.timeout=3m")
		c.Env = append(os.Environ(), envTrouble+"="+t.Name(), envTroubleDir+"="+t.TempDir())
		return c
	}
	if out, err := mount("true").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: a small file system cannot be mounted here (%v: %s)", err, bytes.TrimSpace(out))
	}
	var out bytes.Buffer
	c := mount(`exec "$@"`)
	c.Stdout, c.Stderr = &out, &out
	err := begin(c)
	if err == nil {
		err = c.Wait()
	}
	if err != nil || !bytes.Contains(out.Bytes(), []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, &out)
	}
}

// fillDisk takes all the room that is left in dir; free gives it back.
func fillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, ".filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for b := make([]byte, 4096); err == nil; {
		_, err = f.Write(b)
	}
	if !strings.Contains(fmt.Sprint(err), syscall.ENOSPC.Error()) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}
