// Package proxytest is a GOPROXY for tests: a real HTTP server whose modules
// are built from text, whose answers can be made wrong in every way that
// upstreams are known to be wrong, and which remembers what it was asked. It
// also holds the suite that every source of modules passes.
package proxytest

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
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
	"golang.org/x/mod/sumdb/dirhash"
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
	m := &Module{Version: mv, Mod: files["go.mod"]}
	if m.Mod == nil {
		m.Mod = fmt.Appendf(nil, "module %s\n", mv.Path)
	}
	m.Info = info(tb, mv)
	var list []modzip.File
	for name, data := range files {
		list = append(list, memFile{name, data})
	}
	slices.SortFunc(list, func(a, b modzip.File) int { return strings.Compare(a.Path(), b.Path()) })
	var buf bytes.Buffer
	if err := modzip.Create(&buf, mv, list); err != nil {
		tb.Fatalf("zip of %s: %v", mv, err)
	}
	m.Zip = buf.Bytes()
	m.H1 = hashZip(tb, m.Zip)
	m.ModH1 = hashMod(tb, m.Mod)
	return m
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
// 4 MiB that do not compress. The same arguments make the same bytes.
func Big(tb testing.TB, modPath, version string, size int) *Module {
	tb.Helper()
	files := map[string][]byte{
		"go.mod": fmt.Appendf(nil, "module %s\n", modPath),
		"a.go":   []byte("package a\n"),
	}
	var seed [32]byte
	copy(seed[:], modPath+"@"+version)
	src := rand.NewChaCha8(seed)
	for i := 0; size > 0; i++ {
		data := make([]byte, min(size, 4<<20))
		_, _ = src.Read(data) // ChaCha8 never fails
		files[fmt.Sprintf("data/%04d.bin", i)] = data
		size -= len(data)
	}
	return Build(tb, module.Version{Path: modPath, Version: version}, files)
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

// TwoFaced returns a zip that shows m's files to who reads its directory and
// other contents of the same names and sizes to who reads it front to back.
func TwoFaced(tb testing.TB, m *Module) []byte {
	tb.Helper()
	zr, err := zip.NewReader(bytes.NewReader(m.Zip), int64(len(m.Zip)))
	if err != nil {
		tb.Fatal(err)
	}
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for _, f := range zr.File { // the face that is streamed
		data := bytes.Repeat([]byte("x"), int(f.UncompressedSize64))
		put(tb, zw, f.Name, data)
	}
	if err := zw.Flush(); err != nil {
		tb.Fatal(err)
	}
	streamed := bytes.Clone(buf.Bytes())
	var honest bytes.Buffer
	zw = zip.NewWriter(&honest)
	zw.SetOffset(int64(len(streamed)))
	for _, f := range zr.File {
		data, err := readZipped(f)
		if err != nil {
			tb.Fatal(err)
		}
		put(tb, zw, f.Name, data)
	}
	if err := zw.Close(); err != nil {
		tb.Fatal(err)
	}
	return append(streamed, honest.Bytes()...)
}

func put(tb testing.TB, zw *zip.Writer, name string, data []byte) {
	tb.Helper()
	w, err := zw.CreateRaw(&zip.FileHeader{
		Name:               name,
		Method:             zip.Store,
		CRC32:              crc32.ChecksumIEEE(data),
		CompressedSize64:   uint64(len(data)),
		UncompressedSize64: uint64(len(data)),
	})
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func readZipped(f *zip.File) ([]byte, error) {
	rc, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
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

func hashZip(tb testing.TB, data []byte) string {
	tb.Helper()
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		tb.Fatal(err)
	}
	files := map[string]*zip.File{}
	var names []string
	for _, f := range zr.File {
		files[f.Name] = f
		names = append(names, f.Name)
	}
	h, err := dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return files[name].Open() })
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func hashMod(tb testing.TB, data []byte) string {
	tb.Helper()
	h, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// memFile is a file in memory as x/mod/zip wants it.
type memFile struct {
	name string
	data []byte
}

func (f memFile) Path() string                 { return f.name }
func (f memFile) Lstat() (fs.FileInfo, error)  { return fileInfo{f}, nil }
func (f memFile) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.data)), nil }

type fileInfo struct{ f memFile }

func (i fileInfo) Name() string       { return path.Base(i.f.name) }
func (i fileInfo) Size() int64        { return int64(len(i.f.data)) }
func (i fileInfo) Mode() fs.FileMode  { return 0o644 }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }
