package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/modgate/modgate/internal/durable"
)

func open(t *testing.T) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func names(t *testing.T, r *os.Root) string {
	t.Helper()
	entries, err := fs.ReadDir(r.FS(), ".")
	if err != nil {
		t.Fatal(err)
	}
	var b []string
	for _, e := range entries {
		b = append(b, e.Name())
	}
	return strings.Join(b, " ")
}

func content(t *testing.T, r *os.Root, name string) string {
	t.Helper()
	b, err := r.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWriteFile(t *testing.T) {
	for _, o := range []durable.Options{{}, {Sync: true}} {
		r := open(t)
		for _, want := range []string{"one", "two", ""} {
			if err := durable.WriteFile(r, "tmp", "f", []byte(want), o); err != nil {
				t.Fatal(err)
			}
			if got := content(t, r, "f"); got != want {
				t.Errorf("%+v: got %q, want %q", o, got, want)
			}
		}
		if got := names(t, r); got != "f" {
			t.Errorf("%+v: directory holds %q", o, got)
		}
	}
}

func TestNoReplace(t *testing.T) {
	r := open(t)
	o := durable.Options{NoReplace: true, Sync: true}
	if err := durable.WriteFile(r, "tmp", "f", []byte("one"), o); err != nil {
		t.Fatal(err)
	}
	err := durable.WriteFile(r, "tmp", "f", []byte("two"), o)
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("second write: %v, want fs.ErrExist", err)
	}
	if got := content(t, r, "f"); got != "one" {
		t.Errorf("content %q, want the first", got)
	}
	if got := names(t, r); got != "f" {
		t.Errorf("directory holds %q", got)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	r := open(t)
	if err := durable.WriteFile(r, "tmp", "no/such/dir", []byte("x"), durable.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	if err := r.Mkdir("d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(r, "tmp", "d", []byte("x"), durable.Options{}); err == nil {
		t.Error("a file replaced a directory")
	}
	if got := names(t, r); got != "d" {
		t.Errorf("directory holds %q", got)
	}
}

func TestFailedSyncPublishesNothing(t *testing.T) {
	r := open(t)
	f, err := durable.Create(r, "tmp", []byte("new"), durable.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.Close() // so that fsync fails
	if err := durable.Publish(r, f, "tmp", "f", durable.Options{Sync: true}); err == nil {
		t.Error("published without fsync")
	}
	if got := names(t, r); got != "tmp" {
		t.Errorf("directory holds %q", got)
	}
}

func TestOldReaderKeepsItsBytes(t *testing.T) {
	r := open(t)
	if err := durable.WriteFile(r, "tmp", "f", []byte("old"), durable.Options{}); err != nil {
		t.Fatal(err)
	}
	f, err := r.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := durable.WriteFile(r, "tmp", "f", []byte("newer"), durable.Options{}); err != nil {
		t.Fatal(err)
	}
	var b [8]byte
	n, _ := f.Read(b[:])
	if got := string(b[:n]); got != "old" {
		t.Errorf("open reader got %q", got)
	}
}

func TestMkdirAll(t *testing.T) {
	for _, o := range []durable.Options{{}, {Sync: true}} {
		r := open(t)
		for range 2 {
			if err := durable.MkdirAll(r, "a/b/c", o); err != nil {
				t.Fatal(err)
			}
		}
		if err := durable.MkdirAll(r, ".", o); err != nil {
			t.Error(err)
		}
		if fi, err := r.Stat("a/b/c"); err != nil || !fi.IsDir() {
			t.Errorf("%v %v", fi, err)
		}
	}
}
