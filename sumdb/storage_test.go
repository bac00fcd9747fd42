package sumdb_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

func TestRestartNeedsNoRemote(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	add(log, mod(1))
	log.Fill(1000)
	add(log, mod(2))
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage)
	verify(t, d, mod(1))
	verify(t, d, mod(2))
	log.Forget()
	log.Lie(sumdbtest.Say("/", 500, ""))
	d = newDB(t, log, storage)
	verify(t, d, mod(1))
	verify(t, d, mod(2))
	wantRequests(t, log, "/", 0)
	if n := metric(t, d, "modgate_sumdb_lookups_total", "hit"); n < 2 {
		t.Errorf("%v hits, want 2 at least", n)
	}
}

// Somebody has written one record into the storage, with the id of another whose
// tile nobody has stored. It costs the requests of its proof and is replaced.
func TestPoisonedRecord(t *testing.T) {
	t.Parallel()
	log := newLog(t, 100_000)
	add(log, mod(1), mod(2))
	log.Fill(100)
	storage := sumdbtest.NewStorage()
	verify(t, newDB(t, log, storage), mod(1))
	const name = "sumdb/sum.test/db/record/example.com/!mod2@v1.2.3"
	evil := sumdbtest.Hash("evil")
	poison := fmt.Appendf(nil, "5000\n%[1]s %[2]s %[3]s\n%[1]s %[2]s/go.mod %[3]s\n\n", mod(2).Path, mod(2).Version, evil)
	for tile, lie := range map[string]sumdbtest.Lie{
		"comes":     nil,
		"is forged": sumdbtest.FlipBit("/tile/8/0/019", 7),
	} {
		storage.Set(name, poison)
		log.Lie()
		if lie != nil {
			log.Lie(lie)
		}
		log.Forget()
		d := newDB(t, log, storage)
		if err := d.Verify(t.Context(), mod(2), "zip", evil); !errors.As(err, new(*sumdb.MismatchError)) {
			t.Errorf("tile %s: the hash of the poisoned record: %v, want a mismatch", tile, err)
		}
		verify(t, d, mod(2))
		if lie == nil {
			wantRequests(t, log, "/tile/", 2)
			wantRequests(t, log, "/lookup/", 1)
		}
		log.Lie()
		wantStored(t, log, storage)
	}
}

// A record whose tile is gone serves as long as the remote is in trouble, and is
// proven as soon as that ends.
func TestRecordWithoutItsTile(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	add(log, mod(1))
	log.Fill(1000)
	stall := make(chan struct{})
	defer close(stall)
	for name, lie := range map[string]sumdbtest.Lie{
		"fails":   sumdbtest.Say("/", 500, ""),
		"is slow": sumdbtest.Stall("/", stall),
	} {
		log.Lie()
		storage := sumdbtest.NewStorage()
		verify(t, newDB(t, log, storage), mod(1))
		const tile = "sumdb/sum.test/db/tile/8/0/003"
		if _, err := storage.Get(t.Context(), tile); err != nil {
			t.Fatal(err)
		}
		storage.Set(tile, nil)
		log.Lie(lie)
		d := newDB(t, log, storage, func(c *sumdb.Config) { c.Timeout = time.Second })
		if err := verifyErr(t.Context(), d, mod(1)); err != nil {
			t.Errorf("the remote %s: %v", name, err)
		}
		log.Lie()
		log.Forget()
		d = newDB(t, log, storage)
		verify(t, d, mod(1))
		verify(t, d, mod(1))
		wantRequests(t, log, "/", 1)
		if _, err := storage.Get(t.Context(), tile); err != nil {
			t.Errorf("the tile is not stored again: %v", err)
		}
	}
}

