package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

// post returns status and body of a POST.
func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// What POST /-/warm names is in the cache then; what cannot be had is told.
func TestAdminWarm(t *testing.T) {
	w := newWorld(t)
	m := proxytest.Simple(t, "example.com/warm", "v1.0.0")
	w.log.Add(m.Version, m.H1, m.ModH1)
	w.upstream.Add(t, m)
	i := w.start(t, "--base-path=/go", "--look-ahead=0")
	for about, body := range map[string]string{
		"list":   "# what we need\n\nexample.com/warm@v1.0.0 # by hand\n",
		"go.mod": "module x\nrequire example.com/warm v1.0.0\n",
		"go.sum": "example.com/warm v1.0.0 " + m.H1 + "\nexample.com/warm v1.0.0/go.mod " + m.ModH1 + "\n",
	} {
		if status, text := post(t, i.admin+"/-/warm", body); status != 200 || !strings.HasPrefix(text, "3 files, ") || !strings.Contains(text, ", 0 failed") {
			t.Errorf("%s: %d %s", about, status, text)
		}
	}
	for kind := range map[string]bool{"info": true, "mod": true, "zip": true} {
		if path := proxytest.Path(t, m.Version, kind); w.upstream.Count(path) != 1 {
			t.Errorf("%s was fetched %d times", path, w.upstream.Count(path))
		}
	}
	if status, text := post(t, i.admin+"/-/warm?jobs=2", "example.com/warm@v1.0.0\nexample.com/gone@v1.0.0\n"); status != 200 || strings.Count(text, "failed example.com/gone@v1.0.0") != 3 || !strings.Contains(text, "6 files") || !strings.Contains(text, "404 Not Found") {
		t.Errorf("something that is not there: %d %s", status, text)
	}
	wrong := strings.Replace("example.com/warm v1.0.0 "+m.H1+"\n", m.H1[:10], "h1:AAAAAAA", 1)
	if status, text := post(t, i.admin+"/-/warm", wrong); status != 200 || !strings.Contains(text, "checksum mismatch") {
		t.Errorf("another hash: %d %s", status, text)
	}
	for body, want := range map[string]string{
		"":                               "is empty",
		"nonsense\n":                     "body:1",
		"example.com/warm@main\n":        "MODULE@VERSION",
		"example.com/warm@v1.0.0\nx y\n": "body:2",
	} {
		if status, text := post(t, i.admin+"/-/warm", body); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%q: %d %s", body, status, text)
		}
	}
	if status, text := post(t, i.admin+"/-/warm?jobs=0", "example.com/warm@v1.0.0\n"); status != 400 || !strings.Contains(text, "write 1 to") {
		t.Errorf("no jobs: %d %s", status, text)
	}
	if status, text := post(t, i.admin+"/-/warm", strings.Repeat("example.com/warm@v1.0.0\n", maxWarmBody/24+1)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("too much: %d %s", status, text)
	}
	// The same file for the command.
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("example.com/warm@v1.0.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("modgate", "warm", "--url="+i.url+"/go", list).CombinedOutput(); err != nil || !strings.Contains(string(out), "3 files") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A fetch that takes longer than the body may is not cut, progress is told on the
// way, and a client that goes away ends the run.
func TestAdminWarmTakesItsTime(t *testing.T) {
	gate, begun, ended := make(chan struct{}), make(chan struct{}, 99), make(chan struct{}, 99)
	a := &admin{settings: &settings{Config: Config{BasePath: "/"}}, app: &app{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		select {
		case <-gate:
		case <-r.Context().Done():
			ended <- struct{}{}
		}
	})}}
	server := httptest.NewServer(boundBody(50*time.Millisecond, http.HandlerFunc(a.warmed)))
	defer server.Close()
	time.AfterFunc(300*time.Millisecond, func() { close(gate) })
	if status, text := post(t, server.URL, "example.com/m@v1.0.0\n"); status != 200 || !strings.Contains(text, "3 files, 0 B, 0 failed") {
		t.Errorf("%d %s", status, text)
	}

	gate = make(chan struct{})
	for len(begun) > 0 {
		<-begun
	}
	ctx, cancel := context.WithCancel(t.Context())
	send := func() *http.Response {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, bytes.NewReader([]byte("example.com/m@v1.0.0\n")))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first, second := send(), send()
	defer first.Body.Close()
	defer second.Body.Close()
	if status, text := post(t, server.URL, "example.com/m@v1.0.0\n"); status != http.StatusServiceUnavailable {
		t.Errorf("a third at once: %d %s", status, text)
	}
	for range 6 {
		<-begun
	}
	cancel()
	for range 6 {
		<-ended
	}
}

// What changes of a module is asked for anew, in all replicas.
func TestAdminRefresh(t *testing.T) {
	w := newWorld(t)
	m, next := proxytest.Simple(t, "example.com/fresh", "v1.0.0"), proxytest.Simple(t, "example.com/fresh", "v1.1.0")
	w.upstream.Add(t, m)
	i := w.start(t, "--ttl-list=1h")
	list := func() string { _, text := get(t, i.url+"/example.com/fresh/@v/list"); return text }
	if got := list(); got != "v1.0.0\n" {
		t.Fatalf("list %q", got)
	}
	w.upstream.Add(t, next)
	if got := list(); got != "v1.0.0\n" {
		t.Errorf("list %q", got)
	}
	for _, c := range []struct {
		query  string
		status int
		text   string
	}{
		{"module=example.com/fresh", 200, "example.com/fresh/@v/list: changed\n"},
		{"module=example.com/*", 200, "example.com/fresh/@v/list: as it was\n"},
		{"module=example.com/none", 404, "there is none"},
		{"module=example.com/none&module=example.com/fresh", 200, "as it was"},
		{"module=other.com/*", 404, "nothing stored"},
		{"module=example.com/fresh@v1.0.0", 400, "a version never changes"},
		{"", 400, "say what"},
		{"module=[", 400, "not a pattern"},
	} {
		if status, text := post(t, i.admin+"/-/refresh?"+c.query, ""); status != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s: %d %s, want %d %s", c.query, status, text, c.status, c.text)
		}
	}
	if got := list(); got != "v1.0.0\nv1.1.0\n" {
		t.Errorf("list %q", got)
	}
}
