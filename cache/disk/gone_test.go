package disk_test

import (
	"os"
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
