package disk_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
)

const secret = "root:x:0:0"

// plants puts something at path that is not an object of ours.
func plants(outside string) map[string]func(path string) error {
	return map[string]func(path string) error{
		"symbolic link":           func(p string) error { return os.Symlink(outside, p) },
		"symbolic link, dangling": func(p string) error { return os.Symlink("/no/such/file", p) },
		"symbolic link, inside":   func(p string) error { return os.Symlink("../../../victim", p) },
		"hard link":               func(p string) error { return os.Link(outside, p) },
		"pipe":                    func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"socket": func(p string) error {
			// The path of a socket is short; bind where we are.
			l, err := net.Listen("unix", filepath.Join(filepath.Dir(outside), "s"))
			if err != nil {
				return err
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			l.Close()
			return os.Rename(filepath.Join(filepath.Dir(outside), "s"), p)
		},
		"empty directory": func(p string) error { return os.Mkdir(p, 0o755) },
	}
}

// within fails the test if f hangs.
func within(t *testing.T, d time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatal("hangs")
	}
}

// TestPlanted checks that nothing planted at a name, or at the name of its
// attributes, is ever read, that it does not block, and that a Put replaces it.
func TestPlanted(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	must(t, os.WriteFile(outside, []byte(secret), 0o644))
	for what, plant := range plants(outside) {
		for _, at := range []string{zipName, filepath.Dir(zipName) + "/." + filepath.Base(zipName) + ".attr"} {
			t.Run(what+" at "+filepath.Base(at), func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				put(t, s, "victim", "of somebody else", cache.Immutable)
				put(t, s, zipName, "zip", cache.Immutable)
				must(t, os.Remove(filepath.Join(dir, at)))
				must(t, plant(filepath.Join(dir, at)))
				within(t, 10*time.Second, func() {
					checkPlanted(t, s)
				})
				if b, err := os.ReadFile(outside); err != nil || string(b) != secret {
					t.Errorf("the file outside: %q, %v", b, err)
				}
				if got := content(t, s, "victim"); got != "of somebody else" {
					t.Errorf("the victim: %q", got)
				}
			})
		}
	}
}

func checkPlanted(t *testing.T, s *disk.Store) {
	if o, err := s.Get(context.Background(), zipName); err == nil {
		b, err := io.ReadAll(o.Body)
		o.Close()
		// Without attributes our own bytes are adopted ones; that is all.
		if err != nil || string(b) != "zip" || o.Attrs.SHA256 != "" {
			t.Errorf("Get returned %q, %+v, %v", b, o.Attrs, err)
		}
	} else if !errors.Is(err, cache.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get: %v", err)
	}
	for _, err := range s.List(context.Background(), "") {
		if err != nil {
			t.Errorf("List: %v", err)
		}
	}
	if err := s.Put(context.Background(), zipName, strings.NewReader("zip"), cache.PutOptions{}); err != nil {
		t.Errorf("Put: %v", err)
		return
	}
	if got := content(t, s, zipName); got != "zip" {
		t.Errorf("after Put: %q", got)
	}
	if err := s.Delete(context.Background(), zipName); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(context.Background(), zipName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Delete: %v", err)
	}
}

