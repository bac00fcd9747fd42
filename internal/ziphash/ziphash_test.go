package ziphash

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
	"pgregory.net/rapid"
)

// same checks that stream and File give the hash that dirhash gives.
func same(t interface {
	Helper()
	Fatalf(string, ...any)
}, data []byte) {
	t.Helper()
	want, err := hashZip(data)
	if err != nil {
		t.Fatalf("dirhash: %v", err)
	}
	if got, err := stream(data); got != want || err != nil {
		t.Fatalf("stream: %s, %v; want %s", got, err, want)
	}
	if got, err := file(data); got != want || err != nil {
		t.Fatalf("File: %s, %v; want %s", got, err, want)
	}
}

func TestEveryForm(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("All work and no play makes Jack a dull boy.\n", 20000)
	pk := "PK\x07\x08PK\x03\x04PK\x01\x02PK\x05\x06"
	for name, m := range map[string]*member{
		"deflate, descriptor 16":     {data: long, descriptor: 16},
		"deflate, descriptor 12":     {data: long, descriptor: 12},
		"deflate, descriptor 24":     {data: long, descriptor: 24},
		"deflate, descriptor 20":     {data: long, descriptor: 20},
		"deflate, sizes in front":    {data: long},
		"stored, sizes in front":     {data: long, store: true},
		"stored, looks like records": {data: pk, store: true},
		"deflate, like records, 12":  {data: pk, descriptor: 12},
		"deflate, like records, 20":  {data: pk, descriptor: 20},
		"empty, descriptor 12":       {descriptor: 12},
		"empty, descriptor 16":       {descriptor: 16},
		"empty, descriptor 20":       {descriptor: 20},
		"empty, descriptor 24":       {descriptor: 24},
		"empty, stored":              {store: true},
		"extra fields":               {data: "x", localExtra: make([]byte, 65535), extra: []byte{9, 9, 1, 0, 7}},
		"zip64 field for nothing":    {data: "x", extra: []byte{1, 0, 0, 0}},
		"flag for UTF-8":             {data: "x", flags: 1 << 11},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m.name = "x@v1.0.0/file"
			same(t, build(m, &member{name: "x@v1.0.0/z", data: "after", descriptor: 16}))
			same(t, build(&member{name: "x@v1.0.0/a", data: "before", descriptor: 16}, m))
		})
	}
	t.Run("directories", func(t *testing.T) {
		t.Parallel()
		same(t, build(&member{name: "d/"}, &member{name: "d/e/", store: true}, &member{name: "f/", store: true, descriptor: 16}))
	})
	t.Run("no entries", func(t *testing.T) { t.Parallel(); same(t, build()) })
	t.Run("no name", func(t *testing.T) { t.Parallel(); same(t, build(&member{data: "x"})) })
	t.Run("names with and without the prefix", func(t *testing.T) {
		t.Parallel()
		var members []*member
		for _, n := range []string{"m@v1/b", "m", "z", "m@v1/a", "m@v1", "m@v0/c", "m@v1/", "m@v2", ""} {
			members = append(members, &member{name: n, data: strings.TrimSuffix(n, "m@v1/"), store: true})
		}
		same(t, build(members...))
	})
	t.Run("a thousand names in no order", func(t *testing.T) {
		t.Parallel()
		var members []*member
		for i := range 1000 {
			members = append(members, &member{name: fmt.Sprintf("m@v1/%x", i*7919%1009), store: true})
		}
		same(t, build(members...))
	})
	t.Run("directory in another order", func(t *testing.T) {
		t.Parallel()
		members := small("package b\n")
		var a archive
		for _, m := range members {
			a.local(m)
		}
		dir := a.Len()
		for _, i := range []int{2, 0, 1} {
			a.entry(members[i])
		}
		a.end(3, dir)
		same(t, a.Bytes())
	})
	t.Run("zip64", func(t *testing.T) {
		t.Parallel()
		m := &member{name: "x", data: "y"}
		var a archive
		a.local(m)
		dir := a.Len()
		a.entry(m)
		a.end64(1, dir)
		same(t, a.Bytes())
	})
	for _, n := range []int{65534, 65535, 70000} { // the end record counts to 65,535
		t.Run(fmt.Sprint(n, " entries"), func(t *testing.T) {
			t.Parallel()
			data := emptyEntries(n)
			want, err := hashZip(data)
			if got, serr := stream(data); got != want || errors.Join(err, serr) != nil {
				t.Errorf("%s, %v; want %s, %v", got, serr, want, err)
			}
		})
	}
}

