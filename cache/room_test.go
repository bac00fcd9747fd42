package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/cache"
)

// disc is a file system with 1000 inodes. Beside the objects, others use it.
type disc struct {
	cache.Store
	total, used, files int64
	mu                 sync.Mutex
	objects            map[string]int64
}

func (d *disc) Put(ctx context.Context, name string, body io.Reader, o cache.PutOptions) error {
	c := &counter{Reader: body}
	err := d.Store.Put(ctx, name, c, o)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.objects[name] = (int64(c.n)+4095)/4096*4096 + 4096
	}
	return err
}

func (d *disc) Delete(ctx context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.objects, name)
	return d.Store.Delete(ctx, name)
}

func (d *disc) space() (cache.Space, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sp := cache.Space{Total: d.total, Free: d.total - d.used, TotalFiles: 1000, FreeFiles: 1000 - d.files}
	for _, size := range d.objects {
		sp.Free -= size
		sp.FreeFiles -= 2
	}
	return sp, nil
}

func TestLimitKeepsSpaceFree(t *testing.T) {
	const total = 16 * mib
	for _, c := range []struct {
		name      string
		others    int64
		files     int64
		max, min  int64 // objects of 256 KiB that fit
		lastError error
	}{
		{"empty", 0, 0, 62, 50, nil},
		{"half full", total / 2, 0, 30, 22, nil},
		{"few inodes", 0, 900, 40, 30, nil},
		{"filled by others", total - mib/4, 0, 0, 0, cache.ErrFull},
	} {
		d := &disc{Store: openMem(t), objects: make(map[string]int64), total: total, used: c.others, files: c.files}
		l := newLimit(t, d, cache.LimitConfig{Space: d.space})
		var err error
		for i := range 100 {
			err = l.Put(t.Context(), object(i), bytes.NewReader(make([]byte, mib/4-8192)), cache.PutOptions{})
		}
		u, serr := l.Stat(t.Context())
		must(t, serr)
		if u.Objects > c.max || u.Objects < c.min {
			t.Errorf("%s: %d objects, want %d to %d", c.name, u.Objects, c.min, c.max)
		}
		if !errors.Is(err, c.lastError) {
			t.Errorf("%s: the last Put: %v", c.name, err)
		}
		sp, serr := d.space()
		must(t, serr)
		if got := value(t, l.Collectors(), "modgate_cache_free_files"); got != float64(sp.FreeFiles) {
			t.Errorf("%s: %v inodes free by the metric, want %v", c.name, got, sp.FreeFiles)
		}
	}
	l := newLimit(t, openMem(t), cache.LimitConfig{Space: func() (cache.Space, error) { return cache.Space{Free: 1 << 40, Total: 1 << 40}, nil }})
	if got := value(t, l.Collectors(), "modgate_cache_free_files"); got != -1 {
		t.Errorf("%v inodes free where they are not limited", got)
	}
}

func TestLimitEvictsNothingInVain(t *testing.T) {
	d := &disc{Store: openMem(t), objects: make(map[string]int64), total: 64 * mib}
	l := newLimit(t, d, cache.LimitConfig{Space: d.space})
	for i := range 10 {
		put(t, l, object(i), make([]byte, mib-8192), cache.Immutable)
	}
	d.used = 62 * mib // others leave nothing, and would take what we give
	if err := l.Put(t.Context(), zip, strings.NewReader("x"), cache.PutOptions{}); !errors.Is(err, cache.ErrFull) {
		t.Errorf("%v", err)
	}
	if u, err := l.Stat(t.Context()); err != nil || u.Objects != 10 {
		t.Errorf("%+v, %v", u, err)
	}
	d.used = 0
	put(t, l, zip, []byte("x"), cache.Immutable) // at once, without a restart
}

// quota is a Store that is full before its file system is.
type quota struct {
	cache.Store
	full bool
}

func (q *quota) Put(ctx context.Context, name string, body io.Reader, opts cache.PutOptions) error {
	if q.full {
		return fmt.Errorf("put: %w", cache.ErrFull)
	}
	return q.Store.Put(ctx, name, body, opts)
}

func TestLimitEvictsWhenTheBackendIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &quota{Store: openMem(t)}
		l := newLimit(t, q, cache.LimitConfig{MaxBytes: 1 << 30})
		for i := range 40 {
			put(t, l, object(i), make([]byte, mib-8192), cache.Immutable)
		}
		go l.Run(t.Context())
		synctest.Wait()
		q.full = true
		if err := l.Put(t.Context(), zip, strings.NewReader("x"), cache.PutOptions{}); !errors.Is(err, cache.ErrFull) {
			t.Fatal(err)
		}
		synctest.Wait()
		u, err := l.Stat(t.Context())
		must(t, err)
		if u.Objects < 20 || u.Objects > 30 {
			t.Errorf("%d objects are left of 40", u.Objects)
		}
	})
}

func TestLimitRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := openMem(t)
		for i := range 20 {
			put(t, inner, object(i), make([]byte, mib-8192), cache.Immutable)
		}
		sweeps := 0
		l := newLimit(t, inner, cache.LimitConfig{MaxBytes: 16 * mib, Sweep: func(context.Context) error { sweeps++; return nil }})
		// Before Run has looked, the cache is believed to be empty, and serves.
		put(t, l, zip, []byte("x"), cache.Immutable)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		synctest.Wait()
		if v := value(t, l.Collectors(), "modgate_cache_bytes"); v > 14.5*mib || v < 13*mib {
			t.Errorf("%v bytes after the first walk, want 90 %% of 16 MiB", v)
		}
		// Close to the bound, room is made in the background.
		for i := range 2 {
			put(t, l, object(100+i), make([]byte, mib-8192), cache.Immutable)
		}
		synctest.Wait()
		if v := value(t, l.Collectors(), "modgate_cache_bytes"); v > 14.5*mib {
			t.Errorf("%v bytes", v)
		}
		// Somebody else fills the directory; the hourly walk notices.
		for i := range 10 {
			put(t, inner, object(200+i), make([]byte, mib-8192), cache.Immutable)
		}
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if v := value(t, l.Collectors(), "modgate_cache_bytes"); v > 14.5*mib || v < 13*mib {
			t.Errorf("%v bytes an hour later", v)
		}
		if sweeps != 2 {
			t.Errorf("swept %d times", sweeps)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestLimitDoesNotWalkForEveryFutilePut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &walks{Store: openMem(t)}
		l := newLimit(t, w, cache.LimitConfig{MaxBytes: mib})
		put(t, l, "pins/a", make([]byte, mib-8192), cache.Precious)
		_, err := l.Stat(t.Context())
		must(t, err)
		go l.Run(t.Context())
		synctest.Wait()
		before := w.n
		for range 100 {
			if err := l.Put(t.Context(), zip, bytes.NewReader(random(10_000)), cache.PutOptions{}); !errors.Is(err, cache.ErrFull) {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := w.n - before; n > 3 {
			t.Errorf("%d walks for 100 Puts", n)
		}
		must(t, l.Delete(t.Context(), "pins/a"))
		put(t, l, zip, random(10_000), cache.Immutable)
	})
}

// walks counts the walks over a Store, and calls during before each step.
type walks struct {
	cache.Store
	n      int
	during func(step int)
}

func (w *walks) List(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	w.n++
	return func(yield func(cache.Entry, error) bool) {
		step := 0
		for e, err := range w.Store.List(ctx, prefix) {
			if w.during != nil {
				w.during(step)
			}
			step++
			if !yield(e, err) {
				return
			}
		}
	}
}

// TestLimitCountsChangesDuringAWalkOnce lets names change after and before the
// walk comes by.
func TestLimitCountsChangesDuringAWalkOnce(t *testing.T) {
	w := &walks{Store: openMem(t)}
	l := newLimit(t, w, cache.LimitConfig{MaxBytes: 64 * mib})
	for i := range 20 {
		put(t, l, object(i), make([]byte, 10_000), cache.Mutable)
	}
	w.during = func(step int) {
		if step == 10 {
			for i := range 20 {
				put(t, l, object(i), make([]byte, 100_000), cache.Mutable)
				put(t, l, object(100+i), make([]byte, 10_000), cache.Mutable)
				put(t, l, object(i), make([]byte, 50_000), cache.Mutable) // more than once
				if err := l.Put(t.Context(), object(i), &broken{bytes.NewReader(nil)}, cache.PutOptions{Class: cache.Mutable}); !errors.Is(err, cache.ErrCorrupt) {
					t.Errorf("Put of what breaks off: %v", err)
				}
			}
		}
	}
	_, err := l.Stat(t.Context())
	must(t, err)
	w.during = nil
	counted := value(t, l.Collectors(), "modgate_cache_bytes")
	u, err := l.Stat(t.Context())
	must(t, err)
	if counted != float64(u.Bytes) {
		t.Errorf("counted %v, there are %d", counted, u.Bytes)
	}
}

func TestLimitPutsAtOnce(t *testing.T) {
	d := openDisk(t, t.TempDir())
	l := newLimit(t, d, cache.LimitConfig{MaxBytes: 2 * mib, Space: d.Space, MinFree: -1, MinFreeFiles: -1})
	_, err := l.Stat(t.Context())
	must(t, err)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 25 {
				err := l.Put(t.Context(), object(100*w+i), bytes.NewReader(random(100_000)), cache.PutOptions{})
				if err != nil && !errors.Is(err, cache.ErrFull) {
					t.Error(err)
				}
				if v := value(t, l.Collectors(), "modgate_cache_bytes"); v > 2*mib {
					t.Errorf("%v bytes are counted", v)
				}
			}
		})
	}
	wg.Wait()
	u, err := l.Stat(t.Context())
	must(t, err)
	if u.Bytes > 2*mib || u.Objects < 10 {
		t.Errorf("%+v", u)
	}
}
