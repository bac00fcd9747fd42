package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
)

const mib = 1 << 20

func object(i int) string { return fmt.Sprintf("example.com/m%d/@v/v1.0.0.zip", i) }

// unused makes name look as if it was last used hours ago.
func unused(t testing.TB, dir, name string, hours int) {
	t.Helper()
	at := time.Now().Add(-time.Duration(hours) * time.Hour)
	must(t, os.Chtimes(filepath.Join(dir, filepath.Dir(name), "."+filepath.Base(name)+".attr"), at, at))
}

func exists(s cache.Store, name string) bool {
	o, err := s.Get(context.Background(), name)
	if err != nil {
		return false
	}
	o.Close()
	return true
}

func TestLimitConfig(t *testing.T) {
	for _, c := range []cache.LimitConfig{{}, {MaxBytes: -1}, {MaxBytes: 1000}} {
		if _, err := cache.NewLimit(openMem(t), c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestLimitEvictsTheLeastRecentlyUsed(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir)
	l := newLimit(t, d, cache.LimitConfig{MaxBytes: 4 * mib})
	data := random(mib / 8)
	for i := range 20 {
		put(t, l, object(i), data, cache.Immutable)
		unused(t, dir, object(i), 100-i)
	}
	_, err := l.Stat(t.Context()) // the first walk
	must(t, err)
	// The oldest is used again, and one that is older than all is Precious.
	if !exists(l, object(0)) {
		t.Fatal("object 0 is missing")
	}
	put(t, l, "pins/example.com/m@v1.0.0", []byte("pin"), cache.Precious)
	unused(t, dir, "pins/example.com/m@v1.0.0", 1000)
	for i := 20; i < 40; i++ {
		put(t, l, object(i), data, cache.Immutable)
	}
	u, err := l.Stat(t.Context())
	must(t, err)
	if u.Bytes > 4*mib || u.Bytes < 3*mib {
		t.Errorf("%d bytes", u.Bytes)
	}
	if !exists(l, object(0)) || exists(l, object(1)) || exists(l, object(2)) {
		t.Error("not the least recently used went")
	}
	if !exists(l, object(39)) || !exists(l, "pins/example.com/m@v1.0.0") {
		t.Error("the newest or a precious object went")
	}
	if n := value(t, l.Collectors(), "modgate_cache_evictions_total"); n < 8 || n > 20 {
		t.Errorf("%v evictions", n)
	}
	if got, want := value(t, l.Collectors(), "modgate_cache_bytes"), float64(u.Bytes); got != want {
		t.Errorf("the gauge says %v, the walk %v", got, want)
	}
	// What eviction leaves behind is nothing.
	for _, leftover := range []string{object(1), "example.com/m1/@v/.v1.0.0.zip.attr", "example.com/m1"} {
		if _, err := os.Lstat(filepath.Join(dir, leftover)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", leftover, err)
		}
	}
}

func TestLimitNeverEvictsWhatItKeeps(t *testing.T) {
	d := openDisk(t, t.TempDir())
	l := newLimit(t, d, cache.LimitConfig{MaxBytes: mib})
	data := random(100_000)
	for i := range 5 {
		put(t, l, fmt.Sprintf("pins/%d", i), data, cache.Precious)
		put(t, l, fmt.Sprintf("precious/%d", i), data, cache.Precious)
	}
	_, err := l.Stat(t.Context())
	must(t, err)
	err = l.Put(t.Context(), zip, bytes.NewReader(data), cache.PutOptions{})
	if !errors.Is(err, cache.ErrFull) {
		t.Errorf("Put: %v, want ErrFull", err)
	}
	if exists(l, zip) {
		t.Error("stored all the same")
	}
	if err := l.Trim(t.Context(), 0); err != nil {
		t.Error(err)
	}
	u, err := l.Stat(t.Context())
	must(t, err)
	if u.Objects != 10 {
		t.Errorf("%+v", u)
	}
}

func TestLimitOpenObjectsOutliveEviction(t *testing.T) {
	l := newLimit(t, openDisk(t, t.TempDir()), cache.LimitConfig{MaxBytes: mib})
	data := random(400_000)
	put(t, l, object(0), data, cache.Immutable)
	o, err := l.Get(t.Context(), object(0))
	must(t, err)
	if err := l.Trim(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if exists(l, object(0)) {
		t.Fatal("nothing was evicted")
	}
	if got, err := o.ReadAll(mib); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the open object: %v", err)
	}
}

func TestLimitTakesRoomBeforeItWrites(t *testing.T) {
	for _, known := range []bool{true, false} {
		l := newLimit(t, openDisk(t, t.TempDir()), cache.LimitConfig{MaxBytes: 4 * mib})
		_, err := l.Stat(t.Context())
		must(t, err)
		body := &counter{Reader: bytes.NewReader(make([]byte, 64*mib))}
		opts := cache.PutOptions{}
		if known {
			opts.Attrs.Size = 64 * mib
		}
		if err := l.Put(t.Context(), zip, body, opts); !errors.Is(err, cache.ErrFull) {
			t.Errorf("known %v: %v", known, err)
		}
		if known && body.n > 0 || body.n > 5*mib {
			t.Errorf("known %v: %d bytes were read", known, body.n)
		}
		if v := value(t, l.Collectors(), "modgate_cache_bytes"); v != 0 {
			t.Errorf("known %v: %v bytes are still counted", known, v)
		}
	}
}

type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// TestLimitCounts compares the running account with what a walk finds.
func TestLimitCounts(t *testing.T) {
	l := newLimit(t, openDisk(t, t.TempDir()), cache.LimitConfig{MaxBytes: 64 * mib})
	_, err := l.Stat(t.Context())
	must(t, err)
	const list = "example.com/m/@v/list"
	steps := []struct {
		name string
		do   func() error
	}{
		{"put", func() error { return l.Put(t.Context(), object(1), strings.NewReader("x"), cache.PutOptions{}) }},
		{"put again", func() error { return l.Put(t.Context(), object(1), strings.NewReader("x"), cache.PutOptions{}) }},
		{"conflict", func() error {
			return want(cache.ErrConflict, l.Put(t.Context(), object(1), strings.NewReader("y"), cache.PutOptions{}))
		}},
		{"put of known size", func() error {
			return l.Put(t.Context(), object(2), bytes.NewReader(random(3*mib)), cache.PutOptions{Attrs: cache.Attrs{Size: 3 * mib}})
		}},
		{"put of unknown size", func() error {
			return l.Put(t.Context(), object(3), bytes.NewReader(random(3*mib)), cache.PutOptions{})
		}},
		{"list", func() error {
			return l.Put(t.Context(), list, strings.NewReader("x"), cache.PutOptions{Class: cache.Mutable})
		}},
		{"longer list", func() error {
			return l.Put(t.Context(), list, bytes.NewReader(random(9000)), cache.PutOptions{Class: cache.Mutable})
		}},
		{"shorter list", func() error {
			return l.Put(t.Context(), list, strings.NewReader("yy"), cache.PutOptions{Class: cache.Mutable})
		}},
		{"spool", func() error {
			f, err := l.NewSpool()
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err := f.Write(random(50_000)); err != nil {
				return err
			}
			return l.PutSpool(t.Context(), object(4), f, cache.PutOptions{})
		}},
		{"delete", func() error { return l.Delete(t.Context(), object(2)) }},
		{"delete again", func() error { return l.Delete(t.Context(), object(2)) }},
		{"quarantine", func() error { return l.Quarantine(t.Context(), object(3), "test") }},
		{"trim", func() error { return l.Trim(t.Context(), 20_000) }},
	}
	for _, s := range steps {
		must(t, s.do())
		running := value(t, l.Collectors(), "modgate_cache_bytes")
		u, err := l.Stat(t.Context())
		must(t, err)
		if running != float64(u.Bytes) {
			t.Errorf("after %s: counted %v, found %d", s.name, running, u.Bytes)
		}
	}
}

func want(want, err error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("error %v, want %v", err, want)
}
