package proxytest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"
)

// Source is proxy.Source, written down again so that package proxy's own
// tests may import this package.
type Source interface {
	Info(ctx context.Context, path, query string) ([]byte, error)
	List(ctx context.Context, path string) ([]string, error)
	Open(ctx context.Context, m module.Version, kind string) (body io.ReadCloser, size int64, err error)
}

// Modules are what TestSource expects a source to have: a plain module with
// two releases, one with capitals and a major version in its path, one that
// has only a pseudo-version, and one of 2 MiB.
func Modules(tb testing.TB) []*Module {
	tb.Helper()
	return []*Module{
		Simple(tb, "example.com/a", "v1.0.0"),
		Simple(tb, "example.com/a", "v1.1.0"),
		Simple(tb, "example.com/Upper/Case/v2", "v2.0.0-RC.1"),
		Simple(tb, "example.com/untagged", "v0.0.0-20240102030405-0123456789ab"),
		Big(tb, "example.com/big", "v1.0.0", 2<<20),
	}
}

// TestSource checks the sentences of proxy.Source's contract. open makes a
// source of exactly the given modules, which are those of Modules; the query
// "main" of example.com/a must mean its v1.1.0.
func TestSource(t *testing.T, open func(t *testing.T, mods []*Module) Source) {
	t.Helper()
	mods := Modules(t)
	a1, untagged := mods[1], mods[3]
	ctx := t.Context()

	t.Run("Info returns the JSON byte for byte", func(t *testing.T) {
		s := open(t, mods)
		for _, m := range mods {
			data, err := s.Info(ctx, m.Path, m.Version.Version)
			if err != nil || !bytes.Equal(data, m.Info) {
				t.Errorf("Info(%v) = %q, %v; want %q", m.Version, data, err, m.Info)
			}
		}
	})
	t.Run("Info knows what a query means", func(t *testing.T) {
		s := open(t, mods)
		for _, query := range []string{"main", "latest"} {
			data, err := s.Info(ctx, "example.com/a", query)
			if err != nil || !bytes.Equal(data, a1.Info) {
				t.Errorf("Info(%s) = %q, %v; want %q", query, data, err, a1.Info)
			}
		}
	})
	t.Run("List returns the versions", func(t *testing.T) {
		versions, err := open(t, mods).List(ctx, "example.com/a")
		slices.Sort(versions)
		if err != nil || !slices.Equal(versions, []string{"v1.0.0", "v1.1.0"}) {
			t.Errorf("List = %v, %v", versions, err)
		}
	})
	t.Run("a module without tagged versions has none and no error", func(t *testing.T) {
		versions, err := open(t, mods).List(ctx, untagged.Path)
		if err != nil || len(versions) != 0 {
			t.Errorf("List = %v, %v", versions, err)
		}
	})
	t.Run("Open returns each file and its size", func(t *testing.T) {
		s := open(t, mods)
		for _, m := range mods {
			wantFile(t, s, m.Version, "mod", m.Mod)
			wantFile(t, s, m.Version, "zip", m.Zip)
		}
	})
	t.Run("absent is fs.ErrNotExist", func(t *testing.T) { testAbsent(t, open(t, mods)) })
	testBodies(t, open, mods)
	t.Run("safe for concurrent use", func(t *testing.T) {
		s := open(t, mods)
		var wg sync.WaitGroup
		for range 4 {
			for _, m := range mods {
				wg.Go(func() {
					wantFile(t, s, m.Version, "zip", m.Zip)
					if _, err := s.Info(ctx, m.Path, m.Version.Version); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
	})
}

// testBodies checks what is said about contexts and bodies.
func testBodies(t *testing.T, open func(t *testing.T, mods []*Module) Source, mods []*Module) {
	a, big := mods[0], mods[4]
	t.Run("an unknown kind is an error but not absence", func(t *testing.T) {
		body, _, err := open(t, mods).Open(t.Context(), a.Version, "tar")
		if err == nil {
			body.Close()
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(tar) = %v", err)
		}
	})
	t.Run("a context that has ended is neither absence nor a body", func(t *testing.T) {
		testEnded(t, open(t, mods), a.Version)
	})
	t.Run("the context is used until the body is closed", func(t *testing.T) {
		testCancel(t, open(t, mods), big)
	})
	t.Run("a body may be closed before its end", func(t *testing.T) {
		s := open(t, mods)
		body, _, err := s.Open(t.Context(), big.Version, "zip")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(body, make([]byte, 1000)); err != nil {
			t.Error(err)
		}
		if err := body.Close(); err != nil {
			t.Error("Close:", err)
		}
		wantFile(t, s, big.Version, "zip", big.Zip)
	})
}

func testAbsent(t *testing.T, s Source) {
	ctx := t.Context()
	for _, mv := range []module.Version{
		{Path: "example.com/a", Version: "v9.9.9"},
		{Path: "example.com/nothing", Version: "v1.0.0"},
		{Path: "example.com", Version: "v1.0.0"},
	} {
		if data, err := s.Info(ctx, mv.Path, mv.Version); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Info(%v) = %q, %v", mv, data, err)
		}
		for _, kind := range []string{"mod", "zip"} {
			body, _, err := s.Open(ctx, mv, kind)
			if err == nil {
				body.Close()
			}
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open(%v, %s): %v", mv, kind, err)
			}
		}
	}
	if versions, err := s.List(ctx, "example.com/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List = %v, %v", versions, err)
	}
	for _, query := range []string{"no-such-branch", "latest"} {
		if data, err := s.Info(ctx, "example.com/nothing", query); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Info(%s) = %q, %v", query, data, err)
		}
	}
}

func testEnded(t *testing.T, s Source, mv module.Version) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err1 := s.Info(ctx, mv.Path, mv.Version)
	_, err2 := s.List(ctx, mv.Path)
	body, _, err3 := s.Open(ctx, mv, "zip")
	if err3 == nil {
		body.Close()
	}
	for _, err := range []error{err1, err2, err3} {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	}
}

func testCancel(t *testing.T, s Source, big *Module) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	body, _, err := s.Open(ctx, big.Version, "zip")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	n, err := io.Copy(io.Discard, body)
	if err == nil && n+1000 < int64(len(big.Zip)) {
		t.Errorf("the body ended like a whole one after %d of %d bytes", n+1000, len(big.Zip))
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the end of the context reads as absence: %v", err)
	}
}

func wantFile(t *testing.T, s Source, mv module.Version, kind string, want []byte) {
	t.Helper()
	body, size, err := s.Open(t.Context(), mv, kind)
	if err != nil {
		t.Errorf("Open(%v, %s): %v", mv, kind, err)
		return
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v.%s: got %d bytes, %v; want %d", mv, kind, len(got), err, len(want))
	}
	if size != int64(len(want)) && size != -1 {
		t.Errorf("%v.%s: size %d, want %d", mv, kind, size, len(want))
	}
	if o, ok := body.(interface{ Origin() string }); ok && o.Origin() == "" {
		t.Errorf("%v.%s: its origin has no name", mv, kind)
	}
}
