package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStrangeDir(t *testing.T) {
	for _, c := range []struct {
		name, entries, want string
	}{
		{"empty", "", ""},
		{"a volume", "lost+found/", ""},
		{"an adopted tree", "example.com/ github.com/ sumdb/", ""},
		{"a cache with a file beside it", ".modgate/ notes", ""},
		{"something else", "github.com/ passwd ssh/", "found=\"[passwd ssh]\" of=2"},
		{"many", "a b c d e f g", "found=\"[a b c d e]\" of=7"},
	} {
		dir := t.TempDir()
		for name := range strings.FieldsSeq(c.entries) {
			var err error
			if base, isDir := strings.CutSuffix(name, "/"); isDir {
				err = os.Mkdir(filepath.Join(dir, base), 0o755)
			} else {
				err = os.WriteFile(filepath.Join(dir, name), nil, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		warnOfStrangeDir(dir, slog.New(slog.NewTextHandler(&out, nil)))
		if c.want == "" && out.Len() > 0 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: got %q, want %q", c.name, &out, c.want)
		}
	}
	warnOfStrangeDir(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler))
}

// TestServeWarnsOfAStrangeDir: the server says so, and starts.
func TestServeWarnsOfAStrangeDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "passwd"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	i := newWorld(t).start(t, "--cache-dir="+dir)
	i.await(t, `cache.dir is no cache yet .*found=\[passwd\] of=1`)
}
