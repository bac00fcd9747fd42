package disk_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/modgate/modgate/cache"
)

// A spool directory that is removed while a file is in it takes that file with
// it, and no other: neither this Put nor the next one publishes anything else.
func TestSpoolDirectoryGoesUnderAFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	lost, err := s.NewSpool()
	must(t, err)
	defer lost.Close()
	must(t, os.RemoveAll(dir+"/.modgate/spool"))
	must(t, os.MkdirAll(dir+"/.modgate/spool", 0o700))
	for _, n := range []string{"a", "b"} {
		put(t, s, "example.com/"+n+"/@v/v1.0.0.mod", n, cache.Immutable)
	}
	if err := s.PutSpool(t.Context(), zipName, lost, cache.PutOptions{}); err == nil {
		t.Error("a file that is gone was published")
	}
	if err := s.Put(t.Context(), zipName, strings.NewReader("zip"), cache.PutOptions{}); err != nil {
		t.Error(err)
	}
	for _, n := range []string{"a", "b"} {
		if got := content(t, s, "example.com/"+n+"/@v/v1.0.0.mod"); got != n {
			t.Errorf("%s: %q", n, got)
		}
	}
}

// A directory that is removed, renamed or replaced under an open Store is not
// the one that New opened, even if everything in it comes back.
func TestDirectoryIsLost(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("what is open cannot be moved there")
	}
	dir := filepath.Join(t.TempDir(), "cache")
	s := open(t, dir)
	lost := func(want string) {
		t.Helper()
		err := s.Lost()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	lost("")
	must(t, os.Rename(dir, dir+".old"))
	lost("gone")
	must(t, os.Mkdir(dir, 0o755))
	lost("another")
	must(t, os.Remove(dir))
	must(t, os.WriteFile(dir, nil, 0o644))
	lost("another")
	must(t, os.Remove(dir))
	must(t, os.Symlink(dir+".old", dir))
	lost("")
	must(t, os.RemoveAll(dir+".old"))
	lost("gone")
	if err := s.Put(t.Context(), zipName, strings.NewReader("zip"), cache.PutOptions{}); err == nil {
		t.Error("kept in a directory that is gone: then there is nothing to tell")
	}
	must(t, s.Close())
	lost("")
}
