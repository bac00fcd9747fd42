package sumdb_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/module"
)

const evidence = "sumdb/sum.test/db/evidence/fork"

// metric returns the value of one series of d.
func metric(t *testing.T, d interface{ Collectors() []prometheus.Collector }, name, label string) float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(d.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			matches := label == ""
			for _, l := range m.Label {
				matches = matches || l.GetValue() == label
			}
			if f.GetName() == name && matches {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s %s", name, label)
	return 0
}

// forked returns a log of 800 records of which mod(1) is number 300 and mod(5)
// number 550, and another that has the first common records with it, then
// others, and mod(2). Both are signed by one key; only the second has mod(2).
func forked(t *testing.T, common int64, fill int) (good, evil *sumdbtest.Log) {
	t.Helper()
	good = newLog(t, 300)
	add(good, mod(1))
	good.Fill(249)
	add(good, mod(5))
	good.Fill(249)
	evil = good.ForkAt(common)
	odd := module.Version{Path: "evil.example/odd", Version: "v1.0.0"}
	add(evil, odd, mod(2))
	evil.Fill(fill)
	return good, evil
}

// show makes log answer as other does.
func show(log, other *sumdbtest.Log) { log.Lie(sumdbtest.As("/", other)) }

func TestFork(t *testing.T) {
	t.Parallel()
	for _, common := range []int64{10, 255, 256, 512, 600, 799, 800} {
		for _, fill := range []int{0, 100, 798 - int(common), 1000} {
			for _, cold := range []bool{false, true} {
				if fill < 0 || common == 800 {
					continue
				}
				t.Run(fmt.Sprintf("common %d fill %d cold %t", common, fill, cold), func(t *testing.T) {
					t.Parallel()
					testFork(t, common, fill, cold)
				})
			}
		}
	}
}

func testFork(t *testing.T, common int64, fill int, cold bool) {
	good, evil := forked(t, common, fill)
	storage := sumdbtest.NewStorage()
	var text bytes.Buffer
	withLog := func(c *sumdb.Config) { c.Logger = slog.New(slog.NewTextHandler(&text, nil)) }
	d := newDB(t, good, storage, withLog)
	verify(t, d, mod(1))
	latest, _ := storage.Get(t.Context(), "sumdb/sum.test/db/latest")
	if cold {
		for _, name := range storage.Names("sumdb/sum.test/db/tile/") {
			storage.Set(name, nil)
		}
		d = newDB(t, good, storage, withLog)
	}

	show(good, evil)
	err := verifyErr(t.Context(), d, mod(2))
	wantRefused(t, err)
	if now, _ := storage.Get(t.Context(), "sumdb/sum.test/db/latest"); !bytes.Equal(now, latest) {
		t.Errorf("the pinned head has moved to\n%s", now)
	}
	verify(t, d, mod(1))
	if evil.Size() < 800 && !errors.Is(err, sumdb.ErrUntrusted) {
		// There are two heads, but without the tiles of our own tree, which
		// the remote does not have any more, there is no proof.
		return
	}
	if n := metric(t, d, "modgate_sumdb_alarms_total", ""); n != 1 {
		t.Errorf("%v alarms, want 1 (%v)", n, err)
	}
	if !strings.Contains(text.String(), "level=ERROR") {
		t.Errorf("no line at level Error:\n%s", &text)
	}
	if !errors.Is(err, sumdb.ErrUntrusted) || !strings.Contains(err.Error(), evidence) {
		t.Errorf("%v, want ErrUntrusted and where the evidence is", err)
	}
	testUntrusted(t, d, good, evil, storage)
}

// testUntrusted checks what is so once d has seen good and evil.
func testUntrusted(t *testing.T, d *sumdb.DB, good, evil *sumdbtest.Log, storage *sumdbtest.Storage) {
	t.Helper()
	text, _ := storage.Get(t.Context(), evidence)
	for _, l := range []*sumdbtest.Log{good, evil} {
		if head, _ := l.Head(l.Size()); !bytes.Contains(text, head) {
			t.Errorf("evidence lacks\n%s\n%s", head, text)
		}
	}
	good.Lie()
	good.Forget()
	add(good, mod(3))
	for _, d := range []*sumdb.DB{d, newDB(t, good, storage)} {
		if err := verifyErr(t.Context(), d, mod(3)); !errors.Is(err, sumdb.ErrUntrusted) {
			t.Errorf("honest again: %v, want ErrUntrusted", err)
		}
		verify(t, d, mod(1))
		if rec := get(t, newMirror(t, d), "sum.test/db/lookup/example.com/!mod1@v1.2.3"); rec.Code != 200 {
			t.Errorf("mirror: %d %s", rec.Code, rec.Body)
		}
		if rec := get(t, newMirror(t, d), "sum.test/db/lookup/example.com/!mod3@v1.2.3"); rec.Code != 503 || !strings.Contains(rec.Body.String(), evidence) {
			t.Errorf("mirror: %d %s", rec.Code, rec.Body)
		}
	}
	wantRequests(t, good, "/", 0)
	storage.Set(evidence, nil)
	verify(t, newDB(t, good, storage), mod(3))
}

// The head of a fork is an alarm even if the record is in both histories.
func TestForkSeenInUnusedHead(t *testing.T) {
	t.Parallel()
	for _, fill := range []int{0, 100, 198, 1000} {
		t.Run(fmt.Sprint(fill), func(t *testing.T) {
			t.Parallel()
			good, evil := forked(t, 600, fill)
			storage := sumdbtest.NewStorage()
			d := newDB(t, good, storage)
			verify(t, d, mod(1))
			verify(t, d, mod(5)) // the tile of which shows the smaller forks
			storage.Set("sumdb/sum.test/db/record/example.com/!mod1@v1.2.3", nil)
			d = newDB(t, good, storage)
			show(good, evil)
			if err := verifyErr(t.Context(), d, mod(1)); !errors.Is(err, sumdb.ErrUntrusted) {
				t.Fatalf("%v, want ErrUntrusted", err)
			}
			if n := metric(t, d, "modgate_sumdb_alarms_total", ""); n != 1 {
				t.Errorf("%v alarms, want 1", n)
			}
		})
	}
}

func TestRollback(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	log.Fill(100)
	add(log, mod(2))
	log.Fill(399)
	add(log, mod(3))
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage)
	verify(t, d, mod(1))
	latest, _ := storage.Get(t.Context(), "sumdb/sum.test/db/latest")

	t.Run("an older head is no alarm and moves nothing", func(t *testing.T) {
		log.Rewind(500)
		verify(t, d, mod(2))
		verify(t, newDB(t, log, storage), mod(2))
		if now, _ := storage.Get(t.Context(), "sumdb/sum.test/db/latest"); !bytes.Equal(now, latest) {
			t.Errorf("the pinned head has moved to\n%s", now)
		}
		if n := metric(t, d, "modgate_sumdb_alarms_total", ""); n != 0 {
			t.Errorf("%v alarms", n)
		}
		log.Rewind(0)
		verify(t, d, mod(3))
	})
	t.Run("a backup that goes on from there is a fork", func(t *testing.T) {
		restored := log.ForkAt(500)
		add(restored, mod(4))
		show(log, restored)
		if err := verifyErr(t.Context(), d, mod(4)); !errors.Is(err, sumdb.ErrUntrusted) {
			t.Errorf("%v, want ErrUntrusted", err)
		}
	})
}

