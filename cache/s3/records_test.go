package s3_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/cache/sharedtest"
)

const pin = "pins/git.corp.example/m/@v/v1.0.0.json"

// A record is replaced by who knows what it is, and by one of many.
func TestRecords(t *testing.T) {
	server := sharedtest.NewS3(t)
	c := config(server)
	s := open(t, c)
	ctx := t.Context()
	if _, err := s.Record(ctx, pin); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	var wg sync.WaitGroup
	var won atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			switch err := s.SwapRecord(ctx, pin, nil, []byte{byte(i)}); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, cache.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d were first", won.Load())
	}
	first, err := s.Record(ctx, pin)
	if err != nil || len(first) != 1 {
		t.Fatalf("%q, %v", first, err)
	}
	if err := s.SwapRecord(ctx, pin, []byte("other"), []byte("x")); !errors.Is(err, cache.ErrConflict) {
		t.Errorf("who thinks it is something else: %v", err)
	}
	if err := s.SwapRecord(ctx, pin, first, []byte("second")); err != nil {
		t.Error(err)
	}
	if err := s.SwapRecord(ctx, "pins/none", []byte("x"), []byte("y")); !errors.Is(err, cache.ErrConflict) {
		t.Errorf("who thinks that it is there: %v", err)
	}
	for e := range s.List(ctx, "") {
		t.Errorf("%s is listed", e.Name)
	}
	if err := s.SwapRecord(ctx, "../x", nil, []byte("y")); !errors.Is(err, cache.ErrName) {
		t.Errorf("a name: %v", err)
	}
}

// One that has rotted or was forged is an error, and stays where it is.
func TestRecordThatIsNotRight(t *testing.T) {
	server := sharedtest.NewS3(t)
	c := config(server)
	s := open(t, c)
	path := filepath.Join(server.Dir, c.Prefix, ".records", pin)
	for about, spoil := range map[string]func() error{
		"other bytes": func() error { return os.WriteFile(path, []byte("SECOND"), 0o644) },
		"not ours":    func() error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte("second"), 0o644)) },
	} {
		_ = os.Remove(path)
		if err := s.SwapRecord(t.Context(), pin, nil, []byte("second")); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if data, err := s.Record(t.Context(), pin); !errors.Is(err, cache.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", about, data, err)
		}
		if err := s.SwapRecord(t.Context(), pin, []byte("second"), []byte("third")); err == nil {
			t.Errorf("%s: replaced", about)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", about, err)
		}
	}
}

// A bucket has one mark, whoever asks, until it is emptied. It is no object.
func TestMark(t *testing.T) {
	server := sharedtest.NewS3(t)
	c := config(server)
	ours, theirs := open(t, c), open(t, c)
	mark := func(s *s3.Store) string {
		t.Helper()
		m, err := s.Mark(t.Context())
		if err != nil || m == "" {
			t.Errorf("%q, %v", m, err)
		}
		return m
	}
	first := mark(ours)
	if again, other := mark(ours), mark(theirs); again != first || other != first {
		t.Errorf("%q, then %q and %q", first, again, other)
	}
	for e := range ours.Names(t.Context(), "") {
		t.Errorf("listed: %s", e.Name)
	}
	if err := os.RemoveAll(filepath.Join(server.Dir, c.Prefix)); err != nil {
		t.Fatal(err)
	}
	if now := mark(theirs); now == first {
		t.Error("an empty bucket has the mark of a full one")
	}
}
