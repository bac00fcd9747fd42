package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
	"github.com/modgate/modgate/sumdb"
)

// replica is the pins of one of several servers.
type replica struct {
	*sumdb.Pins
	shared   *sharedPins
	expelled atomic.Int64
	log      strings.Builder
}

// newReplica returns one whose bucket is behind p.
func newReplica(t *testing.T, server *sharedtest.S3, p *sharedtest.Proxy) *replica {
	t.Helper()
	bucket, err := s3.New(t.Context(), s3.Config{
		Bucket: server.Bucket, Endpoint: p.URL, PathStyle: true, AccessKey: server.AccessKey, SecretKey: server.SecretKey, Timeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- bucket.Run(ctx) }()
	files, err := openPins(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, bucket.Close(), files.Close()); err != nil {
			t.Error(err)
		}
	})
	r := &replica{}
	r.shared = newSharedPins(files, bucket, slog.New(slog.NewTextHandler(&r.log, nil)))
	r.shared.expel = func(context.Context, module.Version, *sumdb.Pin) { r.expelled.Add(1) }
	if r.Pins, err = sumdb.NewPins(sumdb.PinsConfig{Storage: r.shared}); err != nil {
		t.Fatal(err)
	}
	return r
}

// back waits until the bucket is asked again, and compares.
func (r *replica) back(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for r.shared.catchUp(t.Context()) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the bucket does not come back")
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (r *replica) wantMoved(t *testing.T, kind, hash string) {
	t.Helper()
	var moved *sumdb.Moved
	if err := r.Verify(t.Context(), privateVersion, kind, hash); !errors.As(err, &moved) {
		t.Errorf("%s %s: %v, want it refused", kind, hash, err)
	}
}

func (r *replica) wantRight(t *testing.T, kind, hash string) {
	t.Helper()
	if err := r.Verify(t.Context(), privateVersion, kind, hash); err != nil {
		t.Errorf("%s %s: %v", kind, hash, err)
	}
}

// What one replica has pinned holds for the other, and what an operator accepts
// at one of them too.
func TestSharedPins(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewS3(t)
	p := sharedtest.NewProxy(t, server.Endpoint)
	a, b := newReplica(t, server, p), newReplica(t, server, p)
	a.wantRight(t, "mod", "h1:mod=")
	b.wantRight(t, "zip", "h1:first=")
	b.wantMoved(t, "mod", "h1:othermod=")
	a.wantMoved(t, "zip", "h1:moved=")
	a.wantRight(t, "zip", "h1:first=")
	if _, err := a.Accept(t.Context(), privateVersion, []string{"h1:moved="}, "anna", "ticket"); err != nil {
		t.Fatal(err)
	}
	b.wantRight(t, "zip", "h1:moved=")
	b.wantMoved(t, "zip", "h1:first=")
	if n := testutil.ToFloat64(a.shared.conflicts) + testutil.ToFloat64(b.shared.conflicts); n != 0 {
		t.Errorf("%v conflicts: an accepted change is none", n)
	}
	if n := b.expelled.Load(); n != 1 {
		t.Errorf("the old files were expelled %d times, want once", n)
	}
	p.Requests()
	a.wantRight(t, "mod", "h1:mod=")
	if r := p.Requests(); len(r) > 0 {
		t.Errorf("what is pinned here needs no bucket: %q", r)
	}
}

// While the bucket is out of reach the pins of a replica hold for itself, and the
// bucket gets them afterwards. If another was first, that one is right, and a
// person is told.
func TestSharedPinsWithoutTheBucket(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewS3(t)
	p := sharedtest.NewProxy(t, server.Endpoint)
	a, b, c := newReplica(t, server, p), newReplica(t, server, p), newReplica(t, server, p)
	a.wantRight(t, "mod", "h1:mod=")
	p.Always(sharedtest.Fault{Status: 503})
	a.wantRight(t, "mod", "h1:mod=")
	b.wantRight(t, "zip", "h1:ours=")
	b.wantMoved(t, "zip", "h1:other=")
	c.wantRight(t, "zip", "h1:theirs=")
	if !b.shared.behind.Load() {
		t.Error("it is not known that the bucket lacks a pin")
	}
	command := newSharedPins(b.shared.local, b.shared.bucket, slog.New(slog.DiscardHandler))
	pins, err := sumdb.NewPins(sumdb.PinsConfig{Storage: command})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pins.Accept(t.Context(), privateVersion, nil, "anna", "ticket"); err == nil {
		t.Error("a command accepted what the fleet does not hear of")
	}

	p.Always(sharedtest.Fault{})
	b.back(t)
	if n := testutil.ToFloat64(b.shared.conflicts); n != 0 || b.expelled.Load() > 0 {
		t.Errorf("%v conflicts where there is none:\n%s", n, b.log.String())
	}
	a.wantMoved(t, "zip", "h1:theirs=")
	b.wantRight(t, "mod", "h1:mod=")
	c.back(t)
	if n := testutil.ToFloat64(c.shared.conflicts); n != 1 || c.expelled.Load() != 1 || !strings.Contains(c.log.String(), "security:") {
		t.Errorf("%v conflicts, %d expelled:\n%s", n, c.expelled.Load(), c.log.String())
	}
	c.wantRight(t, "zip", "h1:ours=")
	c.wantMoved(t, "zip", "h1:theirs=")
}

// A pin in the bucket that is not right proves nothing and is not replaced.
func TestSharedPinThatRotted(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewS3(t)
	p := sharedtest.NewProxy(t, server.Endpoint)
	a, b := newReplica(t, server, p), newReplica(t, server, p)
	a.wantRight(t, "zip", "h1:a=")
	name, err := sumdb.PinName(privateVersion)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server.Dir+"/.records/"+name, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(t.Context(), privateVersion, "zip", "h1:b="); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("took something for the first: %v", err)
	}
	a.wantRight(t, "zip", "h1:a=")
}

