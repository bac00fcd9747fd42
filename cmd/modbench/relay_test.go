package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func say(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

func TestRelayCountsByPath(t *testing.T) {
	t.Parallel()
	rl := newRelay(say("x"), 0, 0)
	for _, p := range []string{"/a/@v/v1.0.0.mod", "/a/@v/v1.0.0.mod", "/sumdb/log.example/supported"} {
		rl.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, p, nil))
	}
	got := rl.requests()
	if got["/a/@v/v1.0.0.mod"] != 2 || got["/sumdb/log.example/supported"] != 1 || len(got) != 2 {
		t.Errorf("requests = %v", got)
	}
	rl.as("replica 1").ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/a/@v/v1.0.0.mod", nil))
	rl.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/sumdb/log.example/supported", nil))
	again := rl.again()
	if s := again["/a/@v/v1.0.0.mod"]; len(again) != 1 || strings.Count(s, ",") != 2 || !strings.Contains(s, "replica 1 at ") {
		t.Errorf("asked for more than once: %v", again)
	}
	rl.reset()
	if n := len(rl.requests()); n != 0 {
		t.Errorf("%d paths after reset", n)
	}
}

func TestRelayDelaysEveryRequestWithoutQueueing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rl := newRelay(say("x"), 50*time.Millisecond, 0)
		start := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				w := httptest.NewRecorder()
				rl.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/a", nil))
				if w.Body.String() != "x" {
					t.Errorf("body %q", w.Body)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("20 requests at once took %s, want one delay", took)
		}
	})
}

func TestRelayLetsGoOfAClientThatLeft(t *testing.T) {
	t.Parallel()
	asked := false
	rl := newRelay(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }), time.Hour, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rl.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/a", nil))
	if asked {
		t.Error("passed on although the client had left")
	}
}

func TestRelayBoundsTheRateOfABody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := strings.Repeat("x", 1<<20)
		w := httptest.NewRecorder()
		start := time.Now()
		newRelay(say(body), 0, 512<<10).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/a", nil))
		if took := time.Since(start); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("1 MiB at 512 KiB/s took %s", took)
		}
		if w.Body.String() != body {
			t.Errorf("body differs: %d bytes", w.Body.Len())
		}
	})
}

func TestForwardPassesOnPathsAndStatus(t *testing.T) {
	t.Parallel()
	var seen []string
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Path+" "+r.Host)
		w.WriteHeader(http.StatusGone)
		io.WriteString(w, "gone")
	}))
	defer origin.Close()
	u, err := url.Parse(origin.URL + "/base")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	newForward(u).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://other.example/sumdb/log.example/lookup/a@v1.0.0", nil))
	if w.Code != http.StatusGone || w.Body.String() != "gone" {
		t.Errorf("answer %d %q", w.Code, w.Body)
	}
	if want := "/base/sumdb/log.example/lookup/a@v1.0.0 " + u.Host; len(seen) != 1 || seen[0] != want {
		t.Errorf("origin saw %q, want %q", seen, want)
	}
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("zip"), 1<<16)
	var mu sync.Mutex
	asked := map[string]int{}
	broken := true
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Path]++
		switch {
		case strings.HasSuffix(r.URL.Path, ".zip"):
			w.Write(big)
		case strings.HasSuffix(r.URL.Path, "/supported"):
		case strings.HasSuffix(r.URL.Path, "broken.mod") && broken:
			broken = false
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush() // else the client tries again by itself
			panic(http.ErrAbortHandler)
		case strings.HasSuffix(r.URL.Path, "down.mod"):
			http.Error(w, "down", http.StatusServiceUnavailable)
		case strings.HasSuffix(r.URL.Path, ".mod"):
			io.WriteString(w, "module a\n")
		default:
			http.NotFound(w, r)
		}
	}))
	defer origin.Close()
	u, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ask := func(rc *recorder, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		rc.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	for i := range 2 { // the second time from the directory alone
		rc, err := newRecorder(u, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			path, body string
			code       int
		}{
			{"/github.com/!a/b/@v/v1.0.0.zip", string(big), 200},
			{"/github.com/!a/b/@v/v1.0.0+incompatible.mod", "module a\n", 200},
			{"/sumdb/log.example/supported", "", 200},
			{"/absent/@v/list", "404 page not found\n", 404},
		} {
			if w := ask(rc, c.path); w.Code != c.code || w.Body.String() != c.body {
				t.Errorf("pass %d: %s = %d %.40q", i, c.path, w.Code, w.Body)
			}
		}
		for _, p := range []string{"/a/../../../etc/passwd", "//a", "/"} {
			if w := ask(rc, p); w.Code != http.StatusNotFound {
				t.Errorf("%s = %d", p, w.Code)
			}
		}
		if i == 0 {
			if w := ask(rc, "/a/@v/broken.mod"); w.Code != http.StatusBadGateway {
				t.Errorf("half a body = %d %q", w.Code, w.Body)
			}
		}
		if w := ask(rc, "/a/@v/broken.mod"); w.Code != 200 || w.Body.String() != "module a\n" {
			t.Errorf("after half a body: %d %q", w.Code, w.Body)
		}
		if w := ask(rc, "/a/@v/down.mod"); w.Code != http.StatusBadGateway {
			t.Errorf("503 of the origin = %d", w.Code)
		}
		if err := rc.Close(); err != nil {
			t.Error(err)
		}
	}
	for path, n := range asked {
		want := 1
		if strings.HasSuffix(path, "broken.mod") || strings.HasSuffix(path, "down.mod") {
			want = 2
		}
		if n != want {
			t.Errorf("origin was asked %d times for %s, want %d", n, path, want)
		}
	}
}

func TestRecorderServesRanges(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(say("0123456789"))
	defer origin.Close()
	u, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := newRecorder(u, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	r := httptest.NewRequest(http.MethodGet, "/a/@v/v1.0.0.zip", nil)
	r.Header.Set("Range", "bytes=4-")
	w := httptest.NewRecorder()
	rc.ServeHTTP(w, r)
	if w.Code != http.StatusPartialContent || w.Body.String() != "456789" {
		t.Errorf("range = %d %q", w.Code, w.Body)
	}
}
