package cache_test

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/cache"
)

func spool(t testing.TB, l *cache.Limit, size int64) *os.File {
	t.Helper()
	f, err := l.NewSpool()
	must(t, err)
	t.Cleanup(func() { f.Close() })
	must(t, f.Truncate(size))
	return f
}

func TestLimitCountsOpenSpools(t *testing.T) {
	l := newLimit(t, openDisk(t, t.TempDir()), cache.LimitConfig{MaxBytes: 8 * mib})
	_, err := l.Stat(t.Context())
	must(t, err)
	for i := range 6 {
		put(t, l, object(i), random(mib-8192), cache.Immutable)
	}
	counted := func() float64 { return value(t, l.Collectors(), "modgate_cache_bytes") }
	before := counted()

	// They grow after they were handed out, and objects make room for them.
	a, b := spool(t, l, 0), spool(t, l, 0)
	must(t, a.Truncate(3*mib))
	must(t, b.Truncate(3*mib))
	if got := counted() - before; got < 6*mib || got > 6*mib+4*4096 {
		t.Errorf("%v bytes are counted for 6 MiB", got)
	}
	c := spool(t, l, 2*mib)
	u, err := l.Stat(t.Context())
	must(t, err)
	if u.Bytes > 2*mib {
		t.Errorf("%d bytes are left beside spools of 6 MiB", u.Bytes)
	}
	// When nothing is left to be evicted, there is no spool and no object more.
	must(t, c.Truncate(3*mib))
	if _, err := l.NewSpool(); !errors.Is(err, cache.ErrFull) {
		t.Errorf("NewSpool: %v", err)
	}
	if err := l.Put(t.Context(), zip, bytes.NewReader(random(mib)), cache.PutOptions{}); !errors.Is(err, cache.ErrFull) {
		t.Errorf("Put: %v", err)
	}
	if err := l.PutSpool(t.Context(), zip, a, cache.PutOptions{}); !errors.Is(err, cache.ErrFull) {
		t.Errorf("PutSpool: %v", err)
	}
	if got := counted(); got < 9*mib {
		t.Errorf("a spool that was not published takes nothing: %v", got)
	}
	// What was dropped, or closed without a word, takes nothing.
	must(t, l.DropSpool(c))
	must(t, b.Close())
	must(t, l.PutSpool(t.Context(), zip, a, cache.PutOptions{}))
	u, err = l.Stat(t.Context())
	must(t, err)
	if got := counted(); got != float64(u.Bytes) || u.Bytes < 3*mib {
		t.Errorf("counted %v, found %d", got, u.Bytes)
	}
}

// Room that a spool was promised counts before there is a byte in it, and what
// cannot be had is refused while the spool is still small.
func TestLimitGrowsSpools(t *testing.T) {
	l := newLimit(t, openDisk(t, t.TempDir()), cache.LimitConfig{MaxBytes: 8 * mib})
	for i := range 6 {
		put(t, l, object(i), random(mib-8192), cache.Immutable)
	}
	_, err := l.Stat(t.Context())
	must(t, err)
	counted := func() int64 { return int64(value(t, l.Collectors(), "modgate_cache_bytes")) }
	f := spool(t, l, 0)
	must(t, l.GrowSpool(f, 5*mib))
	if n := counted(); n < 5*mib || n > 8*mib {
		t.Errorf("%d bytes are counted", n)
	}
	must(t, l.GrowSpool(f, mib)) // less than it has
	must(t, f.Truncate(5*mib))
	if n := counted(); n < 5*mib || n > 8*mib {
		t.Errorf("%d bytes are counted when the room is used", n)
	}
	for _, size := range []int64{9 * mib, 1 << 40} {
		if err := l.GrowSpool(f, size); !errors.Is(err, cache.ErrFull) {
			t.Errorf("to %d bytes: %v", size, err)
		}
	}
	g := spool(t, l, 0)
	if err := l.GrowSpool(g, 4*mib); !errors.Is(err, cache.ErrFull) {
		t.Errorf("a second spool: %v", err)
	}
	// What is on the disk already needs no more room to become an object.
	must(t, l.GrowSpool(g, 2*mib))
	must(t, l.PutSpool(t.Context(), zip, f, cache.PutOptions{}))
	must(t, l.DropSpool(g))
	u, err := l.Stat(t.Context())
	must(t, err)
	if n := counted(); n != u.Bytes || n < 5*mib {
		t.Errorf("counted %d, found %d", n, u.Bytes)
	}
	stranger, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	defer stranger.Close()
	if l.GrowSpool(stranger, 1) == nil {
		t.Error("a file of somebody else may grow")
	}
}

func TestLimitNewSpoolKeepsSpaceFree(t *testing.T) {
	d := openDisk(t, t.TempDir())
	space := cache.Space{Free: 64 * mib, Total: 1 << 30, FreeFiles: 500, TotalFiles: 1000}
	l := newLimit(t, d, cache.LimitConfig{Space: func() (cache.Space, error) { return space, nil }})
	must(t, l.DropSpool(spool(t, l, 0)))
	for name, short := range map[string]cache.Space{
		"bytes":  {Free: mib, Total: 1 << 30, FreeFiles: 500, TotalFiles: 1000},
		"inodes": {Free: 64 * mib, Total: 1 << 30, FreeFiles: 5, TotalFiles: 1000},
	} {
		space = short
		if f, err := l.NewSpool(); !errors.Is(err, cache.ErrFull) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if _, err := newLimit(t, openMem(t), cache.LimitConfig{MaxBytes: mib}).NewSpool(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store without spools: %v", err)
	}
}

// Run sees spools that grow while nobody asks for room.
func TestLimitRunSeesSpoolsGrow(t *testing.T) {
	d := openDisk(t, t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(t, d, cache.LimitConfig{MaxBytes: 8 * mib})
		go l.Run(t.Context())
		synctest.Wait()
		for i := range 4 {
			put(t, l, object(i), random(mib-8192), cache.Immutable)
		}
		f := spool(t, l, 0)
		must(t, f.Truncate(6*mib))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if v := value(t, l.Collectors(), "modgate_cache_bytes"); v > 8*mib {
			t.Errorf("%v bytes", v)
		}
		must(t, l.DropSpool(f))
	})
}
