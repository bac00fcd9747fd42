package sumdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"golang.org/x/mod/module"
)

// What our verifier has proven costs a client's requests no upstream request.
func TestMirrorAfterVerify(t *testing.T) {
	t.Parallel()
	log := newLog(t, 66000)
	add(log, mod(1), mod(2))
	log.Fill(5000)
	log.Lie(oldHeads(log))
	d := newDB(t, log, sumdbtest.NewStorage())
	verify(t, d, mod(1))
	verify(t, d, mod(2))
	log.Forget()
	if err := (&goClient{t: t, log: log, mirror: newMirror(t, d)}).download(mod(1), mod(2)); err != nil {
		t.Error(err)
	}
	wantRequests(t, log, "/", 0)
}

// Clients keep their head for years. Those with one from before, from after,
// and from far after our pinned one are all served.
func TestMirrorClientsOfOtherHeads(t *testing.T) {
	t.Parallel()
	log := newLog(t, 3000)
	add(log, mod(1))
	log.Fill(2000)
	add(log, mod(2))
	log.Fill(100)
	for _, size := range []int64{1, 256, 2999, 3001, 5001, 5102} {
		head, err := log.Head(size)
		if err != nil {
			t.Fatal(err)
		}
		log.Rewind(5002)
		d := newDB(t, log, sumdbtest.NewStorage())
		verify(t, d, mod(1))
		log.Rewind(0)
		c := &goClient{t: t, log: log, mirror: newMirror(t, d), latest: head}
		if err := c.download(mod(1), mod(2)); err != nil || c.alarm != "" {
			t.Errorf("client with head of size %d: %v %s", size, err, c.alarm)
		}
	}
}

// A tile that only the client can check is passed on, and not kept.
func TestMirrorTileOfLargerTree(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	storage := sumdbtest.NewStorage()
	d := newDB(t, log, storage)
	verify(t, d, mod(1))
	log.Fill(500)
	log.Lie(sumdbtest.Say("/latest", 500, ""))
	mirror := newMirror(t, d)
	for range 2 {
		log.Forget()
		rec := get(t, mirror, "sum.test/db/tile/8/0/002")
		want, _ := log.SumDB(t.Context(), log.Name(), "/tile/8/0/002")
		if rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), want) || rec.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%d %v", rec.Code, rec.Header())
		}
		wantRequests(t, log, "/tile/8/0/002", 2) // one is ours
	}
	if names := storage.Names("sumdb/sum.test/db/tile/8/0/002"); len(names) != 0 {
		t.Errorf("stored %q without proof", names)
	}
	if rec := get(t, mirror, "sum.test/db/tile/8/0/777"); rec.Code != 404 {
		t.Errorf("tile that no log has: %d", rec.Code)
	}
}

func TestMirrorServesNoLie(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	log.Fill(600)
	tile := "sum.test/db/tile/8/0/002"
	honest, _ := log.SumDB(t.Context(), log.Name(), "/tile/8/0/002")
	for name, lie := range map[string]sumdbtest.Lie{
		"flipped bit": sumdbtest.FlipBit("/tile/8/0/002", 77),
		"html":        sumdbtest.Say("/tile/8/0/002", 200, "<html>"),
		"404":         sumdbtest.Say("/tile/8/0/002", 404, ""),
		"500":         sumdbtest.Say("/tile/8/0/002", 500, ""),
		"parent bad":  sumdbtest.FlipBit("/tile/8/1/000", 8),
	} {
		t.Run(name, func(t *testing.T) {
			log.Lie()
			d := newDB(t, log, sumdbtest.NewStorage())
			mirror := newMirror(t, d)
			if rec := get(t, mirror, "sum.test/db/latest"); rec.Code != 200 && name != "parent bad" {
				t.Fatalf("latest: %d", rec.Code)
			}
			log.Lie(lie)
			if rec := get(t, mirror, tile); rec.Code != 502 && !(name == "parent bad" && rec.Code == 200) {
				t.Errorf("%d %q", rec.Code, rec.Body)
			}
			log.Lie()
			if rec := get(t, mirror, tile); rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), honest) {
				t.Errorf("honest again: %d", rec.Code)
			}
		})
	}
}

