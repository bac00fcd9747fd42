package sumdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
)

// wantRefused demands that err is no proof, and no verdict that would make
// others believe that the module is absent or its bytes are wrong.
func wantRefused(t *testing.T, err error) {
	t.Helper()
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*sumdb.MismatchError)) {
		t.Fatalf("error %v, want one that is no verdict", err)
	}
}

// wantStored demands that storage has only what an honest log says.
func wantStored(t *testing.T, honest *sumdbtest.Log, s *sumdbtest.Storage) {
	t.Helper()
	prefix := "sumdb/" + honest.Name() + "/"
	for _, name := range s.Names(prefix) {
		path := strings.TrimPrefix(name, prefix)
		have, err := s.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		switch kind, rest, _ := strings.Cut(path, "/"); kind {
		case "tile":
			want, err = honest.SumDB(t.Context(), honest.Name(), "/"+path)
		case "record":
			want, err = honest.SumDB(t.Context(), honest.Name(), "/lookup/"+rest)
			want = want[:min(len(want), len(have))]
		default:
			continue
		}
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("stored %s is not what the log says (%v)", name, err)
		}
	}
}

func TestLies(t *testing.T) {
	t.Parallel()
	other, err := sumdbtest.New("sum.test/db")
	if err != nil {
		t.Fatal(err)
	}
	target := mod(1)
	lies := map[string]sumdbtest.Lie{
		"empty lookup":           sumdbtest.Say("/lookup/", 200, ""),
		"html lookup":            sumdbtest.Say("/lookup/", 200, "<html>\n<p>hello\n\n</html>"),
		"lookup 500":             sumdbtest.Say("/lookup/", 500, "trouble"),
		"lookup 403":             sumdbtest.Say("/lookup/", 403, "no"),
		"hash changed":           sumdbtest.Replace("/lookup/", zipHash(target), sumdbtest.Hash("evil")),
		"version changed":        sumdbtest.Replace("/lookup/", "v1.2.3 ", "v1.2.4 "),
		"go.mod line cut":        sumdbtest.Replace("/lookup/", fmt.Sprintf("%s %s/go.mod %s\n", target.Path, target.Version, modHash(target)), ""),
		"unauthenticated line":   sumdbtest.Replace("/lookup/", "\n\n", "\nexample.com/Mod1 v1.2.3 "+sumdbtest.Hash("evil")+"\n\n"),
		"id changed":             sumdbtest.Replace("/lookup/", "300\n", "301\n"),
		"negative id":            sumdbtest.Replace("/lookup/", "300\n", "-300\n"),
		"huge id":                sumdbtest.Replace("/lookup/", "300\n", "9223372036854775807\n"),
		"tree size changed":      sumdbtest.Replace("/lookup/", "tree\n701\n", "tree\n801\n"),
		"unsigned head":          sumdbtest.Replace("/lookup/", "\n— ", "\n- "),
		"head of another signer": sumdbtest.As("/lookup/", withSameRecords(other, target)),
		"html tiles":             sumdbtest.Say("/tile/", 200, "<html>"),
		"empty tiles":            sumdbtest.Say("/tile/", 200, ""),
		"no tiles":               sumdbtest.Say("/tile/", 404, ""),
		"tiles 500":              sumdbtest.Say("/tile/", 500, ""),
		"level 0 missing":        sumdbtest.Say("/tile/8/0/", 410, ""),
		"tiles of zeros":         sumdbtest.Say("/tile/8/0/001", 200, strings.Repeat("\x00", 8192)),
	}
	for _, tile := range []string{"/tile/8/0/001", "/tile/8/0/002.p/", "/tile/8/1/000.p/"} {
		for _, bit := range []int{0, 1, 511, 3000, 44*256 + 3, 65535} {
			lies[fmt.Sprintf("bit %d of %s", bit, tile)] = sumdbtest.FlipBit(tile, bit)
		}
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLog(t, 300)
			add(log, target)
			log.Fill(200)
			add(log, mod(2))
			log.Fill(199)
			storage := sumdbtest.NewStorage()
			d := newDB(t, log, storage)
			log.Lie(lie)
			err := verifyErr(t.Context(), d, target)
			wantRefused(t, err)
			if errors.Is(err, sumdb.ErrUntrusted) {
				t.Errorf("%v: trust ended without two contradicting signatures", err)
			}
			log.Lie()
			wantStored(t, log, storage)
			verify(t, d, target)
			// The same with a pinned head and tiles at hand.
			log.Lie(lie)
			_ = verifyErr(t.Context(), d, mod(2))
			log.Lie()
			wantStored(t, log, storage)
			verify(t, d, mod(2))
			verify(t, newDB(t, log, storage), target)
		})
	}
}

