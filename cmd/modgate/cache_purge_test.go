package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
)

func TestCachePurge(t *testing.T) {
	for _, c := range []struct {
		args string
		gone []string
		kept []string
	}{
		{"example.com/greet@v1.0.0",
			[]string{"example.com/greet/@v/v1.0.0.zip", "example.com/greet/@v/v1.0.0.mod", "example.com/greet/@v/v1.0.0.info", "example.com/greet/@v/list", "example.com/greet/@latest"},
			[]string{"example.com/greet/@v/v1.1.0.zip", "example.com/!words/@v/v0.3.0.zip"}},
		{"example.com/greet",
			[]string{"example.com/greet/@v/v1.0.0.zip", "example.com/greet/@v/v1.2.0-rc.1.mod"},
			[]string{"example.com/!words/@v/v0.3.0.zip", "sumdb/sum.example.com/head"}},
		{"example.com/W*",
			[]string{"example.com/!words/@v/v0.3.0.zip"},
			[]string{"example.com/greet/@v/v1.0.0.zip"}},
		{"example.com/Words@v0.3.0 example.com/greet@v1.1.0",
			[]string{"example.com/!words/@v/v0.3.0.zip", "example.com/greet/@v/v1.1.0.zip"},
			[]string{"example.com/greet/@v/v1.0.0.zip"}},
		{"*", []string{"example.com/greet/@v/v1.0.0.zip", "example.com/!words/@v/v0.3.0.zip"}, []string{"sumdb/sum.example.com/head"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			dir, _ := filled(t)
			args := append([]string{"cache", "purge", "--cache-dir", dir}, strings.Fields(c.args)...)
			if out, err := modgate(t, append(args, "--dry-run")...); err != nil || !strings.Contains(out, "would be removed") {
				t.Fatal(err, out)
			}
			for _, name := range append(c.gone, c.kept...) {
				if !exists(dir, name) {
					t.Errorf("--dry-run has removed %s", name)
				}
			}
			var stdout, stderr bytes.Buffer
			if err := run(t.Context(), args, []string{"HOME=" + t.TempDir(), "MODGATE_CONFIG=off"}, &stdout, &stderr); err != nil {
				t.Fatal(err)
			}
			out := stdout.String()
			if want := "→ to make it forget at once: curl -X POST 'http://127.0.0.1:8081/-/purge?module="; !strings.Contains(stderr.String(), "up to 15 minutes") || !strings.Contains(stderr.String(), want) {
				t.Errorf("it is not said that a server may know better: %q", &stderr)
			}
			for _, name := range c.gone {
				if exists(dir, name) {
					t.Errorf("%s is still there: %s", name, out)
				}
			}
			for _, name := range c.kept {
				if !exists(dir, name) {
					t.Errorf("%s is gone: %s", name, out)
				}
			}
		})
	}
	dir, _ := filled(t)
	for _, bad := range []string{"example.com/greet@", "example.com/*@v1.0.0", "[a-", "../x", ""} {
		if out, err := modgate(t, "cache", "purge", "--cache-dir", dir, bad); err == nil {
			t.Errorf("%q is accepted: %s", bad, out)
		}
	}
}

func TestCachePurgeMissing(t *testing.T) {
	for args, removed := range map[string]int{
		"example.com":                           0, // no module, but the parent of some
		"example.com/greet@v9.9.9":              0, // though there is a list
		"git.corp.example/*":                    0,
		"example.com/Words example.com/nothing": 3,
	} {
		dir, _ := filled(t)
		var r removal
		out, err := modgate(t, append([]string{"cache", "purge", "--json", "--cache-dir", dir}, strings.Fields(args)...)...)
		missing := args[strings.LastIndexByte(args, ' ')+1:]
		if err == nil || err.Error() != "nothing stored for "+missing {
			t.Errorf("%s: %v", args, err)
		}
		if json.Unmarshal([]byte(out), &r) != nil || r.Objects != removed || len(r.Missing) != 1 || r.Missing[0] != missing {
			t.Errorf("%s: %s", args, out)
		}
	}
	dir, _ := filled(t)
	if out, err := modgate(t, "cache", "purge", "-n", "--cache-dir", dir, "example.com/none"); err == nil || out != "" {
		t.Errorf("%v, %q", err, out)
	}
}

func TestCacheTrim(t *testing.T) {
	dir, _ := filled(t)
	out, err := modgate(t, "cache", "trim", "--to", "40KiB", "--dry-run", "--cache-dir", dir)
	if err != nil || !strings.Contains(out, "would be removed") || !exists(dir, "example.com/greet/@v/v1.0.0.zip") {
		t.Fatal(err, out)
	}
	var r removal
	out, err = modgate(t, "cache", "trim", "--to", "40KiB", "--json", "--cache-dir", dir)
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || r.DryRun || r.Objects == 0 || len(r.Names) != r.Objects || r.Bytes == 0 {
		t.Fatal(err, out)
	}
	store, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	left, err := stat(t.Context(), new(app).directoryTier(store))
	if err != nil || left.Total.Bytes != 40<<10 {
		t.Errorf("%+v, %v", left, err)
	}
	if out, err = modgate(t, "cache", "trim", "--to", "0", "--cache-dir", dir); err != nil {
		t.Fatal(err, out)
	}
	if !exists(dir, "sumdb/sum.example.com/head") {
		t.Error("a precious object is gone")
	}
	for _, bad := range []string{"", "lots"} {
		if _, err := modgate(t, "cache", "trim", "--to", bad, "--cache-dir", dir); err == nil {
			t.Errorf("--to %q is accepted", bad)
		}
	}
}

// stuck is a store that removes nothing.
type stuck struct{ cache.Store }

func (stuck) Delete(_ context.Context, name string) error {
	return errors.New("delete " + name + ": no")
}

// A purge of many that fails for the same reason says so a few times.
func TestRemovalThatFails(t *testing.T) {
	var entries []cache.Entry
	for i := range 500 {
		entries = append(entries, cache.Entry{Name: fmt.Sprint("m/@v/v1.0.", i, ".zip")})
	}
	r := remove(t.Context(), stuck{}, entries, cache.Taken, false)
	if r.err == nil || strings.Count(r.err.Error(), "\n") != 3 || !strings.HasSuffix(r.err.Error(), "\nand so for 497 objects more") || r.Objects != 0 {
		t.Errorf("%+v", r)
	}
}

// What a command has removed from the directory is in the memory of the server
// that runs there, until that is told.
func TestServerForgetsWhatACommandRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(t)
	const mod = "/example.com/greet/@v/v1.0.0.mod"
	for n, arg := range []string{"example.com/greet@v1.0.0", "example.com/*"} {
		for range 3 {
			if status, text := get(t, i.url+mod); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
		}
		if out, err := modgate(t, "cache", "purge", "--cache-dir="+i.dir, arg); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if status, text := post(t, i.admin+"/-/purge?module="+arg, ""); status != 200 || !strings.Contains(text, "v1.0.0.mod\n") {
			t.Errorf("%s: %d %s", arg, status, text)
		}
		if status, text := get(t, i.url+mod); status != 200 || w.upstream.Count(mod) != n+2 {
			t.Errorf("%s: %d %s, fetched %d times", arg, status, text, w.upstream.Count(mod))
		}
	}
	if status, text := post(t, i.admin+"/-/purge?module=example.com/none", ""); status != 404 {
		t.Errorf("%d %s", status, text)
	}
}
