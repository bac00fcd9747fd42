package cachetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
)

var abilitySentences = []sentence{
	{"Spooler: a spool file has no name until it is put", func(s *suite) {
		sp := s.spooler()
		f := s.spool(sp, "zip")
		if got := s.list(""); len(got) != 0 {
			s.Errorf("listed: %q", got)
		}
		s.must(sp.PutSpool(s.Context(), zipName, f, cache.PutOptions{Attrs: cache.Attrs{H1: "h1:x="}}))
		s.holds(zipName, "zip")
		if b, err := io.ReadAll(io.NewSectionReader(f, 0, 10)); err != nil || string(b) != "zip" {
			s.Errorf("the file reads %q, %v after PutSpool", b, err)
		}
		s.must(sp.DropSpool(f))
		s.holds(zipName, "zip")
	}},
	{"Spooler: PutSpool is Put", func(s *suite) {
		sp := s.spooler()
		s.put(zipName, "zip", cache.PutOptions{})
		for _, c := range []struct {
			name, data string
			attrs      cache.Attrs
			want       error
		}{
			{zipName, "zip", cache.Attrs{}, nil},
			{zipName, "zap", cache.Attrs{}, cache.ErrConflict},
			{modName, "mod", cache.Attrs{Size: 4}, cache.ErrCorrupt},
			{"../up", "mod", cache.Attrs{}, cache.ErrName},
			{modName, "mod", cache.Attrs{Size: 3, SHA256: sum("mod")}, nil},
		} {
			f := s.spool(sp, c.data)
			s.fails(sp.PutSpool(s.Context(), c.name, f, cache.PutOptions{Attrs: c.attrs}), c.want)
			s.must(sp.DropSpool(f))
		}
		s.holds(zipName, "zip")
		s.holds(modName, "mod")
	}},
	{"Spooler: a file for which room was taken may grow less", func(s *suite) {
		sp := s.spooler()
		f := s.spool(sp, "zip")
		s.must(sp.GrowSpool(f, 1000))
		s.must(sp.GrowSpool(f, 10))
		s.must(sp.PutSpool(s.Context(), zipName, f, cache.PutOptions{}))
		s.holds(zipName, "zip")
	}},
	{"Spooler: PutSpool with a cancelled context stores nothing", func(s *suite) {
		sp := s.spooler()
		f := s.spool(sp, "zip")
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		s.fails(sp.PutSpool(ctx, zipName, f, cache.PutOptions{}), context.Canceled)
		s.absent(zipName)
		s.must(sp.DropSpool(f))
	}},
	{"Spooler: DropSpool removes the file and may be repeated", func(s *suite) {
		sp := s.spooler()
		f := s.spool(sp, "zip")
		s.must(sp.DropSpool(f))
		s.must(sp.DropSpool(f))
		if _, err := os.Stat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
			s.Errorf("%s: %v", f.Name(), err)
		}
		if sp.PutSpool(s.Context(), zipName, f, cache.PutOptions{}) == nil {
			s.Error("a dropped file was put")
		}
		s.absent(zipName)
	}},
	{"Spooler: a file from elsewhere is refused", func(s *suite) {
		sp := s.spooler()
		f, err := os.Create(filepath.Join(s.TempDir(), "secret"))
		s.must(err)
		defer f.Close()
		if sp.PutSpool(s.Context(), zipName, f, cache.PutOptions{}) == nil {
			s.Error("PutSpool took it over")
		}
		if sp.DropSpool(f) == nil {
			s.Error("DropSpool took it for ours")
		}
		if _, err := os.Stat(f.Name()); err != nil {
			s.Error(err)
		}
	}},
	{"Quarantiner: afterwards the name is absent and free", func(s *suite) {
		q, ok := s.s.(cache.Quarantiner)
		if !ok {
			s.Skip("no Quarantiner")
		}
		s.put(zipName, "zip", cache.PutOptions{})
		s.must(q.Quarantine(s.Context(), zipName, "a test"))
		s.absent(zipName)
		s.must(q.Quarantine(s.Context(), zipName, "a test"))
		if got := s.list(""); len(got) != 0 {
			s.Errorf("listed: %q", got)
		}
		s.put(zipName, "zap", cache.PutOptions{})
		s.holds(zipName, "zap")
		s.fails(q.Quarantine(s.Context(), "../up", "a test"), cache.ErrName)
		s.must(q.Quarantine(s.Context(), "example.com", "a directory is no object"))
		s.holds(zipName, "zap")
	}},
	{"Toucher: Touch replaces Checked and nothing else", func(s *suite) {
		tc := s.toucher()
		s.put(listName, "v1\n", cache.PutOptions{Class: cache.Mutable, Attrs: cache.Attrs{Source: "x.example"}})
		_, want := s.read(listName)
		for i := range 3 {
			want.Checked = time.Unix(int64(5000+i), 7).UTC()
			s.must(tc.Touch(s.Context(), listName, want.Checked))
			if got, a := s.read(listName); a != want || got != "v1\n" {
				s.Errorf("got  %+v\nwant %+v", a, want)
			}
		}
	}},
	{"Toucher: touching what is absent is fs.ErrNotExist", func(s *suite) {
		s.fails(s.toucher().Touch(s.Context(), listName, time.Now()), fs.ErrNotExist)
		s.absent(listName)
	}},
}

// spooler skips the test if the store, or the one that it wraps, has no spool.
func (s *suite) spooler() cache.Spooler {
	s.Helper()
	sp, ok := s.s.(cache.Spooler)
	if !ok {
		s.Skip("no Spooler")
	}
	f, err := sp.NewSpool()
	if errors.Is(err, errors.ErrUnsupported) {
		s.Skip("no Spooler inside")
	}
	s.must(err)
	s.must(sp.DropSpool(f))
	s.must(f.Close())
	return sp
}

func (s *suite) toucher() cache.Toucher {
	s.Helper()
	tc, ok := s.s.(cache.Toucher)
	if !ok || errors.Is(tc.Touch(s.Context(), "no/such/thing", time.Now()), errors.ErrUnsupported) {
		s.Skip("no Toucher")
	}
	return tc
}

// spool returns a spool file that holds data, closed at the end of the test.
func (s *suite) spool(sp cache.Spooler, data string) *os.File {
	s.Helper()
	f, err := sp.NewSpool()
	s.must(err)
	s.Cleanup(func() { f.Close() })
	_, err = io.WriteString(f, data)
	s.must(err)
	return f
}

// Leftovers fails t if dir, the private directory of a store that is idle,
// holds a file in its spool.
func Leftovers(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