// The size of the tree is what the head metric shows, and it only grows.
func TestHeadMoves(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage)
	size := func() float64 { return metric(t, d, "modgate_sumdb_head_size", "sum.test/db") }
	if size() != 0 {
		t.Errorf("size %v before the first lookup", size())
	}
	verify(t, d, mod(1))
	if size() != 301 {
		t.Errorf("size %v, want 301", size())
	}
	log.Fill(1000)
	add(log, mod(2))
	verify(t, d, mod(1))
	if size() != 301 {
		t.Errorf("size %v: moved without need", size())
	}
	verify(t, d, mod(2))
	if size() != 1302 {
		t.Errorf("size %v, want 1302", size())
	}
	partial := 0
	for _, name := range storage.Names("sumdb/sum.test/db/tile/") {
		if strings.Contains(name, ".p/") {
			partial++
		}
	}
	if partial != 2 {
		t.Errorf("%d partial tiles stored, want the 2 of the pinned edge: %q", partial, storage.Names("sumdb/"))
	}
}

// A latest head whose tree the server cannot show is not held on to.
func TestWrongFirstHead(t *testing.T) {
	t.Parallel()
	good, evil := forked(t, 300, 900)
	head, err := evil.Head(evil.Size())
	if err != nil {
		t.Fatal(err)
	}
	wrong := sumdbtest.Say("/latest", 200, string(head))
	for name, try := range map[string]func(*sumdb.DB){
		"lookup": func(d *sumdb.DB) { wantRefused(t, verifyErr(t.Context(), d, mod(5))) },
		"latest": func(d *sumdb.DB) {
			if rec := get(t, newMirror(t, d), "sum.test/db/latest"); rec.Code != 502 {
				t.Errorf("latest: %d %s", rec.Code, rec.Body)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			storage := sumdbtest.NewStorage()
			d := newDB(t, good, storage)
			good.Lie(wrong)
			try(d)
			if names := storage.Names("sumdb/sum.test/db/latest"); len(names) != 0 {
				t.Error("it was pinned")
			}
			good.Lie()
			verify(t, d, mod(5))
		})
	}
}