// TestPlantedIsNotAdopted plants where nothing is stored, with a name that an
// adopted object could have.
func TestPlantedIsNotAdopted(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	must(t, os.WriteFile(outside, []byte(secret), 0o644))
	for what, plant := range plants(outside) {
		dir := t.TempDir()
		s := open(t, dir)
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(zipName)), 0o755))
		must(t, plant(filepath.Join(dir, zipName)))
		within(t, 10*time.Second, func() {
			if o, err := s.Get(context.Background(), zipName); err == nil {
				o.Close()
				t.Errorf("%s: adopted", what)
			}
			for e, err := range s.List(context.Background(), "") {
				if err != nil || e.Size != 0 {
					t.Errorf("%s: listed %+v, %v", what, e, err)
				}
			}
			put(t, s, zipName, "zip", cache.Immutable)
		})
		if got := content(t, s, zipName); got != "zip" {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// TestLinkInTheMiddle checks that no operation goes through a symbolic link
// among the directories, even one that stays inside.
func TestLinkInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "good.example/m/@v/v1.0.0.zip", "good", cache.Immutable)
	outside := t.TempDir()
	must(t, os.Symlink("good.example", filepath.Join(dir, "evil.example")))
	must(t, os.Symlink(outside, filepath.Join(dir, "out.example")))
	for _, name := range []string{"evil.example/m/@v/v1.0.0.zip", "out.example/m/@v/v1.0.0.zip"} {
		if o, err := s.Get(t.Context(), name); err == nil {
			o.Close()
			t.Errorf("Get %s went through the link", name)
		}
		if err := s.Put(t.Context(), name, strings.NewReader("evil"), cache.PutOptions{Class: cache.Mutable}); err == nil {
			t.Errorf("Put %s went through the link", name)
		}
		_ = s.Delete(t.Context(), name)
		_ = s.Quarantine(t.Context(), name, "test")
		_ = s.Touch(t.Context(), name, time.Now())
	}
	if got := content(t, s, "good.example/m/@v/v1.0.0.zip"); got != "good" {
		t.Errorf("the object behind the link: %q", got)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
	var names []string
	for e, err := range s.List(t.Context(), "") {
		must(t, err)
		names = append(names, e.Name)
	}
	if len(names) != 1 {
		t.Errorf("listed %q", names)
	}
}

func TestDirectoryWithObjectsIsNotReplaced(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "a/b/c", "c", cache.Immutable)
	if err := s.Put(t.Context(), "a/b", strings.NewReader("b"), cache.PutOptions{}); err == nil {
		t.Error("a directory was replaced")
	}
	must(t, s.Quarantine(t.Context(), "a/b", "test"))
	must(t, s.Delete(t.Context(), "a"))
	if got := content(t, s, "a/b/c"); got != "c" {
		t.Errorf("%q", got)
	}
}

func TestRefusedDirectories(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	must(t, os.WriteFile(file, nil, 0o644))
	open4all := filepath.Join(base, "open")
	must(t, os.Mkdir(open4all, 0o755))
	must(t, os.Chmod(open4all, 0o777))
	newer := filepath.Join(base, "newer")
	must(t, os.MkdirAll(newer+"/.modgate", 0o755))
	must(t, os.WriteFile(newer+"/.modgate/layout", []byte("7\n"), 0o644))
	other := filepath.Join(base, "other")
	must(t, os.MkdirAll(other+"/.modgate", 0o755))
	must(t, os.WriteFile(other+"/.modgate/layout", []byte("hello"), 0o644))
	for _, c := range []struct{ dir, want string }{
		{"", "none is set"},
		{file, "name a directory"},
		{file + "/below", "name a directory"},
		{open4all, "chmod o-w"},
		{newer, "newer modgate (layout 7"},
		{other, "not a layout version"},
	} {
		s, err := disk.New(disk.Config{Dir: c.dir})
		if err == nil {
			s.Close()
			t.Errorf("%s was accepted", c.dir)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.dir) {
			t.Errorf("%s: %v; want it to say %q", c.dir, err, c.want)
		}
	}
}

func TestQuarantineKeepsEvidenceWithinBounds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for range 20 {
		put(t, s, zipName, "bad bytes", cache.Immutable)
		must(t, s.Quarantine(t.Context(), zipName, "because"))
	}
	kept, err := filepath.Glob(dir + "/.modgate/quarantine/*")
	must(t, err)
	if len(kept) != 16 {
		t.Errorf("%d are kept", len(kept))
	}
	for file, want := range map[string]string{"object": "bad bytes", "attr": `"size":9`, "reason": zipName + "\nbecause\n"} {
		b, err := os.ReadFile(filepath.Join(kept[len(kept)-1], file))
		if err != nil || !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	fi, err := os.Stat(dir + "/.modgate")
	must(t, err)
	if fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", fi.Mode())
	}
}