// pins runs a command on the cache of i, with the bucket that flags name.
func (i *instance) pins(t *testing.T, flags []string, args ...string) {
	t.Helper()
	cmd := exec.Command("modgate", append(args, "--cache-dir="+i.dir)...)
	cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), "MODGATE_CONFIG=off"}
	for _, f := range flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		cmd.Env = append(cmd.Env, "MODGATE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A tag that was moved after one replica had fetched it is refused by another,
// although neither it nor the bucket has a file of it; and what an operator
// accepts on one machine holds for all.
func TestMovedTagBetweenReplicas(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	bucket := sharedtest.NewS3(t)
	flags := []string{"--cache-memory=0", "--ttl-private=0s", "--cache-s3-bucket=" + bucket.Bucket, "--cache-s3-endpoint=" + bucket.Endpoint,
		"--cache-s3-path-style=on", "--cache-s3-access-key=" + bucket.AccessKey, "--cache-s3-secret-key=" + bucket.SecretKey}
	first, second := c.start(t, flags...), c.start(t, flags...)
	const path = "/" + libPath + "/@v/v1.0.0.zip"
	if code, body := get(t, first.url+path); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	hashes := c.lib.Commit(t, gittest.Commit{Files: map[string]string{"lib.go": "package lib\n\nconst Name = \"evil\"\n"}})
	c.lib.Tag(t, "v1.0.0", hashes[0])
	first.pins(t, flags[2:], "cache", "purge", libPath+"@v1.0.0")
	if code, body := get(t, second.url+path); code != http.StatusForbidden || !strings.Contains(body, "its tag was moved") {
		t.Fatalf("the other replica: %d %s", code, body)
	}
	second.pins(t, flags[2:], "pin", "accept", libPath+"@v1.0.0", "--reason=test")
	for _, i := range []*instance{first, second} {
		if code, body := get(t, i.url+path); code != 200 {
			t.Errorf("after it was accepted: %d %s", code, body)
		}
	}
}

// TestAcceptedWhileAway: a replica that was down, and heard nothing, when another
// content was accepted does not go on serving the old one from its directory.
func TestAcceptedWhileAway(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	bucket := sharedtest.NewS3(t)
	shared := []string{"--cache-s3-bucket=" + bucket.Bucket, "--cache-s3-endpoint=" + bucket.Endpoint,
		"--cache-s3-path-style=on", "--cache-s3-access-key=" + bucket.AccessKey, "--cache-s3-secret-key=" + bucket.SecretKey}
	ask := func(i *instance, file string) string {
		t.Helper()
		code, body := get(t, i.url+"/"+libPath+"/@v/v1.0.0."+file)
		if code != http.StatusOK {
			t.Fatalf("%s: %d %s", file, code, body)
		}
		return body
	}
	away, here := c.start(t, shared...), c.start(t, shared...)
	old := map[string]string{}
	for _, file := range []string{"info", "mod", "zip"} {
		old[file] = ask(away, file)
	}
	if err := away.stop(); err != nil {
		t.Fatal(err)
	}
	c.lib.Tag(t, "v1.0.0", c.lib.Commit(t, gittest.Commit{Files: map[string]string{"go.mod": "module " + libPath + "\n", "lib.go": "package lib\n"}})[0])
	here.pins(t, shared, "cache", "purge", libPath+"@v1.0.0")
	if code, _ := get(t, here.url+"/"+libPath+"/@v/v1.0.0.zip"); code != http.StatusForbidden {
		t.Fatalf("the moved tag: %d", code)
	}
	if code, _ := get(t, here.url+"/"+libPath+"/@v/v1.0.0.mod"); code != http.StatusForbidden {
		t.Fatalf("its go.mod: %d", code)
	}
	here.pins(t, shared, "pin", "accept", libPath+"@v1.0.0", "--reason=test")

	again, err := launch([]string{"HTTPS_PROXY=" + c.forward.URL}, away.dir, away.cmd.Args[6:]...)
	if err != nil {
		t.Fatal(err)
	}
	defer again.stop()
	for _, file := range []string{"info", "mod", "zip"} {
		for deadline := time.Now().Add(30 * time.Second); ask(again, file) == old[file]; <-time.After(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("still the old .%s", file)
			}
		}
		if ask(again, file) != ask(here, file) {
			t.Errorf("the replicas serve different .%s", file)
		}
	}
}