// Whoever builds must hear that a proof has failed, not that something cannot be
// had now. Mere trouble must not sound so.
func TestAlarmHasWordsForClients(t *testing.T) {
	t.Parallel()
	target := mod(1)
	for name, c := range map[string]struct {
		lie  sumdbtest.Lie
		want []string // none: no alarm
	}{
		"wrong hash":        {sumdbtest.Replace("/lookup/", zipHash(target), sumdbtest.Hash("evil")), []string{"failed its proof", "evidence/suspect"}},
		"record of another": {sumdbtest.Replace("/lookup/", "example.com/Mod1", "example.com/Mod9"), []string{"failed its proof", "evidence/suspect"}},
		"wrong tile":        {sumdbtest.FlipBit("/tile/8/0/001", 44*256+3), []string{"failed its proof", "evidence/suspect"}},
		"bad signature":     {sumdbtest.Replace("/lookup/", "tree\n", "tree\n1"), []string{"failed its proof", "evidence/suspect"}},
		"another history":   {nil, []string{"contradicted itself", "evidence/fork"}},
		"out of reach":      {sumdbtest.Say("/", 500, ""), nil},
		"no tiles":          {sumdbtest.Say("/tile/", 404, ""), nil},
		"mismatch, no lie":  {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, m := newLog(t, 300), target
			add(log, target)
			log.Fill(400)
			d := newDB(t, log, sumdbtest.NewStorage())
			switch {
			case c.lie != nil:
				log.Lie(c.lie)
			case c.want != nil:
				good, evil := forked(t, 600, 1000)
				d, m = newDB(t, good, sumdbtest.NewStorage()), mod(2)
				verify(t, d, target)
				show(good, evil)
			}
			var public interface{ Public() string }
			err := d.Verify(t.Context(), m, "zip", sumdbtest.Hash("bytes that came"))
			if err == nil || errors.As(err, &public) != (c.want != nil) {
				t.Fatalf("%T %v", err, err)
			}
			for _, part := range c.want {
				if !strings.HasPrefix(public.Public(), "SECURITY: ") || !strings.Contains(public.Public(), part) {
					t.Errorf("%q does not say %q", public.Public(), part)
				}
			}
		})
	}
}

// withSameRecords makes other a log with the right records under another key.
func withSameRecords(other *sumdbtest.Log, m module.Version) *sumdbtest.Log {
	other.Fill(300)
	add(other, m)
	other.Fill(400)
	return other
}

// An authentic record of another module proves nothing (CVE-2026-42501).
func TestRecordOfAnotherModule(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1), mod(2))
	log.Fill(30)
	for _, warm := range []bool{false, true} {
		log.Lie()
		d := newDB(t, log, sumdbtest.NewStorage())
		if warm {
			verify(t, d, mod(3-1))
		}
		log.Lie(func(a *sumdbtest.Answer) {
			if strings.HasPrefix(a.Path, "/lookup/") {
				swapped, err := log.SumDB(t.Context(), log.Name(), "/latest")
				if err == nil {
					block, _ := tlog.FormatRecord(301, recordText(mod(2)))
					a.Status, a.Body = 200, append(block, swapped...)
				}
			}
		})
		err := d.Verify(t.Context(), mod(1), "zip", zipHash(mod(2)))
		wantRefused(t, err)
		if !errors.Is(err, sumdb.ErrForged) {
			t.Errorf("%v, want ErrForged", err)
		}
	}
}

func recordText(m module.Version) []byte {
	return fmt.Appendf(nil, "%s %s %s\n%s %s/go.mod %s\n", m.Path, m.Version, zipHash(m), m.Path, m.Version, modHash(m))
}

// A log that has a second, other record of a module is consistent with itself.
// What was proven first stays for us, and the second is a mismatch there.
func TestSecondRecordOfAModule(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	log.Fill(3)
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage)
	verify(t, d, mod(1))
	log.Add(mod(1), sumdbtest.Hash("evil"), modHash(mod(1)))
	verify(t, d, mod(1))
	d = newDB(t, log, storage)
	if err := d.Verify(t.Context(), mod(1), "zip", sumdbtest.Hash("evil")); !errors.As(err, new(*sumdb.MismatchError)) {
		t.Errorf("%v, want a mismatch", err)
	}
}