// What another process has stored is used, also if its head is newer.
func TestOtherProcessWasFirst(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	storage := sumdbtest.NewStorage()
	a, b := newDB(t, log, storage), newDB(t, log, storage)
	verify(t, a, mod(1))
	verify(t, b, mod(1))
	log.Fill(1000)
	add(log, mod(2))
	verify(t, a, mod(2))
	log.Lie(sumdbtest.Say("/", 500, ""))
	verify(t, b, mod(2))
	if err := (&goClient{t: t, log: log, mirror: newMirror(t, b)}).download(mod(1), mod(2)); err != nil {
		t.Error(err)
	}
}

// Nothing that is stored is needed to go on, but the head, which must not be
// forgotten.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk is broken")
	fail := func(ops string, names ...string) func(op, name string) error {
		return func(op, name string) error {
			for _, n := range names {
				if strings.Contains(ops, op) && strings.Contains(name, n) {
					return broken
				}
			}
			return nil
		}
	}
	tests := []struct {
		name  string
		fault func(op, name string) error
		works bool
	}{
		{"read-only", fail("put swap delete", ""), true},
		{"tiles and records unreadable", fail("get", "/tile/", "/record/"), true},
		{"head unreadable", fail("get", "/latest"), false},
		{"evidence unreadable", fail("get", "/evidence/"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t, 300)
			add(log, mod(1))
			log.Fill(10)
			storage := sumdbtest.NewStorage()
			storage.Fault(test.fault)
			d := newDB(t, log, storage)
			err := verifyErr(t.Context(), d, mod(1))
			if test.works && err != nil || !test.works && !errors.Is(err, broken) {
				t.Fatalf("first lookup: %v", err)
			}
			if test.works {
				log.Fill(500)
				add(log, mod(2))
				verify(t, d, mod(2))
			}
			// Once the disk is mended, the head that could not be stored is.
			storage.Fault(nil)
			log.Fill(3)
			add(log, mod(3))
			verify(t, d, mod(3))
			head, _ := log.Head(log.Size())
			if have, err := storage.Get(t.Context(), "sumdb/sum.test/db/latest"); err != nil || !bytes.Equal(have, head) {
				t.Errorf("stored head: %v\n%s", err, have)
			}
		})
	}
}

// A head that could not be stored is stored with the next lookup, though that
// does not move it.
func TestUnsavedHead(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1), mod(2))
	storage := sumdbtest.NewStorage()
	storage.Fault(func(op, _ string) error {
		if op == "swap" {
			return errors.New("no space")
		}
		return nil
	})
	d := newDB(t, log, storage)
	verify(t, d, mod(1))
	storage.Fault(nil)
	verify(t, d, mod(2))
	if _, err := storage.Get(t.Context(), "sumdb/sum.test/db/latest"); err != nil {
		t.Error(err)
	}
}

// A storage that never agrees ends a lookup, and not by looking away.
func TestSwapNeverAgrees(t *testing.T) {
	t.Parallel()
	for _, pinned := range []bool{false, true} {
		log := newLog(t, 300)
		add(log, mod(1))
		storage := sumdbtest.NewStorage()
		d := newDB(t, log, storage)
		if pinned {
			verify(t, d, mod(1))
		}
		log.Fill(300)
		add(log, mod(2))
		storage.Fault(func(op, name string) error {
			if op == "swap" {
				return sumdb.ErrConflict
			}
			return nil
		})
		if err := verifyErr(t.Context(), d, mod(2)); !errors.Is(err, sumdb.ErrConflict) {
			t.Errorf("pinned %t: %v, want ErrConflict", pinned, err)
		}
		storage.Fault(nil)
		verify(t, d, mod(2))
	}
}