// Nothing is pinned before the first record is proven, whatever was signed.
func TestFirstRecordForged(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	early, err := log.Head(300)
	if err != nil {
		t.Fatal(err)
	}
	add(log, mod(1))
	log.Fill(300)
	log.Lie(sumdbtest.Say("/latest", 200, string(early)), sumdbtest.Replace("/lookup/", zipHash(mod(1)), sumdbtest.Hash("evil")))
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage)
	wantRefused(t, verifyErr(t.Context(), d, mod(1)))
	if names := storage.Names("sumdb/sum.test/db/latest"); len(names) != 0 || metric(t, d, "modgate_sumdb_head_size", "") != 0 {
		t.Error("a head was pinned")
	}
	log.Lie(sumdbtest.Say("/latest", 200, string(early)))
	verify(t, d, mod(1))
}

// Clients that know a larger tree than ours make us ask for the latest head,
// at most once a minute, and it never takes us back.
func TestRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, 300)
		add(log, mod(1))
		storage := sumdbtest.NewStorage()
		d := newDB(t, log, storage)
		mirror := newMirror(t, d)
		verify(t, d, mod(1))
		size := func() float64 { return metric(t, d, "modgate_sumdb_head_size", "") }
		tile := func(path, cache string) {
			t.Helper()
			rec := get(t, mirror, "sum.test/db/tile/8/0/"+path)
			if rec.Code != 200 || rec.Header().Get("Cache-Control") != cache {
				t.Errorf("%s: %d %s", path, rec.Code, rec.Header().Get("Cache-Control"))
			}
		}
		log.Fill(400)
		tile("001", "public, max-age=31536000, immutable")
		if size() != 701 {
			t.Errorf("head of size %v, want 701", size())
		}
		log.Forget()
		tile("001", "public, max-age=31536000, immutable")
		wantRequests(t, log, "/", 0)

		log.Fill(400)
		tile("002", "no-cache")
		wantRequests(t, log, "/latest", 0)
		time.Sleep(time.Minute)
		tile("002", "public, max-age=31536000, immutable")
		wantRequests(t, log, "/latest", 1)
		if size() != 1101 {
			t.Errorf("head of size %v, want 1101", size())
		}

		time.Sleep(time.Minute)
		log.Fill(400)
		old, _ := log.Head(600)
		log.Lie(sumdbtest.Say("/latest", 200, string(old)))
		tile("004", "no-cache")
		if size() != 1101 {
			t.Errorf("head of size %v, want 1101", size())
		}
		evil := log.ForkAt(1000)
		add(evil, mod(66))
		evil.Fill(1000)
		show(log, evil)
		time.Sleep(time.Minute)
		if rec := get(t, mirror, "sum.test/db/tile/8/0/006"); rec.Code != 503 || !strings.Contains(rec.Body.String(), "SECURITY") {
			t.Errorf("fork: %d %s", rec.Code, rec.Body)
		}
	})
}

// Signatures that we do not know are not passed on.
func TestForeignSignatures(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	want, _ := log.Head(301)
	foreign := strings.Repeat("— witness.example AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", 50)
	log.Lie(func(a *sumdbtest.Answer) {
		if !strings.HasPrefix(a.Path, "/tile/") {
			a.Body = append(a.Body, foreign...)
		}
	})
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage)
	verify(t, d, mod(1))
	if rec := get(t, newMirror(t, d), "sum.test/db/latest"); rec.Body.String() != string(want) {
		t.Errorf("served %q", rec.Body)
	}
	if have, _ := storage.Get(t.Context(), "sumdb/sum.test/db/latest"); !bytes.Equal(have, want) {
		t.Errorf("stored %q", have)
	}
}

// A head that is compared but not used leaves nothing behind.
func TestUnusedHeadIsNotStored(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1), mod(2), mod(3))
	log.Fill(300)
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage, func(c *sumdb.Config) { c.HeadCheck = 1 })
	verify(t, d, mod(1))
	before := storage.Names("sumdb/sum.test/db/tile/")
	add(log, mod(4))
	log.Fill(400)
	verify(t, d, mod(2))
	// A full tile is the same in every larger tree, and thus worth keeping.
	want := slices.Sorted(slices.Values(append(before, "sumdb/sum.test/db/tile/8/0/002")))
	if after := storage.Names("sumdb/sum.test/db/tile/"); !slices.Equal(after, want) {
		t.Errorf("stored %q, want %q", after, want)
	}
	if n := metric(t, d, "modgate_sumdb_head_size", ""); n != 603 {
		t.Errorf("head of size %v: moved without need", n)
	}
	verify(t, d, mod(4))
	wantOnce(t, log)
}