// TestAcceptanceIsFoundOut: a replica that nobody tells finds it out.
func TestAcceptanceIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, err := openPins(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer files.Close()
		name, err := sumdb.PinName(privateVersion)
		if err != nil {
			t.Fatal(err)
		}
		first, accepted := []byte(`{"files":{"zip":{"h1":"h1:a="}}}`+"\n"), []byte(`{"files":{"zip":{"h1":"h1:b="}},"accepted":[{"kind":"zip","was":"h1:a=","is":"h1:b="}]}`+"\n")
		bucket := &oneRecord{data: first}
		p := newSharedPins(files, bucket, slog.New(slog.DiscardHandler))
		var expelled atomic.Int64
		p.expel = func(context.Context, module.Version, *sumdb.Pin) { expelled.Add(1) }
		if err := files.Swap(t.Context(), name, nil, first); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.Run(ctx)
		time.Sleep(time.Minute)
		synctest.Wait()
		bucket.mu.Lock()
		bucket.data = accepted
		bucket.mu.Unlock()
		time.Sleep(acceptedWithin + compareEvery)
		synctest.Wait()
		got, err := files.Get(t.Context(), name)
		if err != nil || string(got) != string(accepted) || expelled.Load() != 1 || testutil.ToFloat64(p.conflicts) != 0 {
			t.Errorf("%s, %v, %d expelled, %v conflicts", got, err, expelled.Load(), testutil.ToFloat64(p.conflicts))
		}
		cancel()
		synctest.Wait()
	})
}

// oneRecord is a bucket with one pin.
type oneRecord struct {
	mu   sync.Mutex
	data []byte
}

func (r *oneRecord) Record(context.Context, string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.data, nil
}

func (r *oneRecord) SwapRecord(context.Context, string, []byte, []byte) error {
	return cache.ErrConflict
}