// A directory of 65,535 bytes makes archive/zip look for zip64 records that
// need not be there.
func TestDirectoryOf65535Bytes(t *testing.T) {
	t.Parallel()
	forge := []byte{'P', 'K', 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}
	m := &member{name: "x", data: "y", extra: make([]byte, 65535-directoryLen-1)}
	same(t, build(m))
	copy(m.extra[len(m.extra)-locatorLen:], forge)
	data := build(m)
	never(t, data)
	if _, err := stream(data); !errors.Is(err, ErrFormat) {
		t.Errorf("locator inside the directory: %v", err)
	}
}

func TestMod(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "module m\n"} {
		want, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(text)), nil
		})
		if got := Mod([]byte(text)); err != nil || got != want {
			t.Errorf("Mod(%q) = %s, want %s, %v", text, got, want, err)
		}
	}
}

func TestModuleZip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m\n", "m.go": "package m\n", "a/b/c.txt": strings.Repeat("c", 1e5)} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	m := module.Version{Path: "example.com/m", Version: "v1.2.3"}
	if err := modzip.CreateFromDir(&b, m, dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	want, err := dirhash.HashZip(path, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := stream(b.Bytes()); got != want || err != nil {
		t.Errorf("stream: %s, %v; want %s", got, err, want)
	}
}

// Any way in which the bytes arrive gives the same result.
func TestReaders(t *testing.T) {
	t.Parallel()
	data := build(small(strings.Repeat("package b\n", 50000))...)
	want, err := hashZip(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{
		"one byte at a time": iotest.OneByteReader(bytes.NewReader(data)),
		"error with data":    iotest.DataErrReader(bytes.NewReader(data)),
		"half":               iotest.HalfReader(bytes.NewReader(data)),
	} {
		l, err := Stream(r)
		if err != nil || l.H1() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReaderFails(t *testing.T) {
	t.Parallel()
	data := build(small("package b\n")...)
	broken := errors.New("line is dead")
	for n := range data {
		_, err := Stream(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || errors.Is(err, ErrFormat) {
			t.Fatalf("after %d of %d bytes: %v", n, len(data), err)
		}
	}
	if _, err := Stream(zeroReader{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("reader without progress: %v", err)
	}
}

type zeroReader struct{}

func (zeroReader) Read([]byte) (int, error) { return 0, nil }

func TestNotStreamable(t *testing.T) {
	t.Parallel()
	after := &member{name: "z", data: strings.Repeat("z", 1e6), store: true}
	for name, c := range map[string]struct {
		m    *member
		file bool // File can read it
	}{
		"stored with descriptor": {&member{data: "PK\x07\x08 hello", store: true, descriptor: 16}, true},
		"encrypted":              {&member{data: "x", flags: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.m.name = "x"
			data := build(c.m, after)
			r := bytes.NewReader(data)
			if _, err := Stream(r); !errors.Is(err, ErrNotStreamable) {
				t.Errorf("Stream: %v", err)
			}
			if r.Len() > 0 {
				t.Errorf("%d bytes left in the reader", r.Len())
			}
			want, err := hashZip(data)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := file(data); c.file && (got != want || err != nil) || !c.file && err == nil {
				t.Errorf("File: %s, %v; dirhash %s", got, err, want)
			}
		})
	}
	t.Run("unknown method", func(t *testing.T) {
		t.Parallel()
		data := build(&member{name: "x", data: "y", store: true})
		le.PutUint16(data[8:], 93)
		if _, err := stream(data); !errors.Is(err, ErrNotStreamable) {
			t.Errorf("Stream: %v", err)
		}
		if _, err := file(data); err == nil {
			t.Error("File accepts it")
		}
	})
	t.Run("zip64 sizes in front", func(t *testing.T) {
		t.Parallel()
		data := build(&member{name: "x", data: "y", store: true})
		le.PutUint32(data[18:], max32)
		le.PutUint32(data[22:], max32)
		if _, err := stream(data); !errors.Is(err, ErrNotStreamable) {
			t.Errorf("Stream: %v", err)
		}
		if _, err := file(data); err != nil {
			t.Error(err)
		}
	})
}

func TestRandomArchives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 20).Draw(t, "n")
		var members []*member
		for i := range n {
			m := &member{
				name:       fmt.Sprintf("%s%d", rapid.StringMatching(`(m@v1/|)[a-z/.@]{0,5}`).Draw(t, "name"), i),
				data:       rapid.String().Draw(t, "data"),
				descriptor: rapid.SampledFrom([]int{0, 12, 16, 20, 24}).Draw(t, "descriptor"),
				localExtra: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "localExtra"),
			}
			m.data = strings.Repeat(m.data, rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 1, 1000}).Draw(t, "times"))
			m.store = m.descriptor == 0 && rapid.Bool().Draw(t, "store")
			members = append(members, m)
		}
		same(t, build(members...))
	})
}
