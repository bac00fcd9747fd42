package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
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

// A download goes on, and is kept, while all else that is stored makes room for it,
// and who reads what is evicted or replaced reads on.
func TestLimitEvictsWhileSpoolsAreInFlight(t *testing.T) {
	t.Parallel()
	l := newLimit(t, openDisk(t, t.TempDir()), cache.LimitConfig{MaxBytes: 8 * mib})
	old := random(mib - 8192)
	put(t, l, object(0), old, cache.Immutable)
	reader, err := l.Get(t.Context(), object(0))
	must(t, err)
	for i := 1; i < 6; i++ {
		put(t, l, object(i), random(mib-8192), cache.Immutable)
	}
	data, f := random(3*mib), spool(t, l, 0)
	for i, at := 6, 0; at < len(data); i, at = i+1, at+mib/4 {
		must(t, l.GrowSpool(f, int64(at+mib/4)))
		_, err := f.WriteAt(data[at:at+mib/4], int64(at))
		must(t, err)
		put(t, l, object(i), random(mib-8192), cache.Immutable) // evicts
		if u, err := l.Stat(t.Context()); err != nil || u.Bytes+int64(at+mib/4) > 8*mib {
			t.Fatalf("%d bytes beside a spool of %d, %v", u.Bytes, at+mib/4, err)
		}
		so := make([]byte, at+mib/4) // what a client follows
		if _, err := f.ReadAt(so, 0); err != nil || !bytes.Equal(so, data[:len(so)]) {
			t.Fatalf("after %d bytes: %v", at, err)
		}
	}
	must(t, l.Trim(t.Context(), 0)) // all that can be evicted
	must(t, l.PutSpool(t.Context(), zip, f, cache.PutOptions{}))
	if got, err := read(l, zip); err != nil || !bytes.Equal(got, data) {
		t.Errorf("kept: %d bytes, %v", len(got), err)
	}
	must(t, l.Trim(t.Context(), 0))
	if _, err := read(l, zip); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("trimmed: %v", err)
	}
	so := make([]byte, len(data))
	if _, err := f.ReadAt(so, 0); err != nil || !bytes.Equal(so, data) {
		t.Errorf("who follows the download: %v", err)
	}
	if got, err := reader.ReadAll(mib); err != nil || !bytes.Equal(got, old) {
		t.Errorf("who reads what was evicted first: %d bytes, %v", len(got), err)
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

// What downloads have filled a store with makes room again when they are done,
// although nothing could be evicted a moment ago.
func TestLimitEvictsWhatWasASpool(t *testing.T) {
	l := newLimit(t, openDisk(t, t.TempDir()), cache.LimitConfig{MaxBytes: mib})
	_, err := l.Stat(t.Context())
	must(t, err)
	var spools []*os.File
	for range 4 {
		spools = append(spools, spool(t, l, 250_000))
	}
	data := random(100_000)
	for range 2 {
		if err := l.Put(t.Context(), zip, bytes.NewReader(data), cache.PutOptions{}); !errors.Is(err, cache.ErrFull) {
			t.Fatalf("Put: %v, want ErrFull", err)
		}
	}
	for i, f := range spools {
		must(t, l.PutSpool(t.Context(), object(i), f, cache.PutOptions{}))
	}
	put(t, l, zip, data, cache.Immutable)
	if u, err := l.Stat(t.Context()); err != nil || u.Bytes > mib {
		t.Errorf("%+v, %v", u, err)
	}
}

// What cannot be had again is kept in a store that downloads have filled, counts
// there, and is made up for when they are done.
func TestLimitDoesNotRefuseWhatIsPrecious(t *testing.T) {
	l := newLimit(t, openDisk(t, t.TempDir()), cache.LimitConfig{MaxBytes: mib})
	_, err := l.Stat(t.Context())
	must(t, err)
	var spools []*os.File
	for range 4 {
		spools = append(spools, spool(t, l, 250_000))
	}
	const name = "shared/backlog"
	data := random(100_000)
	for range 2 { // when it is new, and when it is replaced
		put(t, l, name, data, cache.Precious)
	}
	u, err := l.Stat(t.Context())
	must(t, err)
	if got := value(t, l.Collectors(), "modgate_cache_bytes"); got < mib || got < float64(u.Bytes) {
		t.Errorf("it does not count: %v", got)
	}
	for i, f := range spools {
		if err := l.PutSpool(t.Context(), object(i), f, cache.PutOptions{}); errors.Is(err, cache.ErrFull) {
			must(t, l.DropSpool(f))
		} else if err != nil {
			t.Fatal(err)
		}
	}
	put(t, l, zip, data, cache.Immutable)
	if u, err = l.Stat(t.Context()); err != nil || u.Bytes > mib {
		t.Errorf("%+v, %v", u, err)
	}
	if got, err := read(l, name); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// slow is a directory that lets others do something while it works.
type slow struct {
	*disk.Store
	listing, dropping func()
}

func (s *slow) List(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	s.listing()
	return s.Store.List(ctx, prefix)
}

func (s *slow) DropSpool(f *os.File) error {
	s.dropping()
	return s.Store.DropSpool(f)
}

// A spool counts while room is made to publish it, and until it is gone: nobody
// else may take its room while it is on the disk.
func TestLimitCountsSpoolsOnTheirWay(t *testing.T) {
	d := &slow{Store: openDisk(t, t.TempDir()), listing: func() {}, dropping: func() {}}
	l := newLimit(t, d, cache.LimitConfig{MaxBytes: mib})
	_, err := l.Stat(t.Context())
	must(t, err)
	var spools []*os.File
	for range 4 {
		spools = append(spools, spool(t, l, 250_000))
	}
	put(t, l, "shared/backlog", random(100_000), cache.Precious) // beyond the bound
	looked := 0
	look := func() {
		looked++
		if got := value(t, l.Collectors(), "modgate_cache_bytes"); got < mib {
			t.Errorf("%v bytes are counted, and more are there", got)
		}
		if f, err := l.NewSpool(); err == nil {
			t.Error("there is room for another spool")
			f.Close()
		}
	}
	d.dropping = look
	if err := l.PutSpool(t.Context(), object(0), spools[0], cache.PutOptions{}); !errors.Is(err, cache.ErrFull) {
		t.Errorf("PutSpool: %v, want ErrFull", err)
	}
	must(t, l.DropSpool(spools[0]))
	d.dropping = func() {}
	put(t, l, object(9), random(100_000), cache.Immutable)
	must(t, spools[2].Truncate(400_000)) // without asking
	d.listing = func() {
		looked++
		if got := value(t, l.Collectors(), "modgate_cache_bytes"); got < 1_000_000 { // what is left when the object has gone
			t.Errorf("%v bytes are counted while room is made, and more are there", got)
		}
	}
	must(t, l.PutSpool(t.Context(), object(1), spools[1], cache.PutOptions{}))
	if looked < 2 {
		t.Errorf("looked %d times", looked)
	}
}
