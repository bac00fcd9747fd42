package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
)

// TestDiskFull runs the server on 4 MiB.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	mounted(t, "size=4m,mode=755", testDiskFull)
}

func testDiskFull(t *testing.T, dir string) {
	w := newWorld(t)
	small := proxytest.Simple(t, "example.com/small", "v1.0.0")
	later := proxytest.Simple(t, "example.com/later", "v1.0.0")
	last := proxytest.Simple(t, "example.com/last", "v1.0.0")
	medium := proxytest.Big(t, "example.com/medium", "v1.0.0", 700<<10)
	big := proxytest.Big(t, "example.com/big", "v1.0.0", 6<<20)
	w.addTo(t, small, later, last, medium, big)
	files := expected(t, small, later, last, medium, big)
	i, _ := w.startIn(t, dir)
	ask := func(m *proxytest.Module) {
		t.Helper()
		for _, kind := range []string{"info", "mod", "zip"} {
			path := proxytest.Path(t, m.Version, kind)
			i.want(t, path, files[path])
		}
	}
	stored := func(m *proxytest.Module) bool {
		_, err := os.Stat(filepath.Join(dir, proxytest.Path(t, m.Version, "zip")))
		return err == nil
	}

	ask(small)
	if !stored(small) {
		t.Error("nothing is stored where there is room")
	}
	if n := i.metric(t, `modgate_cache_errors_total{op="put"}`); n != 0 {
		t.Errorf("%v errors where there is room", n)
	}

	// More than the disk has room for passes through, every time.
	ask(big)
	ask(big)
	if stored(big) {
		t.Error("6 MiB are stored in 4 MiB")
	}
	if n := i.metric(t, `modgate_cache_errors_total{op="put"}`); n != 2 {
		t.Errorf("%v errors counted, want 2", n)
	}
	if left := strays(t, dir); len(left) > 0 {
		t.Errorf("left in the spool: %q", left)
	}
	ask(small)

	// With nothing left at all, too.
	free := fillDisk(t, dir)
	for range 2 {
		ask(small)
		ask(later)
		ask(medium)
		ask(big)
	}
	if stored(later) || stored(medium) {
		t.Error("stored without room")
	}
	if code, _ := get(t, i.url+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d, though every request is answered", code)
	}
	i.want(t, "/example.com/later/@v/list", files["/example.com/later/@v/list"])

	// Room is used again without a restart.
	free()
	ask(later)
	ask(medium)
	ask(last)
	if !stored(later) || !stored(medium) || !stored(last) {
		t.Error("nothing is stored although there is room again")
	}
	if log := i.log(); !strings.Contains(log, "no space left") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}

// TestDiskFullEverywhere leaves no other file system to the server: what fits
// into memory is served, and what does not is refused with a reason.
func TestDiskFullEverywhere(t *testing.T) {
	t.Parallel()
	mounted(t, "size=4m,mode=755", func(t *testing.T, dir string) {
		w := newWorld(t)
		medium := proxytest.Big(t, "example.com/medium", "v1.0.0", 700<<10)
		big := proxytest.Big(t, "example.com/big", "v1.0.0", 6<<20)
		w.addTo(t, medium, big)
		i, err := launch([]string{"TMPDIR=" + dir}, filepath.Join(dir, "cache"), w.flags()...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := i.stop(); err != nil {
				t.Error(err)
			}
		}()
		for range 2 {
			i.wantNoBody(t, proxytest.Path(t, big.Version, "zip"))
			i.want(t, proxytest.Path(t, medium.Version, "zip"), medium.Zip)
			i.want(t, proxytest.Path(t, big.Version, "mod"), big.Mod)
		}
		free := fillDisk(t, dir)
		code, text := i.wantNoBody(t, proxytest.Path(t, big.Version, "zip"))
		if code != 0 && code < 500 {
			t.Errorf("%d %s: trouble here is no reason to look elsewhere", code, text)
		}
		i.want(t, proxytest.Path(t, medium.Version, "zip"), medium.Zip)
		free()
		if left := strays(t, filepath.Join(dir, "cache")); len(left) > 0 {
			t.Errorf("left in the spool: %q", left)
		}
	})
}

