package sumdb_test

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"golang.org/x/mod/module"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	m := mod(1)
	add(log, m)
	log.Fill(100)
	d := newDB(t, log, sumdbtest.NewStorage())

	t.Run("both lines from one lookup", func(t *testing.T) {
		verify(t, d, m)
		wantRequests(t, log, "/lookup/", 1)
	})
	t.Run("mismatch", func(t *testing.T) {
		for _, kind := range []string{"zip", "mod"} {
			err := d.Verify(t.Context(), m, kind, sumdbtest.Hash("evil"))
			var mismatch interface{ Mismatch() (want, got string) }
			if !errors.As(err, &mismatch) || errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%s: %v, want a mismatch", kind, err)
			}
			want, got := mismatch.Mismatch()
			if got != sumdbtest.Hash("evil") || (want != zipHash(m)) != (kind == "mod") {
				t.Errorf("%s: want %s, got %s", kind, want, got)
			}
		}
	})
	t.Run("the hash of the other file is a mismatch", func(t *testing.T) {
		if err := d.Verify(t.Context(), m, "zip", modHash(m)); !errors.As(err, new(*sumdb.MismatchError)) {
			t.Errorf("%v, want a mismatch", err)
		}
	})
	t.Run("unknown version is absent", func(t *testing.T) {
		if err := verifyErr(t.Context(), d, mod(2)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v, want fs.ErrNotExist", err)
		}
	})
	t.Run("absence is not remembered", func(t *testing.T) {
		add(log, mod(2))
		verify(t, d, mod(2))
	})
	t.Run("unknown kind", func(t *testing.T) {
		if err := d.Verify(t.Context(), m, "info", zipHash(m)); err == nil || errors.As(err, new(*sumdb.MismatchError)) {
			t.Errorf("%v, want a plain error", err)
		}
	})
	t.Run("invalid modules are not asked for", func(t *testing.T) {
		log.Forget()
		for _, bad := range []module.Version{{}, {Path: "x"}, {Path: "example.com/../x", Version: "v1.0.0"}, {Path: "example.com/x", Version: "master"}, {Path: "example.com/x/v2", Version: "v1.0.0"}} {
			if err := d.Verify(t.Context(), bad, "zip", "h1:"); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		wantRequests(t, log, "/", 0)
	})
}

func TestVerifyEmptyAndTinyLogs(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 1, 255, 256, 257} {
		for _, after := range []int{0, 1, 255, 256} {
			log := newLog(t, before)
			add(log, mod(1))
			log.Fill(after)
			verify(t, newDB(t, log, sumdbtest.NewStorage()), mod(1))
		}
	}
}

func TestPrivateIsNeverForwarded(t *testing.T) {
	t.Parallel()
	log := newLog(t, 10)
	secret := module.Version{Path: "corp.example/secret", Version: "v1.0.0"}
	add(log, secret)
	d := newDB(t, log, sumdbtest.NewStorage(), func(c *sumdb.Config) {
		c.Private = func(path string) bool { return module.MatchPrefixPatterns("corp.example", path) }
	})
	d.Prepare(t.Context(), secret)
	if err := d.Verify(t.Context(), secret, "zip", zipHash(secret)); !errors.Is(err, sumdb.ErrPrivate) {
		t.Errorf("%v, want ErrPrivate", err)
	}
	wantRequests(t, log, "/", 0)
}

func TestOneLookupForAllWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, 1000)
		add(log, mod(1))
		release := make(chan struct{})
		log.Lie(sumdbtest.Stall("/lookup/", release))
		d := newDB(t, log, sumdbtest.NewStorage())

		// The first to ask leaves before the answer comes.
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := verifyErr(ctx, d, mod(1)); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled waiter: %v", err)
			}
		})
		synctest.Wait()
		for range 20 {
			wg.Go(func() {
				d.Prepare(t.Context(), mod(1))
				verify(t, d, mod(1))
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		wantRequests(t, log, "/lookup/", 1)
	})
}

func TestLookupEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, 1000)
		add(log, mod(1))
		for _, path := range []string{"/lookup/", "/tile/", "/"} {
			log.Lie(sumdbtest.Stall(path, make(chan struct{})))
			d := newDB(t, log, sumdbtest.NewStorage())
			start := time.Now()
			err := verifyErr(t.Context(), d, mod(1))
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 11*time.Second {
				t.Errorf("stall at %s: %v after %v", path, err, time.Since(start))
			}
			// What stalled is over: nothing sticks.
			log.Lie()
			verify(t, d, mod(1))
		}
	})
}

// A first lookup does not depend on /latest.
func TestWithoutLatest(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1000)
	add(log, mod(1))
	log.Fill(5)
	add(log, mod(2))
	log.Lie(sumdbtest.Say("/latest", 404, ""))
	d := newDB(t, log, sumdbtest.NewStorage())
	verify(t, d, mod(1))
	verify(t, d, mod(2))
	log.Fill(300)
	add(log, mod(3))
	verify(t, d, mod(3))
}

// roundTrips returns how many round trips of 50 ms fn takes, measured on the
// clock of the bubble.
func roundTrips(t *testing.T, fn func()) float64 {
	t.Helper()
	start := time.Now()
	fn()
	return float64(time.Since(start)) / float64(50*time.Millisecond)
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Three levels of tiles, as a database of 65,536 records and more has.
		log := newLog(t, 33000)
		add(log, mod(1), mod(2))
		log.Fill(33000)
		add(log, mod(3))
		log.Fill(10)
		log.Lie(sumdbtest.Delay(50 * time.Millisecond))
		d := newDB(t, log, sumdbtest.NewStorage())

		if n := roundTrips(t, func() { verify(t, d, mod(1)) }); n != 2 {
			t.Errorf("first lookup of all: %v round trips, want 2", n)
		}
		if n := roundTrips(t, func() { verify(t, d, mod(2)) }); n != 1 {
			t.Errorf("lookup with tiles at hand: %v round trips, want 1", n)
		}
		if n := roundTrips(t, func() { verify(t, d, mod(3)) }); n > 2 {
			t.Errorf("cold lookup: %v round trips, want at most 2", n)
		}
		if n := roundTrips(t, func() { verify(t, d, mod(3)) }); n != 0 {
			t.Errorf("repeated lookup: %v round trips, want 0", n)
		}
		log.Fill(1000)
		add(log, mod(4))
		log.Fill(300)
		if n := roundTrips(t, func() { verify(t, d, mod(4)) }); n != 2 {
			t.Errorf("lookup that moves the pinned head: %v round trips, want 2", n)
		}
	})
}

func TestRequestsPer100Modules(t *testing.T) {
	t.Parallel()
	log := newLog(t, 0)
	for i := range 100 {
		log.Fill(300)
		add(log, mod(i))
	}
	log.Fill(300)
	// Each answer has a head of its own, which must not cost tiles of its own.
	log.Lie(oldHeads(log))
	d := newDB(t, log, sumdbtest.NewStorage())
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := verifyErr(t.Context(), d, mod(i)); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	// 100 lookups, 100 tiles of level 0, 2 of level 1, the right edge, /latest.
	n := len(log.Requests("/"))
	t.Logf("%d requests for 100 modules far from each other", n)
	if n > 210 {
		t.Errorf("%d requests: %q", n, log.Requests("/tile"))
	}
	seen := make(map[string]bool)
	for _, p := range log.Requests("/") {
		if seen[p] {
			t.Errorf("%s was asked for twice", p)
		}
		seen[p] = true
	}
}