func TestMirrorPrivate(t *testing.T) {
	t.Parallel()
	log := newLog(t, 10)
	d := newDB(t, log, sumdbtest.NewStorage(), func(c *sumdb.Config) {
		c.Private = func(path string) bool {
			return path == "corp" || module.MatchPrefixPatterns("corp.example,*.internal", path)
		}
	})
	mirror := newMirror(t, d)
	for _, path := range []string{"corp.example/secret@v1.0.0", "corp.example/!secret/v2@v2.0.0", "git.internal/x@v1.0.0", "corp.example/secret@master", "corp.example/secret@", "corp.example/secret", "corp.example/secret@v1.0.0@v1"} {
		rec := get(t, mirror, "sum.test/db/lookup/"+path)
		if rec.Code != 403 || !strings.Contains(rec.Body.String(), "\tgo env -w 'GONOSUMDB=corp.example,*.internal'\n") {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
		wantText(t, rec)
	}
	wantRequests(t, log, "/", 0)
}

// wantText demands a body that the go command shows.
func wantText(t *testing.T, rec *httptest.ResponseRecorder) {
	t.Helper()
	body := rec.Body.String()
	if ct := rec.Header().Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type %q", ct)
	}
	if cc := rec.Header().Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q", cc)
	}
	if n := strings.Count(body, "\n"); n > 8 || len(body) > 648 || body == "\n" || strings.Contains(body, "\n\n") {
		t.Errorf("%d lines, %d bytes: %q", n, len(body), body)
	}
	for _, r := range body {
		if !unicode.IsGraphic(r) && !unicode.IsSpace(r) {
			t.Errorf("%q in %q", r, body)
		}
	}
}

func TestMirrorPaths(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1))
	log.Fill(300)
	mirror := newMirror(t, newDB(t, log, sumdbtest.NewStorage()))
	long := strings.Repeat("x/", 2000)
	tests := []struct {
		path    string
		code    int
		cache   string
		outcome access.Outcome
	}{
		{"sum.test/db/supported", 200, "no-cache", access.Local},
		{"/sum.test/db/supported", 200, "no-cache", access.Local},
		{"sum.test/db/lookup/example.com/!mod1@v1.2.3", 200, "public, max-age=3600", access.Miss},
		{"sum.test/db/lookup/example.com/!mod1@v1.2.3", 200, "public, max-age=3600", access.Hit},
		{"sum.test/db/latest", 200, "no-cache", access.Hit},
		{"sum.test/db/tile/8/0/001", 200, "public, max-age=31536000, immutable", access.Hit},
		{"sum.test/db/tile/8/0/000", 200, "public, max-age=31536000, immutable", access.Miss},
		{"sum.test/db/tile/8/0/001.p/17", 200, "public, max-age=86400", access.Hit},
		{"sum.test/db/tile/8/0/002.p/89", 200, "public, max-age=86400", access.Hit},
		{"sum.test/db/tile/8/0/002.p/11", 200, "public, max-age=86400", access.Hit},
		{"sum.test/db/tile/8/0/003", 404, "no-store", access.Absent},
		{"sum.test/db/lookup/example.com/unknown@v1.2.3", 404, "no-store", access.Absent},
		{"sum.test/db/lookup/example.com/unknown@v1.2.3", 404, "no-store", access.Negative},

		{"", 404, "no-store", access.Invalid},
		{"sum.golang.org/supported", 404, "no-store", access.Invalid},
		{"sum.test/supported", 404, "no-store", access.Invalid},
		{"sum.test/db", 404, "no-store", access.Invalid},
		{"sum.test/db/", 404, "no-store", access.Invalid},
		{"sum.test/db/supported/", 404, "no-store", access.Invalid},
		{"sum.test/db/supported/x", 404, "no-store", access.Invalid},
		{"sum.test/db//supported", 404, "no-store", access.Invalid},
		{"sum.test//db/supported", 404, "no-store", access.Invalid},
		{"sum.test/db/../db/supported", 404, "no-store", access.Invalid},
		{"sum.test/db/latest/", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/example.com/Mod1@v1.2.3", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/example.com/!mod1@master", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/example.com/!mod1@v1.2", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/example.com/!mod1@v1.2.3/../../x@v1.0.0", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/../latest@v1.0.0", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/example.com/a%00b@v1.0.0", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/example.com/%C3%A9@v1.0.0", 404, "no-store", access.Invalid},
		{"sum.test/db/lookup/" + long + "@v1.0.0", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/data/000", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/9/0/000", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/6/000", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/99999999999/000", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/0/000.p/256", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/0/000.p/0", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/0/-01", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/0/0001", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/0/x999/x999/x999/x999/x999/x999/x999/999", 404, "no-store", access.Invalid},
		{"sum.test/db/tile/8/0/../0/000", 404, "no-store", access.Invalid},
	}
	for _, test := range tests {
		if test.outcome == access.Invalid {
			log.Forget()
		}
		var seen access.Record
		h := access.Handler(mirror, access.Reports{Observe: func(r *access.Record, _ time.Duration) { seen = *r }})
		rec := get(t, h, test.path)
		if rec.Code != test.code || seen.Outcome != test.outcome || rec.Header().Get("Cache-Control") != test.cache || seen.Kind != "sumdb" {
			t.Errorf("%.100s: %d %s %q, want %d %s %q", test.path, rec.Code, seen.Outcome, rec.Header().Get("Cache-Control"), test.code, test.outcome, test.cache)
		}
		if strings.Contains(test.path, "!mod1@v1.2.3") && test.code == 200 && (seen.Module != "example.com/Mod1" || seen.Version != "v1.2.3") {
			t.Errorf("recorded as %s@%s", seen.Module, seen.Version)
		}
		if rec.Code != 200 {
			wantText(t, rec)
		}
		if test.outcome == access.Invalid {
			wantRequests(t, log, "/", 0)
		}
		head := httptest.NewRecorder()
		mirror.ServeHTTP(head, httptest.NewRequest(http.MethodHead, "http://proxy.test/"+strings.TrimPrefix(test.path, "/"), nil))
		if head.Code != rec.Code || rec.Code == 200 && (head.Body.Len() != 0 || head.Header().Get("Content-Length") != fmt.Sprint(rec.Body.Len())) {
			t.Errorf("HEAD %.100s: %d, %d bytes of %s", test.path, head.Code, head.Body.Len(), head.Header().Get("Content-Length"))
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		rec := httptest.NewRecorder()
		mirror.ServeHTTP(rec, httptest.NewRequest(method, "http://proxy.test/sum.test/db/supported", nil))
		if rec.Code != 405 || rec.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", method, rec.Code)
		}
	}
}

func TestMirrorTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, 300)
		add(log, mod(1))
		d := newDB(t, log, sumdbtest.NewStorage())
		mirror := newMirror(t, d)
		stall := make(chan struct{})
		for _, path := range []string{"lookup/example.com/!mod1@v1.2.3", "tile/8/0/000", "latest"} {
			for code, lie := range map[int]sumdbtest.Lie{
				502: sumdbtest.Say("/", 500, "<html>\x1b[31m"),
				504: sumdbtest.Stall("/", stall),
			} {
				log.Lie(lie)
				rec := get(t, mirror, "sum.test/db/"+path)
				if rec.Code != code && !(path == "latest" && rec.Code/100 == 5) {
					t.Errorf("%s: %d, want %d: %s", path, rec.Code, code, rec.Body)
				}
				wantText(t, rec)
			}
		}
		// A client that leaves is not an upstream in trouble.
		log.Lie(sumdbtest.Stall("/", stall))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var seen access.Record
		h := access.Handler(mirror, access.Reports{Observe: func(r *access.Record, _ time.Duration) { seen = *r }})
		req := httptest.NewRequest("GET", "http://proxy.test/sum.test/db/lookup/example.com/!mod1@v1.2.3", nil)
		h.ServeHTTP(httptest.NewRecorder(), req.WithContext(ctx))
		if seen.Outcome != access.Gone || !errors.Is(seen.Err, context.DeadlineExceeded) {
			t.Errorf("%s %v", seen.Outcome, seen.Err)
		}
		close(stall)
		log.Lie()
		if err := (&goClient{t: t, log: log, mirror: mirror}).download(mod(1)); err != nil {
			t.Error(err)
		}
	})
}

