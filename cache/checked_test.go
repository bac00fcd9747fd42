package cache_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
)

const zip = "example.com/m/@v/v1.0.0.zip"

func put(t testing.TB, s cache.Store, name string, data []byte, class cache.Class) {
	t.Helper()
	if err := s.Put(context.Background(), name, bytes.NewReader(data), cache.PutOptions{Class: class}); err != nil {
		t.Fatal(err)
	}
}

// read returns what Get and ReadAll say.
func read(s cache.Store, name string) ([]byte, error) {
	o, err := s.Get(context.Background(), name)
	if err != nil {
		return nil, err
	}
	return o.ReadAll(1 << 30)
}

// value returns the sum of the series of a metric, and fails if it is missing.
func value(t testing.TB, collectors []prometheus.Collector, name string) float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectors...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// damage changes the stored file of name in place, at the same size.
func damage(t testing.TB, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	at := fi.Size() / 2
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// healed checks that name is absent as corrupt bytes are, and can be put again.
func healed(t *testing.T, s cache.Store, name string, data []byte) {
	t.Helper()
	_, err := read(s, name)
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, cache.ErrCorrupt) {
		t.Fatalf("error %v, want both fs.ErrNotExist and ErrCorrupt", err)
	}
	if _, err := read(s, name); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("second Get: %v, want plain absence", err)
	}
	put(t, s, name, data, cache.Immutable)
	if got, err := read(s, name); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after the new Put: %v", err)
	}
}

func TestCheckedFindsDamage(t *testing.T) {
	data := random(300_000)
	for name, harm := range map[string]func(t *testing.T, path string){
		"bit flipped": func(t *testing.T, path string) { damage(t, filepath.Dir(path), filepath.Base(path)) },
		"truncated":   func(t *testing.T, path string) { must(t, os.Truncate(path, 1000)) },
		"empty":       func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
		"extended":    func(t *testing.T, path string) { must(t, os.Truncate(path, 400_000)) },
		"a link": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Symlink("/etc/passwd", path))
		},
		"no attributes left of them": func(t *testing.T, path string) {
			must(t, os.Truncate(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".attr"), 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first := openDisk(t, dir)
			put(t, first, zip, data, cache.Immutable)
			harm(t, filepath.Join(dir, zip))
			// As after a restart.
			s := cache.NewChecked(openDisk(t, dir), cache.CheckedConfig{})
			if v := value(t, s.Collectors(), "modgate_cache_corrupt_total"); v != 0 {
				t.Errorf("counted %v before anything was read", v)
			}
			healed(t, s, zip, data)
			if v := value(t, s.Collectors(), "modgate_cache_corrupt_total"); v != 1 {
				t.Errorf("counted %v", v)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckedFindsEveryFlippedBit(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	data := random(16)
	put(t, d, zip, data, cache.Immutable)
	for bit := range len(data) * 8 {
		bad := bytes.Clone(data)
		bad[bit/8] ^= 1 << (bit % 8)
		must(t, os.WriteFile(filepath.Join(dir, zip), bad, 0o644))
		s := cache.NewChecked(d, cache.CheckedConfig{})
		if _, err := read(s, zip); !errors.Is(err, cache.ErrCorrupt) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		put(t, d, zip, data, cache.Immutable)
	}
}

func TestCheckedTrustsWhatItProved(t *testing.T) {
	dir := t.TempDir()
	s := cache.NewChecked(openDisk(t, dir), cache.CheckedConfig{})
	put(t, s, zip, random(1000), cache.Immutable)
	_, err := read(s, zip)
	must(t, err)
	path := filepath.Join(dir, zip)
	fi, err := os.Stat(path)
	must(t, err)

	// A change that hides its traces is found when the object is distrusted.
	damage(t, dir, zip)
	must(t, os.Chtimes(path, time.Time{}, fi.ModTime()))
	if _, err := read(s, zip); err != nil {
		t.Fatalf("the digest was compared again: %v", err)
	}
	s.Distrust(zip)
	if _, err := read(s, zip); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("after Distrust: %v", err)
	}
}

func TestCheckedSeesAChangedFile(t *testing.T) {
	dir := t.TempDir()
	s := cache.NewChecked(openDisk(t, dir), cache.CheckedConfig{})
	put(t, s, zip, random(1000), cache.Immutable)
	_, err := read(s, zip)
	must(t, err)
	must(t, os.Chtimes(filepath.Join(dir, zip), time.Time{}, time.Now().Add(-time.Hour)))
	damage(t, dir, zip)
	if _, err := read(s, zip); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestCheckedDistrust(t *testing.T) {
	inner := openMem(t)
	lies := &liar{Store: inner}
	s := cache.NewChecked(lies, cache.CheckedConfig{})
	data := random(1000)
	put(t, s, zip, data, cache.Immutable)
	_, err := read(s, zip)
	must(t, err)
	lies.change = func(o *cache.Object) { o.Bytes = random(1000) }
	if _, err := read(s, zip); err != nil {
		t.Errorf("what was proven is not looked at again: %v", err)
	}
	s.Distrust(zip)
	_, err = read(s, zip)
	if !errors.Is(err, cache.ErrCorrupt) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	lies.change = nil
	if _, err := read(s, zip); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("a store without quarantine should have deleted it: %v", err)
	}
}

// liar is a Store that returns other objects than it holds.
type liar struct {
	cache.Store
	change func(*cache.Object)
}

func (l *liar) Get(ctx context.Context, name string) (*cache.Object, error) {
	o, err := l.Store.Get(ctx, name)
	if err == nil && l.change != nil {
		l.change(o)
	}
	return o, err
}

func TestCheckedForgivesWhatWasReplacedMeanwhile(t *testing.T) {
	inner := openMem(t)
	lies := &liar{Store: inner}
	s := cache.NewChecked(lies, cache.CheckedConfig{})
	put(t, s, zip, random(1000), cache.Mutable)
	wrong := true
	lies.change = func(o *cache.Object) {
		if wrong {
			o.Bytes = random(1000)
		}
		wrong = false
	}
	if _, err := read(s, zip); err != nil {
		t.Errorf("the second look was right: %v", err)
	}
	if v := value(t, s.Collectors(), "modgate_cache_corrupt_total"); v != 0 {
		t.Errorf("counted %v", v)
	}
}

func TestCheckedPassesAdopted(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, zip)), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, zip), []byte("of another program"), 0o644))
	s := cache.NewChecked(openDisk(t, dir), cache.CheckedConfig{})
	o, err := s.Get(t.Context(), zip)
	must(t, err)
	defer o.Close()
	if o.Attrs.SHA256 != "" || o.Attrs.Size != 18 {
		t.Errorf("%+v", o.Attrs)
	}
}

