package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
)

// startTime is how long a server with a million versions may take until it
// serves.
const startTime = 2 * time.Second

// oneOfMany is the version that has been fetched, and not put there by hand.
const oneOfMany = "example.com/one/@v/v1.0.0.mod"

// TestStartWithAMillionVersions starts a server on a directory with a million
// go.mod files, all of them links to one. It serves before it has looked at
// them, and ends while it does.
func TestStartWithAMillionVersions(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a million links")
	}
	mounted(t, "size=1g,nr_inodes=0,mode=755", func(t *testing.T, dir string) {
		const modules, versions = 10_000, 100
		w := newWorld(t)
		text := []byte("module example.com/many\n")
		manyVersions(t, dir, modules, versions, text)
		begin := time.Now()
		_, stop := w.startIn(t, t.TempDir())
		empty := time.Since(begin)
		stop()
		begin = time.Now()
		i, stop := w.startIn(t, dir)
		full := time.Since(begin)
		code, body := get(t, i.url+"/"+oneOfMany)
		first := time.Since(begin)
		if code != http.StatusOK || body != string(text) || len(w.upstream.Requests()) > 0 {
			t.Errorf("%d %q, %d requests to upstream", code, body, len(w.upstream.Requests()))
		}
		// A machine that is busy needs long for nothing, too.
		if full > startTime && full > 2*empty || first > startTime && first > 3*empty {
			t.Errorf("served after %v, first answer after %v; an empty directory takes %v", full, first, empty)
		}
		begin = time.Now()
		stop()
		t.Logf("served after %v, first answer after %v, ended within %v; an empty directory takes %v", full, first, time.Since(begin), empty)
	})
}

// manyVersions fills dir with modules of which each .mod file is text.
func manyVersions(t *testing.T, dir string, modules, versions int, text []byte) {
	t.Helper()
	s, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Put(t.Context(), oneOfMany, bytes.NewReader(text), cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, filepath.Dir(oneOfMany), "v0.9.0.mod") // a link would change the object
	if err := os.WriteFile(source, text, 0o644); err != nil {
		t.Fatal(err)
	}
	for m := range modules {
		to := filepath.Join(dir, fmt.Sprintf("example.com/many%d/@v", m))
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		for v := range versions {
			if err := os.Link(source, filepath.Join(to, fmt.Sprintf("v1.%d.0.mod", v))); err != nil {
				t.Fatal(err)
			}
		}
	}
}