func TestMirrorNegative(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newLog(t, 300)
		mirror := newMirror(t, newDB(t, log, sumdbtest.NewStorage()))
		path := "sum.test/db/lookup/example.com/!mod1@v1.2.3"
		for range 3 {
			if rec := get(t, mirror, path); rec.Code != 404 {
				t.Errorf("%d", rec.Code)
			}
		}
		wantRequests(t, log, "/lookup/", 1)
		add(log, mod(1))
		time.Sleep(10 * time.Second)
		if rec := get(t, mirror, path); rec.Code != 200 {
			t.Errorf("ten seconds later: %d", rec.Code)
		}
	})
}

func TestMirrorTwoDatabases(t *testing.T) {
	t.Parallel()
	a, b := newLog(t, 3), newLog(t, 3)
	inner, err := sumdbtest.New("sum.test/db/lookup")
	if err != nil {
		t.Fatal(err)
	}
	add(inner, mod(1))
	mirror := newMirror(t, newDB(t, a, sumdbtest.NewStorage()), newDB(t, inner, sumdbtest.NewStorage()))
	if rec := get(t, mirror, "sum.test/db/lookup/supported"); rec.Code != 200 {
		t.Errorf("%d", rec.Code)
	}
	if err := (&goClient{t: t, log: inner, mirror: mirror}).download(mod(1)); err != nil {
		t.Error(err)
	}
	if _, err := sumdb.NewMirror(sumdb.MirrorConfig{DBs: []*sumdb.DB{newDB(t, a, sumdbtest.NewStorage()), newDB(t, b, sumdbtest.NewStorage())}}); err == nil {
		t.Error("one name twice: no error")
	}
}

func BenchmarkMirrorHit(b *testing.B) {
	log := newLog(b, 1000)
	add(log, mod(1))
	log.Fill(1000)
	d := newDB(b, log, sumdbtest.NewStorage())
	mirror := newMirror(b, d)
	for _, path := range []string{"lookup/example.com/!mod1@v1.2.3", "tile/8/0/003"} {
		b.Run(path[:6], func(b *testing.B) {
			req := httptest.NewRequest("GET", "http://proxy.test/sum.test/db/"+path, nil)
			b.ReportAllocs()
			for b.Loop() {
				rec := httptest.NewRecorder()
				mirror.ServeHTTP(rec, req)
				if rec.Code != 200 {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}
