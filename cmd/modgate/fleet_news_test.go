package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// newsTime is how long news of one replica may take to the others.
const newsTime = time.Second

// heard fails the test unless it soon holds for all replicas.
func (f *sharingFleet) heard(what string, holds func(i *instance) bool) {
	f.t.Helper()
	begin := time.Now()
	for n, i := range f.replicas {
		until(f.t, what, func() bool { return holds(i) })
		if took := time.Since(begin); took > newsTime {
			f.t.Errorf("%s: replica %d after %v", what, n, took)
		}
	}
	f.t.Logf("%s: all replicas after %v", what, time.Since(begin).Round(time.Millisecond))
}

// TestFleetHearsOfAPurge purges on one replica what all have on their disks and
// in their memory, when it can be had nowhere else.
func TestFleetHearsOfAPurge(t *testing.T) {
	f := newSharingFleet(t, "--ttl-negative=100ms", "--cache-redis-timeout=5s", "--cache-s3-timeout=10s")
	paths := []string{"/example.com/fleet0/@v/v1.0.0.mod", "/example.com/big/@v/v1.0.0.zip"}
	for _, i := range f.replicas {
		for range 2 {
			for _, path := range paths {
				if err := f.fetch(t.Context(), i.url, path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	f.written(f.replicas...)
	f.upstream.SetFault("*", lost)
	if status := purgeStatus(t, f.replicas[2], "example.com/fleet0@v1.0.0&module=example.com/big"); status != http.StatusOK {
		t.Fatalf("purge: %d", status)
	}
	for _, path := range paths {
		f.heard(path+" is gone", func(i *instance) bool {
			code, _ := get(t, i.url+path)
			return code == http.StatusNotFound && !i.storedFile(path)
		})
	}
}

// TestFleetHearsOfAPrivateTag pushes a tag, of which one replica hears because
// somebody asks it for that version. The others list it, too, although their
// lists would be fresh for long.
func TestFleetHearsOfAPrivateTag(t *testing.T) {
	c := newCompany(t)
	f := prepareFleet(t, c.world)
	f.redis, f.environ = sharedtest.NewRedis(t), []string{"HTTPS_PROXY=" + c.forward.URL}
	f.start("--cache-redis-addr="+f.redis.Addr, "--private=git.corp.example/*", "--direct-file="+c.rules, "--tls-trust="+c.git.CAFile,
		"--ttl-private=1h", "--ttl-list=1h")
	list := func(i *instance) string {
		_, body := get(t, i.url+"/"+libPath+"/@v/list")
		return body
	}
	for _, i := range f.replicas {
		if got := list(i); got != "v1.0.0\nv1.1.0\n" {
			t.Fatalf("listed: %q", got)
		}
	}
	c.lib.Commit(t, gittest.Commit{Files: map[string]string{"lib.go": "package lib\n\nconst Name = \"lib 1.2\"\n"}, Tags: []string{"v1.2.0"}})
	if code, text := get(t, f.replicas[1].url+"/"+libPath+"/@v/v1.2.0.info"); code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	f.heard("the tag is listed", func(i *instance) bool { return strings.Contains(list(i), "v1.2.0\n") })
}

// TestFleetForgetsWhatWasPurged: what a replica remembers of a module for its
// rules, beside what is stored, goes with a purge on another one.
func TestFleetForgetsWhatWasPurged(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rules, []byte("rules:\n  - name: taken-back\n    when: {retracted: true}\n    action: deny\n    reason: it was taken back\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newSharingFleet(t, "--ttl-list=1h", "--policy-file="+rules, "--cache-redis-timeout=5s", "--cache-s3-timeout=10s") // a busy machine is no trouble
	const zip = "/example.com/taken/@v/v1.0.0.zip"
	f.add(proxytest.Simple(t, "example.com/taken", "v1.0.0"))
	for _, i := range f.replicas {
		if code, text := get(t, i.url+zip); code != http.StatusOK {
			t.Fatalf("%d %s", code, text)
		}
	}
	f.add(proxytest.Build(t, module.Version{Path: "example.com/taken", Version: "v1.1.0"}, map[string][]byte{
		"go.mod": []byte("module example.com/taken\n\ngo 1.20\n\nretract v1.0.0\n"), "taken.go": []byte("package taken\n"),
	}))
	if status := purgeStatus(t, f.replicas[2], "example.com/taken"); status != http.StatusOK {
		t.Fatalf("purge: %d", status)
	}
	f.heard("it is taken back", func(i *instance) bool {
		code, _ := get(t, i.url+zip)
		return code == http.StatusForbidden
	})
}
