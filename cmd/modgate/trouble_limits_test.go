package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/modgate/modgate/proxy/proxytest"
)

// TestTooManyOpenFiles lets more clients come than the server may have files
// and connections, for hits and for misses.
func TestTooManyOpenFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var hits, misses []*proxytest.Module
	for n := range 8 {
		hits = append(hits, proxytest.Big(t, fmt.Sprintf("example.com/hit%d", n), "v1.0.0", 300<<10))
		misses = append(misses, proxytest.Big(t, fmt.Sprintf("example.com/miss%d", n), "v1.0.0", 300<<10))
	}
	all := append(hits, misses...)
	w.addTo(t, all...)
	last := proxytest.Big(t, "example.com/last", "v1.0.0", 300<<10)
	w.addTo(t, last)
	files := expected(t, all...)
	i, _ := w.startIn(t, t.TempDir(), "--cache-memory=0")
	for _, m := range hits {
		path := proxytest.Path(t, m.Version, "zip")
		i.want(t, path, files[path])
	}
	restore := i.limitFiles(t, 22)
	served := i.storm(t, files)
	restore()
	if served == 0 || !strings.Contains(i.log(), "too many open files") {
		t.Errorf("%d whole answers; the limit must be felt, but not stop everything", served)
	}

	// Nothing of it is remembered: not an absence, not an error, no half file.
	for path, data := range files {
		i.want(t, path, data)
		if !i.storedFile(path) {
			t.Errorf("%s is not stored although there is room", path)
		}
	}
	i.want(t, proxytest.Path(t, last.Version, "zip"), last.Zip)
	if n := i.metric(t, "modgate_cache_corrupt_total"); n != 0 {
		t.Errorf("%v good files were taken for corrupt ones", n)
	}
	if left := strays(t, i.dir); len(left) > 0 {
		t.Errorf("left in the spool: %q", left)
	}
	if code, _ := get(t, i.url+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d", code)
	}
}

// storm asks for each file four times at once, each on a connection of its own,
// and returns how many whole answers came. Others may be trouble or broken off,
// but not a word about the module.
func (i *instance) storm(t *testing.T, files map[string][]byte) (served int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards served
	for path, data := range files {
		for range 4 {
			wg.Go(func() {
				code, body, err := fetch(ctx, client, i.url+path)
				switch {
				case ctx.Err() != nil:
					t.Errorf("%s: no answer in a minute", path)
				case err != nil:
				case code != http.StatusOK && code < 500:
					t.Errorf("%s: %d: %.200q", path, code, body)
				case code == http.StatusOK && !bytes.Equal(body, data):
					t.Errorf("%s: WRONG BYTES: %d of them, want %d", path, len(body), len(data))
				case code == http.StatusOK:
					mu.Lock()
					served++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	return served
}

// limitFiles lets the process open no file beyond the n-th, as ulimit -n does.
func (i *instance) limitFiles(t *testing.T, n uint64) (restore func()) {
	t.Helper()
	set := func(to, old *syscall.Rlimit) {
		t.Helper()
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(i.cmd.Process.Pid), syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(old)), 0, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
	}
	var old syscall.Rlimit
	set(nil, &old)
	set(&syscall.Rlimit{Cur: n, Max: old.Max}, nil)
	return func() { set(&old, nil) }
}

// TestNoInodes runs the server on a file system that has room for bytes but not
// for names.
func TestNoInodes(t *testing.T) {
	t.Parallel()
	mounted(t, "size=40m,nr_inodes=100,mode=755", func(t *testing.T, dir string) {
		w := newWorld(t)
		first := proxytest.Simple(t, "example.com/first", "v1.0.0")
		later := proxytest.Simple(t, "example.com/later", "v1.0.0")
		big := proxytest.Big(t, "example.com/big", "v1.0.0", 2<<20)
		w.addTo(t, first, later, big)
		files := expected(t, first, later, big)
		i, _ := w.startIn(t, dir)
		ask := func(m *proxytest.Module) {
			t.Helper()
			for _, kind := range []string{"info", "mod", "zip"} {
				path := proxytest.Path(t, m.Version, kind)
				i.want(t, path, files[path])
			}
		}
		free := takeInodes(t, dir) // first of all: later the cache would give up its own
		for range 2 {
			ask(first)
			ask(later)
			ask(big)
		}
		if n := i.metric(t, `modgate_cache_errors_total{op="put"}`); n < 6 {
			t.Errorf("%v errors counted, want 6 or more", n)
		}
		if code, _ := get(t, i.url+"/readyz"); code != http.StatusOK {
			t.Errorf("/readyz: %d, though every request is answered", code)
		}
		free()
		ask(first)
		ask(later)
		ask(big)
		for _, m := range []*proxytest.Module{first, later, big} {
			if !i.storedFile(proxytest.Path(t, m.Version, "zip")) {
				t.Errorf("%s is not stored although there is room again", m.Path)
			}
		}
		if left := strays(t, dir); len(left) > 0 {
			t.Errorf("left in the spool: %q", left)
		}
	})
}

// takeInodes makes empty files in dir until there can be no more.
func takeInodes(t *testing.T, dir string) (free func()) {
	t.Helper()
	below := filepath.Join(dir, ".filler")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		f, err := os.Create(filepath.Join(below, fmt.Sprint(n)))
		if err != nil {
			break
		}
		f.Close()
	}
	return func() {
		if err := os.RemoveAll(below); err != nil {
			t.Error(err)
		}
	}
}
