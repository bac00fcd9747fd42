package proxy_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/mem"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

const forever = "public, max-age=31536000, immutable"

// TestFiles: .info, .mod and .zip, small and large, come as they are at the
// upstream, first from there and then from here, with the right header.
func TestFiles(t *testing.T) {
	t.Parallel()
	small := proxytest.Simple(t, "example.com/Upper/small", "v1.0.0-RC1")
	large := proxytest.Big(t, "example.com/large", "v1.0.0", 3<<20)
	memory, err := mem.New(mem.Config{MaxBytes: 64 << 20, MaxObject: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for name, store := range map[string]cache.Store{"disk": nil, "memory": memory} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options{store: store}, small, large)
			for _, m := range []*proxytest.Module{small, large} {
				for kind, mime := range map[string]string{"info": "application/json", "mod": "text/plain; charset=utf-8", "zip": "application/zip"} {
					path := proxytest.Path(t, m.Version, kind)
					a := w.get(path)
					w.want(a, file(m, kind), access.Miss)
					streamed := a.header.Get("ETag") == ""
					a = w.get(path)
					w.want(a, file(m, kind), access.Hit)
					tag := a.header.Get("ETag")
					if a.header.Get("Content-Type") != mime || a.header.Get("Cache-Control") != forever || len(tag) != 34 || a.header.Get("X-Content-Type-Options") != "nosniff" {
						t.Errorf("%s: %v", path, a.header)
					}
					if streamed != (kind == "zip" && m == large) {
						t.Errorf("%s: streamed %v", path, streamed)
					}
					conditions(w, path, file(m, kind), tag)
					if n := w.up.Count(path); n != 1 {
						t.Errorf("%s was asked for %d times", path, n)
					}
				}
			}
		})
	}
}

// conditions: HEAD, ranges and conditional requests for what is here.
func conditions(w *world, path string, data []byte, tag string) {
	w.Helper()
	for _, c := range []struct {
		method string
		header []string
		status int
		body   string
	}{
		{"HEAD", nil, 200, ""},
		{"GET", []string{"If-None-Match", tag}, 304, ""},
		{"GET", []string{"If-None-Match", "W/" + tag}, 304, ""},
		{"GET", []string{"If-None-Match", `"other"`}, 200, string(data)},
		{"GET", []string{"If-None-Match", "*"}, 304, ""},
		{"GET", []string{"If-Match", `"other"`}, 412, "-"},
		{"GET", []string{"Range", "lines=1-2"}, 200, string(data)},
		{"GET", []string{"Range", "bytes=3-9"}, 206, string(data[3:10])},
		{"GET", []string{"Range", "bytes=-5"}, 206, string(data[len(data)-5:])},
		{"GET", []string{"Range", "bytes=5-", "If-Range", tag}, 206, string(data[5:])},
		{"GET", []string{"Range", "bytes=5-", "If-Range", `"other"`}, 200, string(data)},
		{"GET", []string{"Range", "bytes=999999999-"}, 416, "-"},
	} {
		a := w.ask(c.method, path, c.header...)
		if a.err != nil || a.status != c.status || c.body != "-" && a.text() != c.body || a.outcome != access.Hit {
			w.Errorf("%s %s %q: %d, %d bytes, %v, %v", c.method, path, c.header, a.status, len(a.body), a.err, a.outcome)
		}
		if c.method == "HEAD" && a.header.Get("Content-Length") == "" {
			w.Errorf("HEAD %s: no length", path)
		}
		if c.status >= 400 {
			w.wantRefusal(a)
		}
	}
}

// wantRefusal demands the header of an answer that is not the file: no cache may
// keep it for a year.
func (w *world) wantRefusal(a answer) {
	w.Helper()
	if h := a.header; h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("ETag") != "" || h.Get("Content-Length") == "" {
		w.Errorf("%d: %v", a.status, h)
	}
}

