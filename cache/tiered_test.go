package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
)

const list = "example.com/m/@v/list"

// hooked calls functions in the middle of a Get, after the bytes were found.
type hooked struct {
	cache.Store
	afterGet func()
}

func (h *hooked) Get(ctx context.Context, name string) (*cache.Object, error) {
	o, err := h.Store.Get(ctx, name)
	if f := h.afterGet; f != nil {
		h.afterGet = nil
		f()
	}
	return o, err
}

func TestTieredPromotes(t *testing.T) {
	fast, slow := openMem(t), openMem(t)
	s := cache.NewTiered(fast, slow, cache.TieredConfig{MaxObject: 1000})
	small, big := random(1000), random(1001)
	put(t, s, "small", small, cache.Immutable)
	put(t, s, "big", big, cache.Immutable)
	for range 2 {
		for name, data := range map[string][]byte{"small": small, "big": big} {
			if got, err := read(s, name); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if !exists(fast, "small") || exists(fast, "big") {
		t.Errorf("in fast: small %v, big %v", exists(fast, "small"), exists(fast, "big"))
	}
	must(t, slow.Delete(t.Context(), "small"))
	if _, err := read(s, "small"); err != nil {
		t.Errorf("the copy was not used: %v", err)
	}
}

func TestTieredReturnsPromotedFromMemory(t *testing.T) {
	dir := t.TempDir()
	s := cache.NewTiered(openMem(t), openDisk(t, dir), cache.TieredConfig{})
	put(t, s, zip, []byte("zip"), cache.Immutable)
	o, err := s.Get(t.Context(), zip)
	must(t, err)
	if o.Body != nil || string(o.Bytes) != "zip" || o.Attrs.Size != 3 {
		t.Errorf("%+v", o)
	}
}

func TestTieredDoesNotCopyAdopted(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, zip)), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, zip), []byte("adopted"), 0o644))
	fast := openMem(t)
	s := cache.NewTiered(fast, openDisk(t, dir), cache.TieredConfig{})
	if got, err := read(s, zip); err != nil || string(got) != "adopted" {
		t.Errorf("%q, %v", got, err)
	}
	if exists(fast, zip) {
		t.Error("copied")
	}
}

// TestTieredCopyNeverResurrects lets a change happen while a Get holds the old
// bytes and is about to copy them.
func TestTieredCopyNeverResurrects(t *testing.T) {
	for name, change := range map[string]func(s cache.Store) error{
		"Put":        func(s cache.Store) error { return s.Put(t.Context(), list, strings.NewReader("new"), mutable()) },
		"Delete":     func(s cache.Store) error { return s.Delete(t.Context(), list) },
		"Quarantine": func(s cache.Store) error { return s.(cache.Quarantiner).Quarantine(t.Context(), list, "test") },
		"Touch":      func(s cache.Store) error { return s.(cache.Toucher).Touch(t.Context(), list, time.Unix(99, 0)) },
		"PutSpool": func(s cache.Store) error {
			f, err := s.(cache.Spooler).NewSpool()
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err := io.WriteString(f, "new"); err != nil {
				return err
			}
			return s.(cache.Spooler).PutSpool(t.Context(), list, f, mutable())
		},
	} {
		t.Run(name, func(t *testing.T) {
			slow := &hooked{Store: nil}
			d := openDisk(t, t.TempDir())
			slow.Store = d
			// The hook is only in the way of Get; the abilities are those of disk.
			s := cache.NewTiered(openMem(t), struct {
				*hooked
				cache.Spooler
				cache.Quarantiner
				cache.Toucher
			}{slow, d, d, d}, cache.TieredConfig{})
			put(t, s, list, []byte("old"), cache.Mutable)
			slow.afterGet = func() { must(t, change(s)) }
			if got, err := read(s, list); err != nil || string(got) != "old" {
				t.Fatalf("the Get in between: %q, %v", got, err)
			}
			gotBytes, gotErr := read(s, list)
			wantBytes, wantErr := read(d, list)
			if !bytes.Equal(gotBytes, wantBytes) || errors.Is(gotErr, fs.ErrNotExist) != errors.Is(wantErr, fs.ErrNotExist) {
				t.Errorf("%q, %v; the slow store says %q, %v", gotBytes, gotErr, wantBytes, wantErr)
			}
			if gotErr == nil {
				o, err := s.Get(t.Context(), list)
				must(t, err)
				w, err := d.Get(t.Context(), list)
				must(t, err)
				defer w.Close()
				if o.Attrs != w.Attrs {
					t.Errorf("attributes %+v, the slow store says %+v", o.Attrs, w.Attrs)
				}
			}
		})
	}
}

func mutable() cache.PutOptions { return cache.PutOptions{Class: cache.Mutable} }

func TestTieredWritersAndReadersAtOnce(t *testing.T) {
	slow := openMem(t)
	s := cache.NewTiered(openMem(t), slow, cache.TieredConfig{})
	for round := range 30 {
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() { put(t, s, list, fmt.Appendf(nil, "%d-%d", round, w), cache.Mutable) })
			wg.Go(func() { _, _ = read(s, list) })
		}
		if round%5 == 4 {
			wg.Go(func() { must(t, s.Delete(context.Background(), list)) })
		}
		wg.Wait()
		for range 2 { // the second Get reads what the first has copied
			got, gotErr := read(s, list)
			want, wantErr := read(slow, list)
			if !bytes.Equal(got, want) || (gotErr == nil) != (wantErr == nil) {
				t.Fatalf("round %d: %q, %v; the slow store says %q, %v", round, got, gotErr, want, wantErr)
			}
		}
	}
}