// Two processes share a storage. Each swap of the one meets a head that the
// other has stored in between: an older one, a newer one, or one of a fork.
func TestSwapConflict(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*sumdbtest.Log, *sumdbtest.Storage, *sumdb.DB) {
		log := newLog(t, 300)
		add(log, mod(1))
		storage := sumdbtest.NewStorage()
		d := newDB(t, log, storage)
		verify(t, d, mod(1))
		log.Fill(500)
		add(log, mod(2))
		log.Fill(500)
		return log, storage, d
	}
	// meanwhile stores head right before the next swap.
	meanwhile := func(storage *sumdbtest.Storage, head []byte) {
		var once sync.Once
		storage.Fault(func(op, name string) error {
			if op == "swap" && strings.HasSuffix(name, "/latest") {
				once.Do(func() { storage.Set(name, head) })
			}
			return nil
		})
	}
	stored := func(t *testing.T, storage *sumdbtest.Storage) string {
		data, err := storage.Get(t.Context(), "sumdb/sum.test/db/latest")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return string(data)
	}

	for name, size := range map[string]int64{"older": 500, "the same": 1302, "newer": 1400} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, storage, d := setup(t)
			answer, err := log.SumDB(t.Context(), log.Name(), "/lookup/example.com/!mod2@v1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			log.Lie(sumdbtest.Say("/lookup/", 200, string(answer)))
			log.Fill(200)
			head, err := log.Head(size)
			if err != nil {
				t.Fatal(err)
			}
			want, _ := log.Head(max(size, 1302))
			meanwhile(storage, head)
			verify(t, d, mod(2))
			if got := stored(t, storage); got != string(want) {
				t.Errorf("stored head is\n%swant\n%s", got, want)
			}
			verify(t, newDB(t, log, storage), mod(2))
		})
	}
	t.Run("fork", func(t *testing.T) {
		t.Parallel()
		log, storage, d := setup(t)
		evil := log.ForkAt(400)
		add(evil, mod(66))
		evil.Fill(299)
		head, _ := evil.Head(700)
		meanwhile(storage, head)
		wantRefused(t, verifyErr(t.Context(), d, mod(2)))
		if got := stored(t, storage); got != string(head) {
			t.Errorf("stored head is\n%swant\n%s", got, head)
		}
	})
	t.Run("removed", func(t *testing.T) {
		t.Parallel()
		log, storage, d := setup(t)
		meanwhile(storage, nil)
		verify(t, d, mod(2))
		if want, _ := log.Head(1302); stored(t, storage) != string(want) {
			t.Errorf("stored head is\n%s", stored(t, storage))
		}
	})
}

// Many lookups, in two processes with one storage, while the log grows.
func TestConcurrentReplicas(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	storage := sumdbtest.NewStorage()
	dbs := []*sumdb.DB{newDB(t, log, storage), newDB(t, log, storage)}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > 80 {
					return
				}
				add(log, mod(i))
				log.Fill(40)
				for _, d := range dbs {
					if err := verifyErr(t.Context(), d, mod(i)); err != nil {
						t.Errorf("%d: %v", i, err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, d := range dbs {
		if n := metric(t, d, "modgate_sumdb_alarms_total", ""); n != 0 {
			t.Errorf("%v alarms", n)
		}
	}
	// All of it is served by a third process without a remote.
	log.Lie(sumdbtest.Say("/", 500, ""))
	third := newDB(t, log, storage)
	for i := 1; i <= 80; i++ {
		verify(t, third, mod(i))
	}
}

func TestTilesAreStoredOnce(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage)
	for i := range 20 {
		add(log, mod(i))
		log.Fill(100)
		verify(t, d, mod(i))
		verify(t, d, mod(i/2))
	}
	wantStoredOnce(t, storage)
}

// wantStoredOnce demands that no tile is stored in two widths.
func wantStoredOnce(t *testing.T, storage *sumdbtest.Storage) {
	t.Helper()
	seen := make(map[string]string)
	for _, name := range storage.Names("sumdb/") {
		if !strings.Contains(name, "/tile/") {
			continue
		}
		base, _, _ := strings.Cut(name, ".p/")
		if seen[base] != "" {
			t.Errorf("stored twice: %s and %s", seen[base], name)
		}
		seen[base] = name
	}
}
