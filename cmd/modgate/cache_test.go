package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb"
)

// filled returns a cache directory with the modules of testdata/mod below
// example.com and a few objects of other kinds.
func filled(t *testing.T) (dir string, mods []*proxytest.Module) {
	t.Helper()
	dir = t.TempDir()
	store, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	put := func(name string, data []byte, class cache.Class, h1 string) {
		t.Helper()
		if err := store.Put(t.Context(), name, bytes.NewReader(data), cache.PutOptions{Class: class, Attrs: cache.Attrs{H1: h1}}); err != nil {
			t.Fatal(err)
		}
	}
	mods = proxytest.Load(t, filepath.Join("testdata", "mod"))
	mods = slices.DeleteFunc(mods, func(m *proxytest.Module) bool { return !strings.HasPrefix(m.Version.Path, "example.com/") })
	for _, m := range mods {
		base := strings.TrimPrefix(strings.TrimSuffix(proxytest.Path(t, m.Version, "zip"), "zip"), "/")
		put(base+"zip", m.Zip, cache.Immutable, m.H1)
		put(base+"mod", m.Mod, cache.Immutable, m.ModH1)
		put(base+"info", m.Info, cache.Immutable, "")
	}
	put("example.com/greet/@v/list", []byte("v1.0.0\n"), cache.Mutable, "")
	put("example.com/greet/@latest", mods[0].Info, cache.Mutable, "")
	put("sumdb/sum.example.com/head", []byte("precious"), cache.Precious, "")
	return dir, mods
}

// modgate runs a command in this process and returns what it prints.
func modgate(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(t.Context(), args, []string{"HOME=" + t.TempDir(), "MODGATE_CONFIG=off"}, &out, &errs)
	if err != nil {
		t.Logf("modgate %v: %s", args, &errs)
	}
	return out.String(), err
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
	return err == nil
}

func TestCacheStat(t *testing.T) {
	dir, _ := filled(t)
	out, err := modgate(t, "cache", "stat", "--json", "--cache-dir", dir)
	var r statReport
	if err != nil || json.Unmarshal([]byte(out), &r) != nil {
		t.Fatal(err, out)
	}
	if r.Total.Objects != 15 || r.Modules != 2 || r.Kinds["zip"].Objects != 4 || r.Kinds["list"].Objects != 1 || r.Kinds["latest"].Objects != 1 || r.Kinds["sumdb"] != (amount{1, 8192}) || r.Oldest.IsZero() || r.Limit != 10<<30 {
		t.Errorf("%+v", r)
	}
	out, err = modgate(t, "cache", "stat", "--cache-dir", dir)
	if err != nil || !strings.Contains(out, "objects      15\n") || !strings.Contains(out, "at most 10GiB") {
		t.Error(err, out)
	}
}

// TestNoCacheThere: a slip in --cache-dir makes no cache of somebody's
// directory.
func TestNoCacheThere(t *testing.T) {
	file := filepath.Join("example.com", "m", "@v", "list")
	for _, command := range []string{"stat", "verify", "verify --keep", "purge *", "purge -n *", "trim --to=1MiB", "trim --to=1MiB -n"} {
		t.Run(command, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte("v1.0.0\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, at := range []string{dir, filepath.Join(dir, "none")} {
				_, err := modgate(t, append([]string{"cache", "--cache-dir", at}, strings.Fields(command)...)...)
				if err == nil || !strings.Contains(err.Error(), "no cache at "+at) || !strings.Contains(err.Error(), "→ ") {
					t.Errorf("%s: %v", at, err)
				}
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || !exists(dir, file) {
				t.Errorf("the directory has changed: %v, %v", entries, err)
			}
		})
	}
}

