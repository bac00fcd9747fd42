// Package proxytest is a GOPROXY for tests: a real HTTP server whose modules
// are built from text, whose answers can be made wrong in every way that
// upstreams are known to be wrong, and which remembers what it was asked. It
// also holds the suite that every source of modules passes.
package proxytest

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// Module is one version of a module with the three files that a GOPROXY
// serves for it. A test may change the bytes before the module is added to a
// Server; H1 and ModH1 stay those of the honest files.
type Module struct {
	module.Version
	Info  []byte
	Mod   []byte
	Zip   []byte
	H1    string // hash of the zip, as in go.sum
	ModH1 string // hash of the go.mod file, as in go.sum
}

// Build makes a module of the given files, by name within the module. Without
// a go.mod among them one line of go.mod is written into the .mod file only,
// as the go command does for code that is older than modules.
func Build(tb testing.TB, mv module.Version, files map[string][]byte) *Module {
	tb.Helper()
	var list []modzip.File
	for name, data := range files {
		list = append(list, memFile{name, data})
	}
	slices.SortFunc(list, func(a, b modzip.File) int { return strings.Compare(a.Path(), b.Path()) })
	var buf bytes.Buffer
	if err := modzip.Create(&buf, mv, list); err != nil {
		tb.Fatalf("zip of %s: %v", mv, err)
	}
	return withZip(tb, mv, files["go.mod"], buf.Bytes())
}

// withZip completes a module.
func withZip(tb testing.TB, mv module.Version, mod, data []byte) *Module {
	tb.Helper()
	if mod == nil {
		mod = fmt.Appendf(nil, "module %s\n", mv.Path)
	}
	return &Module{Version: mv, Info: info(tb, mv), Mod: mod, Zip: data, H1: hashZip(tb, data), ModH1: hashMod(tb, mod)}
}

// Simple makes a module with a go.mod file and one Go file.
func Simple(tb testing.TB, modPath, version string) *Module {
	tb.Helper()
	return Build(tb, module.Version{Path: modPath, Version: version}, map[string][]byte{
		"go.mod": fmt.Appendf(nil, "module %s\n\ngo 1.21\n", modPath),
		"a.go":   fmt.Appendf(nil, "package a\n\nconst Version = %q\n", version),
	})
}

// Big makes a module whose zip has about size bytes, in files of at most
// 4 MiB that do not compress. The same arguments make the same bytes. The zip
// has the form that the go command writes, but no time is spent on trying to
// compress it.
func Big(tb testing.TB, modPath, version string, size int) *Module {
	tb.Helper()
	mod := fmt.Appendf(nil, "module %s\n", modPath)
	buf := bytes.NewBuffer(make([]byte, 0, size+size>>10+4096))
	zw := zip.NewWriter(buf)
	zw.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.NoCompression)
	})
	add := func(name string, data []byte) {
		w, err := zw.Create(modPath + "@" + version + "/" + name)
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	add("a.go", []byte("package a\n"))
	var seed [32]byte
	copy(seed[:], modPath+"@"+version)
	src := rand.NewChaCha8(seed)
	data := make([]byte, 4<<20)
	for i := 0; size > 0; i++ {
		data = data[:min(size, len(data))]
		_, _ = src.Read(data) // ChaCha8 never fails
		add(fmt.Sprintf("data/%04d.bin", i), data)
		size -= len(data)
	}
	add("go.mod", mod)
	if err := zw.Close(); err != nil {
		tb.Fatal(err)
	}
	return withZip(tb, module.Version{Path: modPath, Version: version}, mod, buf.Bytes())
}

// Parse makes a module of a txtar archive. The first line of the archive's
// comment is "path@version"; if the comment is empty, name says it, with "_"
// for "/" and without ".txtar": "example.com_a@v1.0.0.txtar". A file named
// ".info" or ".mod" is served as that file and is not part of the zip.
func Parse(tb testing.TB, name string, data []byte) *Module {
	tb.Helper()
	ar := txtar.Parse(data)
	id, _, _ := strings.Cut(strings.TrimSpace(string(ar.Comment)), "\n")
	if id == "" {
		id = strings.ReplaceAll(strings.TrimSuffix(path.Base(name), ".txtar"), "_", "/")
	}
	modPath, version, ok := strings.Cut(id, "@")
	if !ok {
		tb.Fatalf("%s: %q is not path@version", name, id)
	}
	files := map[string][]byte{}
	for _, f := range ar.Files {
		files[f.Name] = f.Data
	}
	ownInfo, ownMod := files[".info"], files[".mod"]
	delete(files, ".info")
	delete(files, ".mod")
	m := Build(tb, module.Version{Path: modPath, Version: version}, files)
	if ownInfo != nil {
		m.Info = ownInfo
	}
	if ownMod != nil {
		m.Mod, m.ModH1 = ownMod, hashMod(tb, ownMod)
	}
	return m
}

// Load parses all files of dir that end in ".txtar".
func Load(tb testing.TB, dir string) []*Module {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(names) == 0 {
		tb.Fatalf("no .txtar files in %s (%v)", dir, err)
	}
	var mods []*Module
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		mods = append(mods, Parse(tb, name, data))
	}
	return mods
}

// info is written like the public mirror's, with an Origin and a time that
// grows with the version.
func info(tb testing.TB, mv module.Version) []byte {
	tb.Helper()
	type origin struct{ VCS, URL, Hash, Ref string }
	when := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	if t, err := module.PseudoVersionTime(mv.Version); err == nil {
		when = t
	}
	data, err := json.Marshal(struct {
		Version string
		Time    time.Time
		Origin  origin
	}{mv.Version, when, origin{"git", "https://" + mv.Path, strings.Repeat("0123456789", 4), "refs/tags/" + mv.Version}})
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