func TestCheckedErrorIsNotAbsence(t *testing.T) {
	broken := errors.New("no carrier")
	s := cache.NewChecked(&failing{Store: openMem(t), get: broken}, cache.CheckedConfig{})
	if _, err := read(s, zip); !errors.Is(err, broken) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	inner := openMem(t)
	put(t, inner, zip, []byte("zip"), cache.Immutable)
	s = cache.NewChecked(&liar{Store: inner, change: func(o *cache.Object) { o.Body = &brokenBody{broken} }}, cache.CheckedConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, zip); errors.Is(err, fs.ErrNotExist) || !exists(inner, zip) {
		t.Errorf("a caller who left: %v", err)
	}
}

// brokenBody is a body on a bad sector.
type brokenBody struct{ err error }

func (b *brokenBody) Read([]byte) (int, error)       { return 0, b.err }
func (b *brokenBody) Seek(int64, int) (int64, error) { return 0, nil }
func (b *brokenBody) Close() error                   { return nil }

// failing is a Store whose methods fail on demand.
type failing struct {
	cache.Store
	get, del error
}

func (f *failing) Get(ctx context.Context, name string) (*cache.Object, error) {
	if f.get != nil {
		return nil, f.get
	}
	return f.Store.Get(ctx, name)
}

func (f *failing) Delete(ctx context.Context, name string) error {
	if f.del != nil {
		return f.del
	}
	return f.Store.Delete(ctx, name)
}

func TestCheckedRemembersWithinBounds(t *testing.T) {
	s := cache.NewChecked(openDisk(t, t.TempDir()), cache.CheckedConfig{Remember: 10})
	for i := range 30 {
		put(t, s, fmt.Sprintf("example.com/m/@v/v1.0.%d.mod", i), []byte("x"), cache.Immutable)
	}
	for range 2 {
		for i := range 30 {
			if _, err := read(s, fmt.Sprintf("example.com/m/@v/v1.0.%d.mod", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := cache.Remembered(s); n > 10 || n == 0 {
		t.Errorf("%d remembered", n)
	}
}

func TestCheckedFirstOpensAtOnce(t *testing.T) {
	dir := t.TempDir()
	data := random(4 << 20)
	put(t, openDisk(t, dir), zip, data, cache.Immutable)
	for _, broken := range []bool{false, true} {
		if broken {
			damage(t, dir, zip)
		}
		s := cache.NewChecked(openDisk(t, dir), cache.CheckedConfig{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				got, err := read(s, zip)
				if broken != (err != nil) || err == nil && !bytes.Equal(got, data) {
					t.Errorf("broken %v: %v", broken, err)
				}
			})
		}
		wg.Wait()
	}
}

func TestCheckedWaiterLeaves(t *testing.T) {
	inner := openMem(t)
	put(t, inner, zip, []byte("x"), cache.Immutable)
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := &liar{Store: inner, change: func(o *cache.Object) {
		o.Body = &slowBody{Reader: strings.NewReader("x"), entered: entered, leave: leave}
	}}
	s := cache.NewChecked(slow, cache.CheckedConfig{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := read(s, zip); err != nil {
			t.Error(err)
		}
	})
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Get(ctx, zip); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a waiter got %v", err)
	}
	close(leave)
	wg.Wait()
}

// slowBody says that it is being read and waits to be allowed to.
type slowBody struct {
	*strings.Reader
	entered, leave chan struct{}
	once           sync.Once
}

func (s *slowBody) Read(p []byte) (int, error) {
	s.once.Do(func() { s.entered <- struct{}{} })
	<-s.leave
	return s.Reader.Read(p)
}

func (s *slowBody) Close() error { return nil }