// A tile or record that rots in the storage is replaced in the same lookup.
func TestRottenStorage(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1), mod(2))
	log.Fill(400)
	storage := sumdbtest.NewStorage()
	verify(t, newDB(t, log, storage), mod(1))
	names := storage.Names("sumdb/sum.test/db/")
	for _, name := range names {
		if strings.HasSuffix(name, "/latest") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			good, err := storage.Get(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			flipped := bytes.Clone(good)
			flipped[len(flipped)/2] ^= 1
			for _, bad := range [][]byte{flipped, good[:len(good)/2], {}, append(bytes.Clone(good), 'x')} {
				storage.Set(name, bad)
				verify(t, newDB(t, log, storage), mod(1))
				storage.Set("sumdb/sum.test/db/record/example.com/!mod2@v1.2.3", nil)
				verify(t, newDB(t, log, storage), mod(2))
				if now, err := storage.Get(t.Context(), name); err != nil || !bytes.Equal(now, good) {
					t.Errorf("not mended: %v", err)
				}
			}
			wantStored(t, log, storage)
		})
	}
}

// A rotten tile is never served: it is replaced, or there is an error.
func TestMirrorRottenTile(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	log.Fill(400)
	storage := sumdbtest.NewStorage()
	verify(t, newDB(t, log, storage), mod(1))
	const path = "tile/8/0/001"
	good, err := storage.Get(t.Context(), "sumdb/sum.test/db/"+path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[77] ^= 1
	storage.Set("sumdb/sum.test/db/"+path, bad)
	log.Lie(sumdbtest.Say("/", 500, ""))
	if rec := get(t, newMirror(t, newDB(t, log, storage)), "sum.test/db/"+path); rec.Code != 502 {
		t.Errorf("remote in trouble: %d", rec.Code)
	}
	log.Lie()
	if rec := get(t, newMirror(t, newDB(t, log, storage)), "sum.test/db/"+path); rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), good) {
		t.Errorf("remote answers: %d", rec.Code)
	}
	wantStored(t, log, storage)
	// A good one is served even if what proves it is gone.
	log.Lie(sumdbtest.Say("/", 500, ""))
	for _, name := range storage.Names("sumdb/sum.test/db/tile/8/1/") {
		storage.Set(name, nil)
	}
	if rec := get(t, newMirror(t, newDB(t, log, storage)), "sum.test/db/"+path); rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), good) {
		t.Errorf("without its parent: %d", rec.Code)
	} else if c := rec.Header().Get("Cache-Control"); c != "no-cache" {
		t.Errorf("without its parent: may be kept: %q", c)
	}
}

// held is a storage whose first Get of name returns once on is closed.
type held struct {
	*sumdbtest.Storage
	name        string
	taken       atomic.Bool
	reached, on chan struct{}
}

func (h *held) Get(ctx context.Context, name string) ([]byte, error) {
	data, err := h.Storage.Get(ctx, name)
	if strings.HasSuffix(name, h.name) && h.taken.CompareAndSwap(false, true) {
		close(h.reached)
		<-h.on
	}
	return data, err
}

// A rotten tile is read, and while it is on its way another lookup proves the
// right one: the proofs that follow are of that one, and it is what is served.
func TestRottenTileComesLate(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1), mod(2), mod(3))
	log.Fill(400)
	storage := sumdbtest.NewStorage()
	verify(t, newDB(t, log, storage), mod(3))
	const tile = "tile/8/0/001"
	good, err := storage.Get(t.Context(), "sumdb/sum.test/db/"+tile)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[7] ^= 1
	storage.Set("sumdb/sum.test/db/"+tile, bad)
	slow := &held{Storage: storage, name: tile, reached: make(chan struct{}), on: make(chan struct{})}
	d := newDB(t, log, slow)
	first := make(chan error, 1)
	go func() { first <- verifyErr(t.Context(), d, mod(1)) }()
	<-slow.reached
	err = verifyErr(t.Context(), d, mod(2))
	close(slow.on)
	if err := errors.Join(err, <-first); err != nil {
		t.Fatal(err)
	}
	if rec := get(t, newMirror(t, d), "sum.test/db/"+tile); rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), good) {
		t.Errorf("%d, the right tile: %t, the rotten one: %t", rec.Code, bytes.Equal(rec.Body.Bytes(), good), bytes.Equal(rec.Body.Bytes(), bad))
	}
	wantStored(t, log, storage)
}

// A stored head that does not verify is not forgotten in favour of a new one.
func TestRottenHead(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1), mod(2))
	storage := sumdbtest.NewStorage()
	verify(t, newDB(t, log, storage), mod(1))
	for _, bad := range []string{"x", "go.sum database tree\n1\n"} {
		storage.Set("sumdb/sum.test/db/latest", []byte(bad))
		err := verifyErr(t.Context(), newDB(t, log, storage), mod(2))
		wantRefused(t, err)
		if !strings.Contains(err.Error(), "sumdb/sum.test/db/latest") {
			t.Errorf("%v does not name the file", err)
		}
	}
}