// TestMissWithCondition: a request for a part of what must be fetched first
// gets that part of the proven whole.
func TestMissWithCondition(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method string
		header []string
		status int
	}{{"HEAD", nil, 200}, {"GET", []string{"Range", "bytes=100-199"}, 206}, {"GET", []string{"If-None-Match", `"x"`}, 200},
		{"GET", []string{"If-Match", `"x"`}, 412}, {"HEAD", []string{"If-Match", `"x"`}, 412}, {"GET", []string{"Range", "bytes=99999999-"}, 416}} {
		for _, size := range []int{100_000, 2 << 20} {
			m := proxytest.Big(t, "example.com/m", "v1.0.0", size)
			w := newWorld(t, options{}, m)
			a := w.ask(c.method, proxytest.Path(t, m.Version, "zip"), c.header...)
			if c.status >= 400 {
				w.wantRefusal(a)
				if a.status != c.status || a.outcome != access.Miss {
					t.Errorf("%v: %d %v", c, a.status, a.outcome)
				}
				w.wantStored(m, "zip", m.Zip)
				continue
			}
			want := string(m.Zip)
			switch {
			case c.method == "HEAD":
				want = ""
			case c.status == 206:
				want = want[100:200]
			}
			if a.err != nil || a.status != c.status || a.text() != want || a.outcome != access.Miss || a.header.Get("ETag") == "" {
				t.Errorf("%v: %d, %d bytes, %v, %v", c, a.status, len(a.body), a.err, a.outcome)
			}
			w.wantStored(m, "zip", m.Zip)
		}
	}
}

// TestCosts: a .mod never costs a zip, a .zip no .mod, and requests for the
// same file at once share one fetch.
func TestCosts(t *testing.T) {
	t.Parallel()
	a, b := proxytest.Simple(t, "example.com/a", "v1.0.0"), proxytest.Big(t, "example.com/b", "v1.0.0", 2<<20)
	w := newWorld(t, options{}, a, b)
	w.want(w.get(proxytest.Path(t, a.Version, "mod")), a.Mod, access.Miss)
	if got := w.up.Requests(); len(got) != 1 || got[0].Path != "/example.com/a/@v/v1.0.0.mod" {
		t.Errorf("a .mod costs %v", got)
	}
	w.up.Forget()
	w.up.SetFault("*", proxytest.Delay(200*time.Millisecond))
	var wg sync.WaitGroup
	for range 20 {
		for _, kind := range []string{"info", "mod", "zip"} {
			wg.Go(func() {
				got := w.send(t.Context(), "GET", proxytest.Path(t, b.Version, kind))
				if got.err != nil || got.text() != string(file(b, kind)) {
					t.Errorf("%s: %d, %v", kind, got.status, got.err)
				}
			})
		}
	}
	wg.Wait()
	if got := w.up.Requests(); len(got) != 3 {
		t.Errorf("60 requests for three files cost %d", len(got))
	}
}

// TestLeaderLeaves is TestFlightLeaderLeaves over HTTP, in the midst of a body.
func TestLeaderLeaves(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/m", "v1.0.0", 3<<20)
	w := newWorld(t, options{}, m)
	path := proxytest.Path(t, m.Version, "zip")
	gate := make(chan struct{})
	w.up.SetFault(path, func(x proxytest.Exchange) { halfway(x, m.Zip, gate) })
	ctx, cancel := context.WithCancel(t.Context())
	leaderGone := make(chan struct{})
	go func() { defer close(leaderGone); w.send(ctx, "GET", path) }()
	for w.up.Count(path) == 0 {
		time.Sleep(time.Millisecond)
	}
	var wg sync.WaitGroup
	begun := make(chan struct{}, 50)
	for range 50 {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", w.url+path, nil)
			resp, err := w.client.Do(req)
			begun <- struct{}{}
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got := readAll(resp.Body); got.err != nil || got.text() != string(m.Zip) {
				t.Errorf("a follower has %d bytes, %v", len(got.body), got.err)
			}
		})
	}
	for range 50 {
		<-begun
	}
	cancel()
	<-leaderGone
	close(gate)
	wg.Wait()
	if n := w.up.Count(path); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestCacheOnly(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{}, m)
	only := []string{"Disable-Module-Fetch", "true"}
	for _, path := range []string{"/example.com/m/@v/list", "/example.com/m/@latest", "/example.com/m/@v/main.info", "/example.com/m/@v/v1.0.0.info", "/example.com/m/@v/v1.0.0.mod", "/example.com/m/@v/v1.0.0.zip"} {
		a := w.get(path, only...)
		w.wantNo(a, 404, access.Absent, "not in the cache", "Disable-Module-Fetch")
		if a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("others would be told so: %v", a.header)
		}
	}
	if got := w.up.Requests(); len(got) != 0 {
		t.Errorf("the upstream was asked: %v", got)
	}
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), m.Zip, access.Miss)
	w.want(w.get("/example.com/m/@v/v1.0.0.zip", only...), m.Zip, access.Hit)
	w.want(w.get("/example.com/m/@v/list", only...), []byte("v1.0.0\n"), access.Hit)
	w.want(w.get("/example.com/m/@v/v1.0.0.mod", "Disable-Module-Fetch", "false"), m.Mod, access.Miss)
}

