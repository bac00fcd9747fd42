package disk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/internal/conn"
)

func TestContract(t *testing.T) {
	cachetest.Test(t, func(t *testing.T) cache.Store {
		dir := t.TempDir()
		s := open(t, dir)
		t.Cleanup(func() { cachetest.Leftovers(t, dir+"/.modgate/spool") })
		return s
	})
}

func open(t testing.TB, dir string) *disk.Store {
	t.Helper()
	s, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s *disk.Store, name, data string, class cache.Class) {
	t.Helper()
	must(t, s.Put(context.Background(), name, strings.NewReader(data), cache.PutOptions{Class: class}))
}

func content(t testing.TB, s *disk.Store, name string) string {
	t.Helper()
	o, err := s.Get(context.Background(), name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return ""
	}
	b, err := o.ReadAll(1 << 30)
	must(t, err)
	return string(b)
}

func attrFile(dir, name string) string {
	return filepath.Join(dir, filepath.Dir(name), "."+filepath.Base(name)+".attr")
}

func TestTreeIsThatOfTheProtocol(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, zipName, "zip", cache.Immutable)
	b, err := os.ReadFile(filepath.Join(dir, zipName))
	if err != nil || string(b) != "zip" {
		t.Errorf("%q, %v", b, err)
	}
	attr, err := os.ReadFile(attrFile(dir, zipName))
	must(t, err)
	if strings.Count(string(attr), "\n") != 1 || !strings.HasPrefix(string(attr), `{"size":3,"sha256":"`) {
		t.Errorf("attributes: %s", attr)
	}
}

func TestBody(t *testing.T) {
	s := open(t, t.TempDir())
	content := strings.Repeat("zip", 1000)
	put(t, s, zipName, content, cache.Immutable)
	for range 2 { // from the attribute file, and from memory
		o, err := s.Get(t.Context(), zipName)
		must(t, err)
		if err := iotest.TestReader(o.Body, []byte(content)); err != nil {
			t.Error(err)
		}
		if _, ok := o.Body.(conn.Sender); !ok {
			t.Errorf("%T cannot be sent by the kernel", o.Body)
		}
		fi, err := o.Body.(interface{ Stat() (fs.FileInfo, error) }).Stat()
		if err != nil || fi.Size() != int64(len(content)) || fi.ModTime().IsZero() {
			t.Errorf("%v, %v", fi, err)
		}
		must(t, o.Close())
		_, rerr := o.Body.Read(make([]byte, 1))
		_, serr := o.Body.Seek(0, io.SeekStart)
		_, ferr := o.Body.(conn.Sender).Sendfile(0, 1)
		for _, err := range []error{rerr, serr, ferr, o.Close()} {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	}
}

// TestAdoption works on what the go command leaves in GOMODCACHE/cache/download
// and what other proxies store.
func TestAdoption(t *testing.T) {
	dir := t.TempDir()
	files := []string{
		"github.com/!burnt!sushi/toml/@v/list", "github.com/!burnt!sushi/toml/@v/v1.0.0.info",
		"github.com/!burnt!sushi/toml/@v/v1.0.0.mod", "github.com/!burnt!sushi/toml/@v/v1.0.0.zip",
		"github.com/!burnt!sushi/toml/@latest",
		"sumdb/sum.golang.org/lookup/github.com/!burnt!sushi/toml@v1.0.0", "sumdb/sum.golang.org/tile/8/0/x001/234",
	}
	ignored := []string{
		"github.com/!burnt!sushi/toml/@v/v1.0.0.ziphash", "github.com/!burnt!sushi/toml/@v/v1.0.0.lock",
		"github.com/!burnt!sushi/toml/@v/list.lock", "github.com/!burnt!sushi/toml/@v/.v1.0.0.zip.attr.tmp",
		"github.com/!burnt!sushi/toml/v1.0.0.zip", "README", "pins/planted", ".hidden/@v/v1.0.0.mod",
	}
	for _, name := range slices.Concat(files, ignored) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
	}
	s := open(t, dir)
	for _, name := range files {
		o, err := s.Get(t.Context(), name)
		must(t, err)
		if o.Attrs != (cache.Attrs{Size: int64(len(name))}) {
			t.Errorf("%s: %+v; nothing but the size is known", name, o.Attrs)
		}
		if b, err := o.ReadAll(1000); err != nil || string(b) != name {
			t.Errorf("%q, %v", b, err)
		}
	}
	for _, name := range ignored {
		if o, err := s.Get(t.Context(), name); err == nil {
			o.Close()
			t.Errorf("%s is an object", name)
		}
	}
	var listed []string
	for e, err := range s.List(t.Context(), "") {
		must(t, err)
		listed = append(listed, e.Name)
	}
	slices.Sort(listed)
	slices.Sort(files)
	if !slices.Equal(listed, files) {
		t.Errorf("listed %q", listed)
	}
}

func TestAdoptedObjectIsProvenByPut(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, zipName)), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, zipName), []byte("zip"), 0o644))
	s := open(t, dir)
	if err := s.Put(t.Context(), zipName, strings.NewReader("zap"), cache.PutOptions{}); !errors.Is(err, cache.ErrConflict) {
		t.Errorf("other bytes: %v", err)
	}
	must(t, s.Put(t.Context(), zipName, strings.NewReader("zip"), cache.PutOptions{Attrs: cache.Attrs{H1: "h1:x="}}))
	o, err := s.Get(t.Context(), zipName)
	must(t, err)
	o.Close()
	if o.Attrs.SHA256 == "" || o.Attrs.H1 != "h1:x=" || o.Attrs.FirstSeen.IsZero() {
		t.Errorf("%+v", o.Attrs)
	}
}

