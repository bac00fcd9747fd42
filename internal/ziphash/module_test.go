package ziphash

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
	"pgregory.net/rapid"
)

// CheckModule decides as x/mod/zip.CheckZip does.
func TestCheckModule(t *testing.T) {
	t.Parallel()
	m := module.Version{Path: "example.com/m", Version: "v1.0.0"}
	for _, c := range []struct {
		names string
		ok    bool
	}{
		{"go.mod a.go b/c.go", true},
		{"", true},
		{"b/ b/c.go d/ d/e/", true},
		{"b/c.go b/C.go", false},
		{"b/c.go B/d.go", false},
		{"ſ.go s.go", false}, // equal but for case, says Unicode
		{"\u212a.go k.go", false},
		{"b b/c.go", false},
		{"b/c.go b", false},
		{"b b/", false},
		{"../a.go", false},
		{"b/../a.go", false},
		{"b//a.go", false},
		{"/a.go", false},
		{"./a.go", false},
		{"b/con.go", false},
		{"b/nul", false},
		{"a:b", false},
		{"a*b", false},
		{"\xff", false},
		{"b/go.mod", false},
		{"b/GO.mod", false},
		{"Go.mod", false},
		{"go.mod/ go.mod/x", true},
		{"vendor/modules.txt vendor/x/x.go", true},
		{".git/config", true},
		{"b//", false},
		{"/", false},
	} {
		t.Run(c.names, func(t *testing.T) {
			t.Parallel()
			var members []*member
			for _, n := range strings.Fields(c.names) {
				members = append(members, &member{name: m.String() + "/" + n, store: true})
			}
			checkModule(t, m, build(members...), c.ok)
		})
	}
	t.Run("root directory", func(t *testing.T) {
		t.Parallel()
		checkModule(t, m, build(&member{name: m.String() + "/", store: true}), true)
	})
	t.Run("other module", func(t *testing.T) {
		t.Parallel()
		data := build(&member{name: m.String() + "/a.go"})
		checkModule(t, module.Version{Path: m.Path, Version: "v1.0.1"}, data, false)
		checkModule(t, module.Version{Path: "example.com/", Version: m.Version}, data, false)
		checkModule(t, module.Version{Path: m.Path, Version: "v1.0"}, data, false)
	})
	t.Run("size", func(t *testing.T) {
		t.Parallel()
		large := strings.Repeat("\n", 16<<20+1)
		for name, ok := range map[string]bool{"go.mod": false, "LICENSE": false, "a.go": true, "b/LICENSE": true} {
			checkModule(t, m, build(&member{name: m.String() + "/" + name, data: large}), ok)
			checkModule(t, m, build(&member{name: m.String() + "/" + name, data: large[1:]}), true)
		}
	})
}

// ReadFile finds one file among many, whichever way the archive was read, and
// only the whole of it.
func TestReadFile(t *testing.T) {
	t.Parallel()
	const text = "module example.com/m\n"
	for name, store := range map[string]bool{"stored": true, "packed": false} {
		members := []*member{{name: "example.com/m@v1.0.0/go.mod", data: text, store: store}, {name: "x", data: "y", store: store}}
		for i := range 2 * blockLen {
			members = append(members, &member{name: fmt.Sprintf("example.com/m@v1.0.0/%d/go.modx", i), data: "z", store: store})
		}
		members = append(members, &member{name: "go.mod", data: "bare", store: store, extra: []byte{7, 7, 2, 0, 0, 0}}, &member{name: "example.com/m@v1.0.0/last/", store: true})
		data := build(members...)
		r := bytes.NewReader(data)
		l, err := Stream(r)
		if err != nil {
			t.Fatal(err)
		}
		other, err := Scan(r, r.Size())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []*Listing{l, other} {
			for file, want := range map[string]string{"example.com/m@v1.0.0/go.mod": text, "x": "y", "go.mod": "bare", "example.com/m@v1.0.0/255/go.modx": "z"} {
				if got, err := l.ReadFile(r, file, int64(len(want))); err != nil || string(got) != want {
					t.Errorf("%s, %s: %q, %v", name, file, got, err)
				}
			}
			if _, err := l.ReadFile(r, "example.com/m@v1.0.0/go.mod", int64(len(text)-1)); !errors.Is(err, ErrLimit) {
				t.Errorf("%s, too large: %v", name, err)
			}
			for _, file := range []string{"", "example.com/m@v1.0.0/", "example.com/m@v1.0.0/go", "go.modx", "example.com/m@v1.0.0/last"} {
				if _, err := l.ReadFile(r, file, 1); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s, %q: %v", name, file, err)
				}
			}
		}
	}
}

func TestCheckModuleOfRandomNames(t *testing.T) {
	t.Parallel()
	m := module.Version{Path: "example.com/m", Version: "v1.0.0"}
	file := filepath.Join(t.TempDir(), "m.zip")
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`([abBß~.\-]{0,2}/)?[aAkKKsſ.]{0,2}/?`), 1, 6, rapid.ID).Draw(t, "names")
		var members []*member
		for _, n := range names {
			members = append(members, &member{name: m.String() + "/" + n, store: true})
		}
		data := build(members...)
		if err := os.WriteFile(file, data, 0o666); err != nil {
			t.Fatal(err)
		}
		_, want := modzip.CheckZip(m, file)
		l, err := Stream(bytes.NewReader(data))
		if err == nil {
			err = l.CheckModule(m)
		}
		if (err == nil) != (want == nil) {
			t.Fatalf("%v, CheckZip: %v", err, want)
		}
	})
}

func checkModule(t *testing.T, m module.Version, data []byte, ok bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := modzip.CheckZip(m, path); (err == nil) != ok {
		t.Fatalf("CheckZip: %v", err)
	}
	l, err := Stream(bytes.NewReader(data))
	if err != nil {
		if ok || !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
		return
	}
	err = l.CheckModule(m)
	if (err == nil) != ok || !ok && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
}
