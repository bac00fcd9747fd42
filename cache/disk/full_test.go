package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/disk"
)

// mounted runs f in a process of its own that sees a small file system at dir.
// Where none can be mounted the test is skipped.
func mounted(t *testing.T, options string, f func(t *testing.T, dir string)) {
	t.Helper()
	if os.Getenv(envRole) == t.Name() {
		f(t, os.Getenv(envDir))
		return
	}
	flags := "-m"
	if os.Getuid() != 0 {
		flags = "-Urm"
	}
	mount := func(then string) *exec.Cmd {
		c := exec.Command("unshare", flags, "sh", "-c", "mount -t tmpfs -o "+options+" tmpfs \"$"+envDir+"\" && "+then,
			"sh", os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
		c.Env = append(os.Environ(), envRole+"="+t.Name(), envDir+"="+t.TempDir(), "GORACE=atexit_sleep_ms=0")
		return c
	}
	if out, err := mount("true").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: a small file system cannot be mounted here (%v: %s)", err, bytes.TrimSpace(out))
	}
	out, err := mount(`exec "$@"`).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDiskFull(t *testing.T) {
	for _, c := range []struct{ name, options string }{
		{"bytes", "size=4m,mode=755"}, {"inodes", "size=64m,nr_inodes=100,mode=755"},
	} {
		t.Run(c.name, func(t *testing.T) { mounted(t, c.options, testDiskFull) })
	}
}

func testDiskFull(t *testing.T, dir string) {
	s := open(t, dir)
	data := strings.Repeat("0123456789abcdef", 16<<10)
	stored := 0
	var err error
	for ; err == nil && stored < 1000; stored++ {
		err = s.Put(t.Context(), fmt.Sprintf("example.com/m%d/@v/v1.0.0.zip", stored), strings.NewReader(data), cache.PutOptions{})
	}
	stored--
	if !errors.Is(err, cache.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d: %v, want ErrFull and the system's word", stored, err)
	}
	cachetest.Leftovers(t, dir+"/.modgate/spool")
	for i := range stored {
		if got := content(t, s, fmt.Sprintf("example.com/m%d/@v/v1.0.0.zip", i)); got != data {
			t.Errorf("object %d: %d bytes", i, len(got))
		}
	}
	fillUp(t, dir)
	// Nothing can be replaced now, and nothing is lost by trying.
	const list = "example.com/m0/@v/v1.0.0.zip"
	if err := s.Quarantine(t.Context(), list, "there is no room to put it aside"); err != nil {
		t.Errorf("quarantine: %v", err)
	}
	// Room is used again without a restart.
	for i := range stored {
		must(t, s.Delete(t.Context(), fmt.Sprintf("example.com/m%d/@v/v1.0.0.zip", i)))
	}
	put(t, s, "example.com/m/@v/list", "v1.0.0\n", cache.Mutable)
	must(t, s.Close())
	s = open(t, dir)
	if got := content(t, s, "example.com/m/@v/list"); got != "v1.0.0\n" {
		t.Errorf("%q", got)
	}
}

// fillUp takes the last blocks.
func fillUp(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, ".filler"))
	if err != nil {
		return
	}
	defer f.Close()
	for b := make([]byte, 4096); err == nil; {
		_, err = f.Write(b)
	}
}

func TestFullDiskKeepsWhatANameHad(t *testing.T) {
	mounted(t, "size=1m,mode=755", func(t *testing.T, dir string) {
		s := open(t, dir)
		const list, pin = "example.com/m/@v/list", "pins/example.com/m@v1.0.0"
		put(t, s, list, "old list", cache.Mutable)
		put(t, s, pin, "old pin", cache.Precious)
		fillUp(t, dir)
		for _, name := range []string{list, pin} {
			err := s.Put(t.Context(), name, strings.NewReader(strings.Repeat("x", 100_000)), cache.PutOptions{Class: cache.Mutable})
			if !errors.Is(err, cache.ErrFull) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := s.Touch(t.Context(), list, time.Now()); !errors.Is(err, cache.ErrFull) {
			t.Errorf("Touch: %v", err)
		}
		if a, b := content(t, s, list), content(t, s, pin); a != "old list" || b != "old pin" {
			t.Errorf("%q, %q", a, b)
		}
	})
}

func TestReadOnlyIsRefused(t *testing.T) {
	mounted(t, "size=4m,mode=755,ro", func(t *testing.T, dir string) {
		s, err := disk.New(disk.Config{Dir: dir})
		if err == nil {
			s.Close()
			t.Fatal("a read-only directory was accepted")
		}
		if msg := err.Error(); !strings.Contains(msg, dir) || !strings.Contains(msg, "mount it writable, or name another directory") {
			t.Errorf("the error names neither directory nor remedy: %v", err)
		}
	})
}

// TestTurnedReadOnly takes away the right to write, by becoming somebody else.
func TestTurnedReadOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: only root can become somebody else")
	}
	mounted(t, "size=4m,mode=755", func(t *testing.T, dir string) {
		s, err := disk.New(disk.Config{Dir: dir})
		must(t, err)
		put(t, s, zipName, "zip", cache.Immutable)
		old := time.Now().Add(-100 * time.Hour)
		must(t, os.Chtimes(attrFile(dir, zipName), old, old))
		must(t, syscall.Setuid(65534))
		for range 3 {
			if got := content(t, s, zipName); got != "zip" {
				t.Errorf("a hit: %q", got)
			}
		}
		err = s.Put(t.Context(), "example.com/m/@v/list", strings.NewReader("x"), cache.PutOptions{})
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, cache.ErrFull) {
			t.Errorf("Put: %v", err)
		}
		_, err = disk.New(disk.Config{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "chown") {
			t.Errorf("New: %v; want the directory and the remedy", err)
		}
	})
}