// spoil changes one byte in the middle of a stored file, behind the back of
// the store.
func spoil(t *testing.T, dir, name string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCacheVerify(t *testing.T) {
	t.Run("fine", func(t *testing.T) {
		dir, _ := filled(t)
		if out, err := modgate(t, "cache", "verify", "--cache-dir", dir); err != nil || !strings.Contains(out, "15 objects") || !strings.Contains(out, " 0 corrupt, 0 unreadable") {
			t.Error(err, out)
		}
	})
	t.Run("a flipped bit and a lost end", func(t *testing.T) {
		dir, _ := filled(t)
		spoil(t, dir, "example.com/greet/@v/v1.0.0.zip")
		spoil(t, dir, "example.com/greet/@v/list")
		if err := os.Truncate(filepath.Join(dir, "example.com/greet/@v/v1.1.0.zip"), 100); err != nil {
			t.Fatal(err)
		}
		out, err := modgate(t, "cache", "verify", "--keep", "--cache-dir", dir)
		if err == nil || !exists(dir, "example.com/greet/@v/v1.0.0.zip") || strings.Contains(out, "quarantine") {
			t.Error("--keep:", err, out)
		}
		out, err = modgate(t, "cache", "verify", "--cache-dir", dir)
		for _, name := range []string{"greet/@v/v1.0.0.zip", "greet/@v/list", "greet/@v/v1.1.0.zip"} {
			if err == nil || !strings.Contains(out, "corrupt example.com/"+name+": ") || exists(dir, "example.com/"+name) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
		if !exists(dir, ".modgate/quarantine") || !strings.Contains(out, "what was corrupt is in "+filepath.Join(dir, ".modgate", "quarantine")) {
			t.Errorf("it is not said where the files are:\n%s", out)
		}
		if out, err := modgate(t, "cache", "verify", "--cache-dir", dir); err != nil {
			t.Error("after it was mended:", err, out)
		}
		if out, err := modgate(t, "cache", "stat", "--cache-dir", dir); err != nil || !strings.Contains(out, "quarantined  3") {
			t.Error(err, out)
		}
	})
	t.Run("a hash that was proven for other bytes", func(t *testing.T) {
		dir, mods := filled(t)
		store, err := disk.New(disk.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(proxytest.Path(t, mods[0].Version, "mod"), "/")
		evil := []byte("module evil\n")
		if err := store.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), name, bytes.NewReader(evil), cache.PutOptions{Attrs: cache.Attrs{H1: mods[0].ModH1}}); err != nil {
			t.Fatal(err)
		}
		store.Close()
		if out, err := modgate(t, "cache", "verify", "--cache-dir", dir); err == nil || !strings.Contains(out, "corrupt "+name+": wrong bytes: hash is h1:") {
			t.Error(err, out)
		}
	})
}

func TestCacheVerifyOnline(t *testing.T) {
	w := newWorld(t)
	dir, mods := filled(t)
	// A file that another program has put there, with bytes that nobody
	// published, and one that the database has never heard of.
	evil := proxytest.Simple(t, "example.com/evil", "v1.0.0")
	w.log.Add(evil.Version, evil.H1, mods[0].ModH1)
	unknown := proxytest.Simple(t, "example.com/unknown", "v1.0.0")
	for _, m := range []*proxytest.Module{evil, unknown} {
		file := filepath.Join(dir, proxytest.Path(t, m.Version, "mod"))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, m.Mod, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := modgate(t, "cache", "verify", "--cache-dir", dir)
	if err != nil || !strings.Contains(out, "2 by another program and without a digest") {
		t.Error("offline:", err, out)
	}
	args := append([]string{"cache", "verify", "--online", "--json", "--cache-dir", dir}, w.flags()...)
	out, err = modgate(t, args...)
	var r verifyReport
	if json.Unmarshal([]byte(out), &r) != nil || err == nil {
		t.Fatal(err, out)
	}
	if r.Proven != 2*len(mods) || len(r.Corrupt) != 1 || r.Corrupt[0].Name != "example.com/evil/@v/v1.0.0.mod" || len(r.Unproven) != 1 || r.Unproven[0].Name != "example.com/unknown/@v/v1.0.0.mod" || len(r.Failed) != 0 {
		t.Errorf("%+v", r)
	}
	if exists(dir, "example.com/evil/@v/v1.0.0.mod") || !exists(dir, "example.com/unknown/@v/v1.0.0.mod") {
		t.Error("the wrong one was put aside")
	}
}

// However fast the disk is, no more is read in a second than was asked for.
func TestCacheVerifyKeepsToItsRate(t *testing.T) {
	dir, _ := filled(t)
	out, err := modgate(t, "cache", "stat", "--json", "--cache-dir", dir)
	var all statReport
	if err != nil || json.Unmarshal([]byte(out), &all) != nil {
		t.Fatal(err, out)
	}
	begin := time.Now()
	if out, err := modgate(t, "cache", "verify", fmt.Sprintf("--rate=%dB", all.Total.Bytes), "--cache-dir", dir); err != nil {
		t.Fatal(err, out)
	}
	// The last object is not waited for.
	if took, least := time.Since(begin), time.Second/2; took < least {
		t.Errorf("all was read within %v, want more than %v", took, least)
	}
}

func TestParseName(t *testing.T) {
	for name, want := range map[string]object{
		"github.com/!burnt!sushi/toml/@v/v1.5.0.mod": {"github.com/BurntSushi/toml", "v1.5.0", "mod"},
		"a.example/x/@v/v1.0.0-!r!c1.zip":            {"a.example/x", "v1.0.0-RC1", "zip"},
		"a.example/x/@v/main.info":                   {"a.example/x", "main", "info"},
		"a.example/x/@v/list":                        {"a.example/x", "", "list"},
		"a.example/x/@latest":                        {"a.example/x", "", "latest"},
		"a.example/x/@v/v1.0.0.ziphash":              {"a.example/x", "", otherKind},
		"sumdb/sum.golang.org/latest":                {"", "", "sumdb"},
		"a.example/x/@v":                             {"", "", otherKind},
		"a.example/X/@v/list":                        {"", "", otherKind},
	} {
		if got := parseName(name); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestProofsKeepTheContract(t *testing.T) {
	dir := t.TempDir()
	store, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	p := &proofs{store: store}
	ctx := t.Context()
	must := func(err, want error) {
		t.Helper()
		if (want == nil) != (err == nil) || want != nil && !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	_, err = p.Get(ctx, "sumdb/x/a")
	must(err, os.ErrNotExist)
	must(p.Put(ctx, "sumdb/x/a", []byte("a")), nil)
	must(p.Put(ctx, "sumdb/x/a", []byte("a")), nil)
	must(p.Put(ctx, "sumdb/x/a", []byte("b")), sumdb.ErrConflict)
	must(p.Swap(ctx, "sumdb/x/h", []byte("0"), []byte("1")), sumdb.ErrConflict)
	must(p.Swap(ctx, "sumdb/x/h", nil, []byte("1")), nil)
	must(p.Swap(ctx, "sumdb/x/h", nil, []byte("2")), sumdb.ErrConflict)
	must(p.Swap(ctx, "sumdb/x/h", []byte("1"), []byte("2")), nil)
	data, err := p.Get(ctx, "sumdb/x/h")
	must(err, nil)
	if string(data) != "2" {
		t.Errorf("the head is %q", data)
	}
	must(p.Delete(ctx, "sumdb/x/h"), nil)
	must(p.Delete(ctx, "sumdb/x/h"), nil)

	// Files of a module cache that was adopted have the same names, but nobody
	// has proven them.
	if err := os.WriteFile(filepath.Join(dir, "sumdb", "x", "tile"), []byte("forged"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = p.Get(ctx, "sumdb/x/tile")
	must(err, os.ErrNotExist)
	must(p.Put(ctx, "sumdb/x/tile", []byte("proven")), nil)
	data, err = p.Get(ctx, "sumdb/x/tile")
	must(err, nil)
	if string(data) != "proven" {
		t.Errorf("the tile is %q", data)
	}
}

func TestHashesOfObjects(t *testing.T) {
	dir, mods := filled(t)
	store, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, m := range mods {
		for kind, want := range map[string]string{"zip": m.H1, "mod": m.ModH1} {
			o, err := store.Get(t.Context(), strings.TrimPrefix(proxytest.Path(t, m.Version, kind), "/"))
			if err != nil {
				t.Fatal(err)
			}
			r, _ := o.Body.(io.ReaderAt)
			got, err := hashOf(r, o.Attrs.Size, kind)
			data, _ := io.ReadAll(o.Body)
			digest := sha256.Sum256(data)
			o.Close()
			if err != nil || got != want || o.Attrs.SHA256 != hex.EncodeToString(digest[:]) {
				t.Errorf("%s %s: %s, %v; want %s", m.Version, kind, got, err, want)
			}
		}
	}
}