func TestTieredFaultOfFastIsNoError(t *testing.T) {
	broken := errors.New("connection refused")
	fast := &faulty{Store: openMem(t), err: broken}
	s := cache.NewTiered(fast, openMem(t), cache.TieredConfig{})
	put(t, s, list, []byte("one"), cache.Mutable)
	put(t, s, list, []byte("two"), cache.Mutable)
	if got, err := read(s, list); err != nil || string(got) != "two" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, s.Delete(t.Context(), list))
	if _, err := read(s, list); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// faulty is a Store that fails altogether while err is set.
type faulty struct {
	cache.Store
	err error
}

func (f *faulty) Get(ctx context.Context, name string) (*cache.Object, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.Store.Get(ctx, name)
}

func (f *faulty) Put(ctx context.Context, name string, body io.Reader, o cache.PutOptions) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Put(ctx, name, body, o)
}

func (f *faulty) Delete(ctx context.Context, name string) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Delete(ctx, name)
}

func TestTieredNeverReadsACopyThatItCouldNotRemove(t *testing.T) {
	for _, n := range []int{1, 3, 100_000} { // the last is more than is remembered
		fast := &failing{Store: openMem(t)}
		s := cache.NewTiered(fast, openMem(t), cache.TieredConfig{})
		put(t, s, list, []byte("old"), cache.Mutable)
		if _, err := read(s, list); err != nil || !exists(fast, list) {
			t.Fatal("not copied")
		}
		fast.del = errors.New("timed out")
		put(t, s, list, []byte("new"), cache.Mutable)
		for i := range n - 1 {
			_ = s.Delete(t.Context(), fmt.Sprintf("other%d", i))
		}
		if got, err := read(s, list); err != nil || string(got) != "new" {
			t.Fatalf("%q, %v", got, err)
		}
		fast.del = nil
		for range 2 {
			if got, err := read(s, list); err != nil || string(got) != "new" {
				t.Errorf("after it came back: %q, %v", got, err)
			}
		}
	}
}

func TestTieredFindsDamageBeforeItCopies(t *testing.T) {
	dir := t.TempDir()
	fast := openMem(t)
	checked := cache.NewChecked(openDisk(t, dir), cache.CheckedConfig{})
	s := cache.NewTiered(fast, checked, cache.TieredConfig{})
	put(t, s, zip, []byte("0123456789"), cache.Immutable)
	_, err := read(checked, zip) // proven, and not looked at again
	must(t, err)
	path := filepath.Join(dir, zip)
	fi, err := os.Stat(path)
	must(t, err)
	damage(t, dir, zip)
	must(t, os.Chtimes(path, time.Time{}, fi.ModTime()))
	healed(t, s, zip, []byte("0123456789"))
}

// Distrust drops the copy and reaches the store that compares.
func TestTieredPassesDistrustOn(t *testing.T) {
	for _, most := range []int64{mib, 1} { // with a copy, and too large for one
		dir := t.TempDir()
		fast := openMem(t)
		limit := newLimit(t, openDisk(t, dir), cache.LimitConfig{MaxBytes: mib})
		s := cache.NewTiered(fast, cache.NewChecked(limit, cache.CheckedConfig{}), cache.TieredConfig{MaxObject: most})
		put(t, s, zip, []byte("0123456789"), cache.Immutable)
		_, err := read(s, zip) // proven, and not looked at again
		must(t, err)
		path := filepath.Join(dir, zip)
		fi, err := os.Stat(path)
		must(t, err)
		damage(t, dir, zip)
		must(t, os.Chtimes(path, time.Time{}, fi.ModTime()))
		if _, err := read(s, zip); err != nil {
			t.Fatalf("before: %v", err)
		}
		s.Distrust(zip)
		if exists(fast, zip) {
			t.Error("the copy is still there")
		}
		healed(t, s, zip, []byte("0123456789"))
	}
}

// TestTieredAgainstModel compares a long random history with a map.
func TestTieredAgainstModel(t *testing.T) {
	fast := openMem(t)
	s := cache.NewTiered(fast, openDisk(t, t.TempDir()), cache.TieredConfig{})
	model := make(map[string]string)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 600 {
		name := fmt.Sprintf("example.com/m%d/@v/list", r.IntN(5))
		switch r.IntN(6) {
		case 0:
			model[name] = fmt.Sprint(i)
			put(t, s, name, []byte(model[name]), cache.Mutable)
		case 1:
			delete(model, name)
			must(t, s.Delete(t.Context(), name))
		case 2:
			must(t, fast.Delete(t.Context(), name)) // eviction
		default:
			got, err := read(s, name)
			want, ok := model[name]
			if string(got) != want || ok != (err == nil) {
				t.Fatalf("step %d: %s is %q, %v; want %q", i, name, got, err, want)
			}
		}
	}
}

func BenchmarkTieredGet(b *testing.B) {
	s := cache.NewTiered(openMem(b), openDisk(b, b.TempDir()), cache.TieredConfig{})
	put(b, s, list, random(2000), cache.Mutable)
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Get(ctx, list); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkCheckedGet(b *testing.B) {
	s := cache.NewChecked(openDisk(b, b.TempDir()), cache.CheckedConfig{})
	put(b, s, zip, random(240<<10), cache.Immutable)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		o, err := s.Get(ctx, zip)
		if err != nil {
			b.Fatal(err)
		}
		o.Close()
	}
}