func TestBasePath(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	for _, base := range []string{"/go", "/go/", "/a/b/"} {
		w := newWorld(t, options{config: func(c *proxy.Config) { c.BasePath = base }}, m)
		w.want(w.get("/example.com/m/@v/v1.0.0.mod"), m.Mod, access.Miss)
		for _, path := range []string{"", "/"} {
			if a := w.get(path); a.status != 200 || !strings.Contains(a.text(), w.url) || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
				t.Errorf("%q: %d %s", path, a.status, a.text())
			}
		}
		w.wantNo(w.get("/sumdb/sum.example/supported"), 404, access.Local)
		w.url = strings.TrimSuffix(w.url, strings.TrimSuffix(base, "/"))
		w.wantNo(w.get("/example.com/m/@v/v1.0.0.mod"), 404, access.Invalid, strings.TrimSuffix(base, "/")+"/")
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{}, m)
	for _, path := range []string{"/", "/example.com/m/@v/list", "/example.com/m/@v/v1.0.0.zip", "/rubbish"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			a := w.ask(method, path)
			w.wantNo(a, 405, access.Invalid, "GET and HEAD")
			if a.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", a.header.Get("Allow"))
			}
		}
	}
	if a := w.ask("HEAD", "/"); a.status != 200 {
		t.Errorf("HEAD / is %d: the go command takes its credentials for bad", a.status)
	}
}

// TestPrivate: neither a private name nor that of a parent leaves the host.
func TestPrivate(t *testing.T) {
	t.Parallel()
	secret := proxytest.Simple(t, "git.corp.example/team/secret", "v1.0.0")
	w := newWorld(t, options{private: "git.corp.example/team/*,*.intern.example"}, secret)
	for _, path := range []string{"git.corp.example/team/secret", "git.corp.example/team/secret/pkg", "git.corp.example/team", "git.corp.example", "x.intern.example/y", "git.corp.example/team/!secret/v2"} {
		for _, what := range []string{"/@v/list", "/@latest", "/@v/main.info", "/@v/v1.0.0.info", "/@v/v1.0.0.mod", "/@v/v1.0.0.zip"} {
			if strings.HasSuffix(path, "/v2") {
				what = strings.Replace(what, "v1.0.0", "v2.0.0", 1)
			}
			w.wantNo(w.get("/"+path+what), 404, access.Local, "private")
		}
	}
	for _, path := range []string{"github.com", "github.com/org", "gitlab.com/x", "bitbucket.org/x"} {
		for _, what := range []string{"/@v/list", "/@latest", "/@v/v1.0.0.info"} {
			w.wantNo(w.get("/"+path+what), 404, access.Local, "three path elements")
		}
	}
	for _, hostile := range []string{"/example.com/../etc/@v/list", "/example.com/%2e%2e/@v/list", "/example.com//a/@v/list", "/x/@v/v1.zip", "/sumdbx", "/-/admin"} {
		w.wantNo(w.get(hostile), 404, access.Invalid, "not a path of the GOPROXY protocol")
	}
	if got := append(w.up.Requests(), w.up2.Requests()...); len(got) != 0 {
		t.Errorf("the upstream has learned %v", got)
	}
	if got := w.log.Requests(""); len(got) != 0 {
		t.Errorf("the checksum database has learned %v", got)
	}
}
