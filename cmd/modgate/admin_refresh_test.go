package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

// A version that was just tagged is seen by all replicas within a second after one
// was told, and the upstream is asked once for all of them.
func TestFleetRefresh(t *testing.T) {
	f := newSharingFleet(t, "--ttl-list=1h", "--ttl-negative=1h")
	const list, mod = "/example.com/tagged/@v/list", "/example.com/tagged/@v/v1.1.0.mod"
	f.add(proxytest.Simple(t, "example.com/tagged", "v1.0.0"))
	for _, i := range f.replicas {
		if status, text := get(t, i.url+list); status != 200 || text != "v1.0.0\n" {
			t.Fatalf("%d %s", status, text)
		}
		if status, text := get(t, i.url+mod); status != 404 {
			t.Fatalf("%d %s", status, text)
		}
	}
	f.add(proxytest.Simple(t, "example.com/tagged", "v1.1.0"))
	before := f.upstream.Count(list)
	if status, text := post(t, f.replicas[1].admin+"/-/refresh?module=example.com/tagged", ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	deadline := time.Now().Add(time.Second)
	for n, i := range f.replicas {
		for {
			status, text := get(t, i.url+list)
			modStatus, _ := get(t, i.url+mod)
			if status == 200 && text == "v1.0.0\nv1.1.0\n" && modStatus == 200 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("replica %d: %d %q, its go.mod %d", n, status, text, modStatus)
				break
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	if n := f.upstream.Count(list) - before; n != 1 {
		t.Errorf("the list was asked for %d times", n)
	}
}

// What one request may ask for is bounded, and says so.
func TestRefreshIsBounded(t *testing.T) {
	t.Parallel()
	w, root := newWorld(t), t.TempDir()
	for n := range maxRefresh + 1 { // before the server looks after its directories
		dir := filepath.Join(root, "example.com", "many", fmt.Sprintf("m%d", n), "@v")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "v1.0.0.info"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	i, _ := w.startIn(t, root)
	if status, text := post(t, i.admin+"/-/refresh?module=example.com/many/*", ""); status != 400 || !strings.Contains(text, "more than the 1000 modules") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := post(t, i.admin+"/-/refresh?module=example.com/many/m10?/@v", ""); status != 400 {
		t.Errorf("%d %s", status, text)
	}
	before := len(w.upstream.Requests())
	status, text := post(t, i.admin+"/-/refresh?module=example.com/many/m10?", "")
	if status != 404 || strings.Count(text, "\n") != 10 || !strings.Contains(text, "example.com/many/m109/@v/list: there is none\n") {
		t.Errorf("%d %s", status, text)
	}
	for _, r := range w.upstream.Requests()[before:] {
		if !strings.HasPrefix(r.Path, "/example.com/many/m10") {
			t.Errorf("%s was asked for", r.Path)
		}
	}
	// Two run at a time.
	release := make(chan struct{})
	var running sync.WaitGroup
	for _, escaped := range []string{"example.com/greet", "example.com/!words"} {
		list := "/" + escaped + "/@v/list"
		w.upstream.SetFault(list, func(x proxytest.Exchange) {
			select {
			case <-release:
			case <-x.Done:
			}
		})
		running.Go(func() {
			path := strings.ReplaceAll(escaped, "!w", "W")
			if resp, err := http.Post(i.admin+"/-/refresh?module="+path, "", nil); err == nil {
				_ = resp.Body.Close()
			}
		})
		until(t, "it runs", func() bool { return w.upstream.Count(list) > 0 })
	}
	if status, text := post(t, i.admin+"/-/refresh?module=example.com/none", ""); status != 503 || !strings.Contains(text, "2 of these are running already") {
		t.Errorf("the third: %d %s", status, text)
	}
	close(release)
	running.Wait()
	if status, _ := post(t, i.admin+"/-/refresh?module=example.com/none", ""); status != 404 {
		t.Errorf("when they are done: %d", status)
	}
}

func TestPrefixOfTargets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, prefix string }{
		{"github.com/Corp/tool@v1.0.0", "github.com/!corp/tool/@"},
		{"github.com/Corp/*", "github.com/!corp/"},
		{"github.com/corp/t?ol", "github.com/corp/t"},
		{"[a-c]", ""},
		{"github.com/a/*,git.corp.example", ""},
		{"github.com/corp/tool github.com/corp/tool/v2", "github.com/corp/tool/"},
		{"github.com/corp/tool github.com/corp/tools", "github.com/corp/tool"},
		{"github.com/corp/* git.corp.example/x", "git"},
		{"github.com/corp/* *", ""},
	} {
		targets, err := purgeTargets(strings.Fields(test.args))
		if err != nil {
			t.Fatal(err)
		}
		if got := commonPrefix(targets); got != test.prefix {
			t.Errorf("%s: %q, want %q", test.args, got, test.prefix)
		}
	}
}