// TestReadOnlyAtStart: the error names the directory and what to do.
func TestReadOnlyAtStart(t *testing.T) {
	t.Parallel()
	mounted(t, "size=4m,mode=755,ro", func(t *testing.T, dir string) {
		for _, dir := range []string{dir, filepath.Join(dir, "below")} {
			i, err := launch(nil, dir, newWorld(t).flags()...)
			if err == nil {
				i.cmd.Process.Kill()
				t.Fatalf("started on %s, which cannot be written", dir)
			}
			for _, want := range []string{"exit status 1", dir, "read-only file system", "mount it writable, or name another directory"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "goroutine ") {
				t.Errorf("a stack is no error message: %v", err)
			}
		}
	})
}

// TestTurnedReadOnly takes the right to write from a server that runs, as a
// kernel does that has found an error in the file system: a read-only mount
// lies over each of its directories.
func TestTurnedReadOnly(t *testing.T) {
	t.Parallel()
	mounted(t, "size=40m,mode=755", testTurnedReadOnly)
}

func testTurnedReadOnly(t *testing.T, dir string) {
	w := newWorld(t)
	hit := proxytest.Big(t, "example.com/hit", "v1.0.0", 2<<20)
	miss := proxytest.Big(t, "example.com/miss", "v1.0.0", 2<<20)
	w.addTo(t, hit, miss)
	files := expected(t, hit, miss)
	i, _ := w.startIn(t, dir, "--cache-memory=0")
	for _, kind := range []string{"info", "mod", "zip"} {
		path := proxytest.Path(t, hit.Version, kind)
		i.want(t, path, files[path])
	}
	i.want(t, "/example.com/hit/@v/list", files["/example.com/hit/@v/list"])
	restore := turnReadOnly(t, dir)
	w.upstream.Forget()
	for _, kind := range []string{"info", "mod", "zip"} {
		path := proxytest.Path(t, hit.Version, kind)
		i.want(t, path, files[path])
	}
	if asked := w.upstream.Requests(); len(asked) > 0 {
		t.Errorf("a hit asked the upstream for %s", asked[0].Path)
	}
	for range 2 {
		for _, kind := range []string{"info", "mod", "zip"} {
			path := proxytest.Path(t, miss.Version, kind)
			i.want(t, path, files[path])
		}
		i.want(t, "/example.com/miss/@v/list", files["/example.com/miss/@v/list"])
	}
	if n := i.metric(t, `modgate_cache_errors_total{op="put"}`); n < 8 {
		t.Errorf("%v errors counted, want at least 8", n)
	}
	if code, _ := get(t, i.url+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d", code)
	}

	// Once it is writable again, things are kept again.
	restore()
	path := proxytest.Path(t, miss.Version, "zip")
	i.want(t, path, miss.Zip)
	if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
		t.Error(err)
	}
}

// turnReadOnly lays a read-only mount over everything in dir; restore takes it
// away.
func turnReadOnly(t *testing.T, dir string) (restore func()) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		over := filepath.Join(dir, e.Name())
		if err := syscall.Mount(over, over, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("", over, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, entries[0].Name(), "x"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("still writable: this tests nothing: %v", err)
	}
	return func() {
		t.Helper()
		for _, e := range entries {
			if err := syscall.Unmount(filepath.Join(dir, e.Name()), syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestDrainsWithoutADisk: a server that has answered everything has ended well,
// though it could not tidy up behind itself; the next one does that.
func TestDrainsWithoutADisk(t *testing.T) {
	t.Parallel()
	mounted(t, "size=4m,mode=755", func(t *testing.T, dir string) {
		w := newWorld(t)
		m := proxytest.Simple(t, "example.com/m", "v1.0.0")
		w.addTo(t, m)
		zip := proxytest.Path(t, m.Version, "zip")

		i, stop := w.startIn(t, dir)
		i.want(t, zip, m.Zip)
		restore := turnReadOnly(t, dir)
		i.want(t, zip, m.Zip)
		stop()
		if log := i.log(); !strings.Contains(log, "the next start does it") || !strings.Contains(log, "read-only file system") {
			t.Errorf("the log does not say what is left:\n%s", log)
		}
		restore()

		i, stop = w.startIn(t, dir)
		i.want(t, zip, m.Zip)
		free := fillDisk(t, dir)
		i.want(t, zip, m.Zip)
		stop()
		free()
		if left, err := os.ReadDir(filepath.Join(dir, ".modgate", "spool")); err != nil || len(left) > 0 {
			t.Errorf("left in the spool: %v, %v", left, err)
		}
	})
}
