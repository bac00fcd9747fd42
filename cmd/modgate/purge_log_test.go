package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/mem"
)

// memoryRecords keeps records as the bucket does.
type memoryRecords struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (r *memoryRecords) Record(_ context.Context, name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data, ok := r.m[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (r *memoryRecords) SwapRecord(_ context.Context, name string, old, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if current, ok := r.m[name]; ok != (old != nil) || !bytes.Equal(current, old) {
		return cache.ErrConflict
	}
	r.m[name] = data
	return nil
}

// purging is a replica of a fleet as a purgeLog sees it.
type purging struct {
	*purgeLog
	near, bucket *mem.Store
	said         bytes.Buffer
}

func newPurging(t *testing.T, r records) *purging {
	t.Helper()
	p := &purging{}
	for _, s := range []**mem.Store{&p.near, &p.bucket} {
		m, err := mem.New(mem.Config{MaxBytes: 1 << 20, MaxObject: 1 << 10})
		if err != nil {
			t.Fatal(err)
		}
		*s = m
	}
	shared, err := cache.NewShared(p.near, cache.SharedConfig{Bucket: p.bucket})
	if err != nil {
		t.Fatal(err)
	}
	p.purgeLog = newPurgeLog(r, p.near, slog.New(slog.NewTextHandler(&p.said, nil)))
	p.lists = append(p.lists, p.near.List, p.bucket.List)
	p.expire = shared.Expire
	return p
}

// put stores name near and in the bucket, as fetched at a time.
func (p *purging) put(t *testing.T, name string, class cache.Class, seen, checked time.Time) {
	t.Helper()
	for _, s := range []cache.Store{p.near, p.bucket} {
		if err := s.Put(t.Context(), name, strings.NewReader(name), cache.PutOptions{Class: class, Attrs: cache.Attrs{FirstSeen: seen, Checked: checked}}); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *purging) has(name string) (near, bucket bool) {
	_, err := p.near.Get(context.Background(), name)
	_, far := p.bucket.Get(context.Background(), name)
	return err == nil, far == nil
}

func TestPurgeLog(t *testing.T) {
	ctx, r := t.Context(), &memoryRecords{m: map[string][]byte{}}
	other, p := newPurging(t, r), newPurging(t, r)
	before, after := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if err := other.add(ctx, []string{"example.com/a@v1.0.0", "corp.example/*"}); err != nil {
		t.Fatal(err)
	}
	stays := map[string]bool{
		"example.com/a/@v/v1.1.0.zip": true, "example.com/ab/@v/v1.0.0.zip": true,
		"example.com/a/@v/v1.0.0.zip": false, "corp.example/x/@v/v1.0.0.zip": false,
	}
	for name := range stays {
		p.put(t, name, cache.Immutable, before, time.Time{})
	}
	p.put(t, "example.com/a/@v/v1.0.0.mod", cache.Immutable, after, time.Time{})
	p.put(t, "example.com/a/@v/list", cache.Mutable, before, after) // confirmed since
	p.put(t, "corp.example/x/@v/list", cache.Mutable, before, before)
	stays["example.com/a/@v/v1.0.0.mod"], stays["example.com/a/@v/list"], stays["corp.example/x/@v/list"] = true, true, false
	check := func() {
		t.Helper()
		for name, want := range stays {
			if near, bucket := p.has(name); near != want || bucket != want {
				t.Errorf("%s: near %v, in the bucket %v, want %v", name, near, bucket, want)
			}
		}
	}
	if err := p.read(ctx); err != nil {
		t.Fatal(err)
	}
	check()
	// It was read: what comes from elsewhere now is not of before.
	p.put(t, "example.com/a/@v/v1.0.0.zip", cache.Immutable, before, time.Time{})
	stays["example.com/a/@v/v1.0.0.zip"] = true
	if err := p.read(ctx); err != nil {
		t.Fatal(err)
	}
	check()
	// Another is read, and only that one.
	if err := other.add(ctx, []string{"example.com/a@v1.1.0"}); err != nil {
		t.Fatal(err)
	}
	if err := p.read(ctx); err != nil {
		t.Fatal(err)
	}
	stays["example.com/a/@v/v1.1.0.zip"] = false
	check()
	if strings.Contains(p.said.String(), "WARN") {
		t.Error(p.said.String())
	}
}

// What cannot be removed is tried again.
func TestPurgeLogInTrouble(t *testing.T) {
	ctx, r := t.Context(), &memoryRecords{m: map[string][]byte{}}
	p := newPurging(t, r)
	const name = "example.com/a/@v/v1.0.0.zip"
	p.put(t, name, cache.Immutable, time.Now(), time.Time{})
	if err := p.add(ctx, []string{"example.com/a"}); err != nil {
		t.Fatal(err)
	}
	well := p.expire
	p.expire = func(context.Context, string, time.Time) (bool, error) { return false, errors.New("no way there") }
	for range 3 {
		if err := p.read(ctx); err == nil {
			t.Error("no error")
		}
	}
	if n := strings.Count(p.said.String(), "no way there"); n != 1 {
		t.Errorf("said %d times", n)
	}
	p.expire = well
	if err := p.read(ctx); err != nil {
		t.Error(err)
	}
	if near, bucket := p.has(name); near || bucket {
		t.Error("it is still there")
	}
	r.m[purgesName] = []byte("no json")
	if p.read(ctx) == nil || p.add(ctx, []string{"example.com/a"}) == nil {
		t.Error("a record that makes no sense is no error")
	}
}

func TestPurgeLogBounds(t *testing.T) {
	ctx, r := t.Context(), &memoryRecords{m: map[string][]byte{}}
	p := newPurging(t, r)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			if err := p.add(ctx, []string{fmt.Sprintf("example.com/m%d", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := p.read(ctx); err != nil {
		t.Fatal(err)
	}
	kept := func() (all []purgeRecord) {
		if err := json.Unmarshal(r.m[purgesName], &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if n := len(kept()); n != 5 {
		t.Errorf("%d are kept of 5 at once", n)
	}
	for i := range keptPurges + 10 {
		if err := p.add(ctx, []string{fmt.Sprintf("example.com/n%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if all := kept(); len(all) != keptPurges || all[keptPurges-1].What[0] != fmt.Sprintf("example.com/n%d", keptPurges+9) {
		t.Errorf("%d are kept", len(all))
	}
	if err := p.read(ctx); err != nil || !strings.Contains(p.said.String(), "more purges than are remembered") {
		t.Errorf("%v\n%s", err, p.said.String())
	}
	for range 4 {
		if err := p.add(ctx, []string{"example.com/" + strings.Repeat("x", 100_000)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.m[purgesName]); n > keptPurgeBytes {
		t.Errorf("%d bytes", n)
	}
	if err := (*purgeLog)(nil).add(ctx, []string{"example.com/a"}); err != nil {
		t.Error(err)
	}
}

// TestFleetHearsOfAPurgeLater purges while Redis is gone and one replica is dead
// that has the module: neither that one nor the one that could not be told serves
// it for long, and neither brings it back to the bucket.
func TestFleetHearsOfAPurgeLater(t *testing.T) {
	f := newSharingFleet(t, "--ttl-negative=100ms", "--cache-s3-timeout=10s")
	paths := []string{"/example.com/fleet0/@v/v1.0.0.mod", "/example.com/big/@v/v1.0.0.zip"}
	everywhere := func() {
		t.Helper()
		for _, i := range f.replicas {
			for _, path := range paths {
				if err := f.fetch(t.Context(), i.url, path); err != nil {
					t.Error(err)
				}
			}
		}
		f.written(f.replicas...)
	}
	everywhere()
	f.upstream.SetFault("*", lost)
	dead := f.replicas[0]
	_ = dead.cmd.Process.Signal(syscall.SIGKILL)
	<-dead.ended
	f.redis.Kill()
	if status := purgeStatus(t, f.replicas[1], "example.com/fleet0@v1.0.0&module=example.com/big"); status != http.StatusBadGateway {
		t.Errorf("purge without Redis: %d", status) // it may still be there
	}
	gone := func(i *instance) {
		t.Helper()
		for _, path := range paths {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for deadline := time.Now().Add(time.Minute); ; <-tick.C { // a busy machine needs more than purgesKnown
				if code, _ := get(t, i.url+path); code == http.StatusNotFound && !i.storedFile(path) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s is still served", path)
				}
			}
			if _, err := os.Stat(filepath.Join(f.s3.Dir, path)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is in the bucket: %v", path, err)
			}
		}
	}
	gone(f.replicas[2])
	again, err := launch(f.environ, dead.dir, f.args...)
	if err != nil {
		t.Fatal(err)
	}
	f.replicas[0] = again
	gone(again)
	f.written(f.replicas...)
	gone(again)
	f.redis.Restart()
	f.upstream.SetFault("*", nil)
	for _, i := range f.replicas {
		until(t, "Redis is used again", func() bool { return i.metric(t, "modgate_redis_up ") == 1 })
	}
	everywhere() // fetched anew
}
