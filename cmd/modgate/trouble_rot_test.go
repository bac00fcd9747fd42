package main

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
)

const foreign = "FOREIGN-BYTES of a file that is not ours"

// rots are what may become of a stored file while the server is down. corrupt
// says that it must be counted as such; a file that is simply gone is not.
var rots = []struct {
	name    string
	corrupt bool
	spoil   func(t *testing.T, file string)
}{
	{"a bit flipped at the start", true, func(t *testing.T, file string) { flipBit(t, file, 0) }},
	{"a bit flipped in the middle", true, func(t *testing.T, file string) { flipBit(t, file, 500) }},
	{"a bit flipped at the end", true, func(t *testing.T, file string) { flipBit(t, file, 999) }},
	{"truncated", true, func(t *testing.T, file string) { resize(t, file, -1) }},
	{"emptied", true, func(t *testing.T, file string) { replace(t, file, nil) }},
	{"grown", true, func(t *testing.T, file string) { resize(t, file, 1) }},
	{"zeros of the same size", true, func(t *testing.T, file string) {
		replace(t, file, make([]byte, len(contentOf(t, file))))
	}},
	{"a symbolic link", true, func(t *testing.T, file string) {
		other := planted(t, file)
		unlink(t, file)
		noError(t, os.Symlink(other, file))
	}},
	{"a hard link", true, func(t *testing.T, file string) {
		other := planted(t, file)
		unlink(t, file)
		noError(t, os.Link(other, file))
	}},
	{"a pipe", true, func(t *testing.T, file string) {
		unlink(t, file)
		noError(t, syscall.Mkfifo(file, 0o644))
	}},
	{"a directory", false, func(t *testing.T, file string) {
		unlink(t, file)
		noError(t, os.Mkdir(file, 0o755))
	}},
	{"gone", false, func(t *testing.T, file string) { unlink(t, file) }},
	{"gone with its attributes", false, func(t *testing.T, file string) {
		unlink(t, file)
		unlink(t, attributes(file))
	}},
	{"attributes that are garbage", true, func(t *testing.T, file string) { replace(t, attributes(file), []byte("\x00{")) }},
	{"attributes that are empty", true, func(t *testing.T, file string) { replace(t, attributes(file), nil) }},
	{"attributes that are cut off", true, func(t *testing.T, file string) { resize(t, attributes(file), -7) }},
	{"attributes that are a pipe", true, func(t *testing.T, file string) {
		unlink(t, attributes(file))
		noError(t, syscall.Mkfifo(attributes(file), 0o644))
	}},
}

// TestRot spoils every stored file in every way, and asks for it: the right
// bytes come with the first request, and are there again for the second.
func TestRot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	small := proxytest.Simple(t, "example.com/small", "v1.0.0")
	big := proxytest.Big(t, "example.com/big", "v1.0.0", 2<<20)
	w.addTo(t, small, big)
	files := expected(t, small, big)
	dir := filepath.Join(t.TempDir(), "cache")
	i, stop := w.startIn(t, dir, "--ttl-list=1h")
	for path, data := range files {
		i.want(t, path, data)
	}
	stop()
	for _, rot := range rots {
		t.Run(rot.name, func(t *testing.T) {
			for path := range files {
				rot.spoil(t, filepath.Join(dir, path))
			}
			i, stop := w.startIn(t, dir, "--ttl-list=1h", "--cache-memory=0")
			w.upstream.Forget()
			for path, data := range files {
				i.want(t, path, data)
				if n := w.upstream.Count(path); n != 1 {
					t.Errorf("%s: fetched %d times", path, n)
				}
			}
			if n := i.metric(t, "modgate_cache_corrupt_total"); rot.corrupt && int(n) != len(files) || !rot.corrupt && n != 0 {
				t.Errorf("%v corrupt files counted, want all of %d: %t", n, len(files), rot.corrupt)
			}
			w.upstream.Forget()
			for path, data := range files {
				i.want(t, path, data)
			}
			if asked := w.upstream.Requests(); len(asked) > 0 {
				t.Errorf("not healed: the upstream was asked again for %s", asked[0].Path)
			}
			stop()
			if strings.Contains(i.log(), foreign) {
				t.Error("foreign bytes are in the log")
			}
		})
	}
	out, err := exec.Command("modgate", "cache", "verify", "--config=off", "--cache-dir="+dir).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(" 0 corrupt, 0 unreadable")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRotInUse spoils a zip that the running server has read before.
func TestRotInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	big := proxytest.Big(t, "example.com/big", "v1.0.0", 2<<20)
	w.addTo(t, big)
	dir := filepath.Join(t.TempDir(), "cache")
	i, _ := w.startIn(t, dir)
	path := proxytest.Path(t, big.Version, "zip")
	i.want(t, path, big.Zip)
	i.want(t, path, big.Zip)
	for _, rot := range rots {
		if strings.HasPrefix(rot.name, "attributes") {
			continue // are not read again as long as the file beside them is the same
		}
		rot.spoil(t, filepath.Join(dir, path))
		i.want(t, path, big.Zip)
		i.want(t, path, big.Zip)
		if t.Failed() {
			t.Fatal(rot.name)
		}
	}
}

// TestRotWithoutUpstream asks for spoiled files while there is nobody to fetch
// them from: no answer is better than a wrong one.
func TestRotWithoutUpstream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	small := proxytest.Simple(t, "example.com/small", "v1.0.0")
	big := proxytest.Big(t, "example.com/big", "v1.0.0", 2<<20)
	w.addTo(t, small, big)
	dir := filepath.Join(t.TempDir(), "cache")
	i, stop := w.startIn(t, dir)
	files := expected(t, small, big)
	for path, data := range files {
		i.want(t, path, data)
	}
	stop()
	for path := range files {
		flipBit(t, filepath.Join(dir, path), 300)
	}
	w.upstream.SetFault("*", proxytest.Status(http.StatusInternalServerError, "down"))
	i, _ = w.startIn(t, dir)
	for path := range files {
		if strings.HasSuffix(path, "/list") {
			continue // can be told from what else is stored
		}
		if code, text := i.wantNoBody(t, path); code < 500 || code > 504 {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	w.upstream.SetFault("*", nil)
	until(t, "everything heals", func() bool { // the circuit breaker pauses
		code, body := get(t, i.url+proxytest.Path(t, big.Version, "zip"))
		return code == http.StatusOK && body == string(big.Zip)
	})
	for path, data := range files {
		i.want(t, path, data)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// attributes is the file beside a stored file.
func attributes(file string) string {
	return filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".attr")
}

// planted makes a file outside the cache that is as large as file.
func planted(t *testing.T, file string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), filepath.Base(file))
	size := len(contentOf(t, file))
	noError(t, os.WriteFile(name, bytes.Repeat([]byte(foreign), size/len(foreign)+1)[:size], 0o644))
	return name
}

func contentOf(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	noError(t, err)
	return data
}

func unlink(t *testing.T, file string) {
	t.Helper()
	noError(t, os.Remove(file))
}

// replace overwrites a file where it stands.
func replace(t *testing.T, file string, data []byte) {
	t.Helper()
	noError(t, os.WriteFile(file, data, 0o644))
}

// flipBit turns over a bit at permille of a file.
func flipBit(t *testing.T, file string, permille int) {
	t.Helper()
	data := contentOf(t, file)
	data[(len(data)-1)*permille/999] ^= 0x10
	replace(t, file, data)
}

// resize makes a file some bytes longer or shorter.
func resize(t *testing.T, file string, by int) {
	t.Helper()
	data := contentOf(t, file)
	replace(t, file, append(data, make([]byte, max(by, 0))...)[:len(data)+by])
}