func TestTouchedAdoptedObjectStaysUnproven(t *testing.T) {
	const list = "example.com/m/@v/list"
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, list)), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, list), []byte("v1.0.0\n"), 0o644))
	at := time.Unix(1234, 0).UTC()
	must(t, open(t, dir).Touch(t.Context(), list, at))
	o, err := open(t, dir).Get(t.Context(), list)
	must(t, err)
	o.Close()
	if o.Attrs.SHA256 != "" || !o.Attrs.Checked.Equal(at) {
		t.Errorf("%+v", o.Attrs)
	}
}

func TestUsedIsKeptToTheHour(t *testing.T) {
	dir := t.TempDir()
	const adopted = "example.com/adopted/@v/v1.0.0.zip"
	s := open(t, dir)
	put(t, s, zipName, "zip", cache.Immutable)
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, adopted)), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, adopted), nil, 0o644))
	for name, file := range map[string]string{zipName: attrFile(dir, zipName), adopted: filepath.Join(dir, adopted)} {
		for _, c := range []struct {
			ago     time.Duration
			refresh bool
		}{{2 * time.Hour, true}, {50 * time.Minute, false}, {-3 * time.Hour, true}, {1000 * time.Hour, true}} {
			at := time.Now().Add(-c.ago)
			must(t, os.Chtimes(file, at, at))
			s := open(t, dir) // forgets what it knew
			for range 2 {
				content(t, s, name)
			}
			for e, err := range s.List(t.Context(), name) {
				must(t, err)
				if fresh := time.Since(e.Used).Abs() < time.Minute; fresh != c.refresh {
					t.Errorf("%s: used %v ago, after Get %v", name, c.ago, time.Since(e.Used))
				}
			}
		}
	}
}

func TestTwoStoresShareADirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	f, err := a.NewSpool()
	must(t, err)
	defer f.Close()
	_, err = io.WriteString(f, "zip")
	must(t, err)
	c := open(t, dir) // starts, and tidies, while a works
	must(t, a.PutSpool(t.Context(), zipName, f, cache.PutOptions{}))
	for _, s := range []*disk.Store{a, b, c} {
		if got := content(t, s, zipName); got != "zip" {
			t.Errorf("%q", got)
		}
	}
	const list = "example.com/m/@v/list"
	for i, s := range []*disk.Store{a, b, c, a} {
		data := strings.Repeat("x", i)
		put(t, s, list, data, cache.Mutable)
		for _, r := range []*disk.Store{a, b, c} {
			if got := content(t, r, list); got != data {
				t.Errorf("step %d: %q", i, got)
			}
		}
	}
	must(t, b.Delete(t.Context(), list))
	if _, err := a.Get(t.Context(), list); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestSpoolSurvivesATidyOperator(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, os.RemoveAll(dir+"/.modgate/spool"))
	put(t, s, zipName, "zip", cache.Immutable)
	if got := content(t, s, zipName); got != "zip" {
		t.Errorf("%q", got)
	}
}

// TestStartBesideASweep opens the directory again and again while another
// process looks for what dead ones have left.
func TestStartBesideASweep(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		for ctx.Err() == nil {
			_ = a.Sweep(ctx)
		}
	})
	defer func() { cancel(); sweeping.Wait() }()
	for n := range 60 {
		b, err := disk.New(disk.Config{Dir: dir})
		must(t, err)
		name := fmt.Sprintf("example.com/m%d/@v/list", n%3)
		put(t, b, name, "x", cache.Mutable)
		for _, err := range b.List(t.Context(), "") {
			must(t, err)
		}
		must(t, b.Delete(t.Context(), name)) // leaves directories for the sweep
		must(t, b.Close())
	}
}

func TestSweepRemovesWhatCrashesLeft(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, "example.com/keep/@v/v1.0.0.zip", "zip", cache.Immutable)
	put(t, s, "example.com/gone/@v/v1.0.0.zip", "zip", cache.Immutable)
	put(t, s, "example.com/young/@v/v1.0.0.zip", "zip", cache.Immutable)
	old := time.Now().Add(-2 * time.Hour)
	for _, m := range []string{"gone", "young"} {
		must(t, os.Remove(filepath.Join(dir, "example.com", m, "@v/v1.0.0.zip")))
	}
	must(t, os.Chtimes(attrFile(dir, "example.com/gone/@v/v1.0.0.zip"), old, old))
	must(t, os.MkdirAll(dir+"/empty/a/b", 0o755))
	must(t, os.MkdirAll(dir+"/.modgate/spool/dead", 0o700))
	must(t, os.WriteFile(dir+"/.modgate/spool/dead/1", nil, 0o600))
	for range 2 {
		must(t, s.Sweep(t.Context()))
	}
	for path, want := range map[string]bool{
		"example.com/keep/@v/v1.0.0.zip": true, "example.com/keep/@v/.v1.0.0.zip.attr": true,
		"example.com/gone": false, "example.com/young/@v/.v1.0.0.zip.attr": true,
		"empty": false, ".modgate/spool/dead": false, ".modgate/spool": true,
	} {
		if _, err := os.Lstat(filepath.Join(dir, path)); want != (err == nil) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSpace(t *testing.T) {
	sp, err := open(t, t.TempDir()).Space()
	must(t, err)
	if sp.Free <= 0 || sp.Total < sp.Free {
		t.Errorf("%+v", sp)
	}
}
