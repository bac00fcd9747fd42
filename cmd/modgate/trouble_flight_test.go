package main

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
)

// gated sends half of a body and the rest when the gate opens.
func gated(gate <-chan struct{}) proxytest.Fault {
	return func(x proxytest.Exchange) {
		x.Honest.ServeHTTP(&gateWriter{ResponseWriter: x.W, x: x, gate: gate}, x.R)
	}
}

type gateWriter struct {
	http.ResponseWriter
	x       proxytest.Exchange
	gate    <-chan struct{}
	written int
}

// Write waits in front of the second half MiB.
func (w *gateWriter) Write(p []byte) (int, error) {
	if w.written += len(p); w.written > 512<<10 || len(p) < 4<<10 {
		w.ResponseWriter.(http.Flusher).Flush()
		select {
		case <-w.gate:
		case <-w.x.R.Context().Done():
		case <-w.x.Done:
		}
	}
	return w.ResponseWriter.Write(p)
}

// crowd is many clients that want one file each.
type crowd struct {
	wg sync.WaitGroup
	mu sync.Mutex
	ok int
}

// ask lets n clients ask for url.
func (c *crowd) ask(t *testing.T, n int, url string, want []byte) {
	for range n {
		c.wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			code, body, err := fetch(t.Context(), client, url)
			if err != nil || code != http.StatusOK || !bytes.Equal(body, want) {
				t.Errorf("%s: %d, %v, %d bytes of %d: %.300q", url, code, err, len(body), len(want), body[:min(len(body), 300)])
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ok++
		})
	}
}

// TestLeaderLeaves cancels the request that started a fetch while fifty others
// follow it.
func TestLeaderLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	big := proxytest.Big(t, "example.com/big", "v1.0.0", 3<<20)
	small := proxytest.Big(t, "example.com/small", "v1.0.0", 600<<10)
	w.addTo(t, big, small)
	i := w.start(t)
	for _, m := range []*proxytest.Module{big, small} {
		gate := make(chan struct{})
		path := proxytest.Path(t, m.Version, "zip")
		w.upstream.SetFault(path, gated(gate))
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, _, err := fetch(ctx, http.DefaultClient, i.url+path)
			left <- err
		}()
		until(t, "the fetch begins", func() bool { return w.upstream.Count(path) == 1 })
		var c crowd
		c.ask(t, 50, i.url+path, m.Zip)
		until(t, "all are waiting", func() bool { return i.metric(t, "modgate_requests_in_flight") == 51 })
		cancel()
		if err := <-left; err == nil {
			t.Error("the leader was answered: it did not leave in time")
		}
		until(t, "the leader is gone", func() bool { return i.metric(t, "modgate_requests_in_flight") == 50 })
		close(gate)
		c.wg.Wait()
		if n := w.upstream.Count(path); c.ok != 50 || n != 1 {
			t.Errorf("%s: %d of 50 followers succeeded, %d fetches; want 1", path, c.ok, n)
		}
	}
}

// TestHerd lets many ask for many cold files at once.
func TestHerd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mods []*proxytest.Module
	for _, path := range []string{"example.com/a", "example.com/b", "example.com/c"} {
		mods = append(mods, proxytest.Simple(t, path, "v1.0.0"), proxytest.Big(t, path, "v1.1.0", 1<<20+7))
	}
	w.addTo(t, mods...)
	i := w.start(t)
	files := expected(t, mods...)
	var c crowd
	for path, data := range files {
		c.ask(t, 20, i.url+path, data)
	}
	c.wg.Wait()
	for path := range files {
		if n := w.upstream.Count(path); n != 1 {
			t.Errorf("%s: fetched %d times", path, n)
		}
	}
	for _, m := range mods {
		if n := len(w.log.Requests("/lookup/" + m.Path + "@" + m.Version.Version)); n != 1 {
			t.Errorf("%s: looked up %d times", m.Version, n)
		}
	}
	if n := i.metric(t, "modgate_fetches_in_flight"); n != 0 {
		t.Errorf("%v fetches are still in flight", n)
	}
}

// TestDrainOfDownloads sends SIGTERM while bodies are on their way: all arrive
// whole, and the process ends well.
func TestDrainOfDownloads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	big := proxytest.Big(t, "example.com/big", "v1.0.0", 3<<20)
	small := proxytest.Simple(t, "example.com/small", "v1.0.0")
	w.addTo(t, big, small)
	gate := make(chan struct{})
	dir := t.TempDir()
	i, stop := w.startIn(t, dir)
	var c crowd
	for _, m := range []*proxytest.Module{big, small} {
		path := proxytest.Path(t, m.Version, "zip")
		w.upstream.SetFault(path, gated(gate))
		c.ask(t, 20, i.url+path, m.Zip)
	}
	until(t, "all are waiting", func() bool { return i.metric(t, "modgate_requests_in_flight") == 40 })
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "the drain begins", func() bool {
		_, _, err := fetch(t.Context(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, i.url+"/healthz")
		return err != nil
	})
	close(gate)
	c.wg.Wait()
	if c.ok != 40 {
		t.Errorf("%d of 40 succeeded", c.ok)
	}
	<-i.ended
	if i.err != nil {
		t.Errorf("%v\n%s", i.err, i.log())
	}
	w.upstream.Forget()
	stop()
	i, _ = w.startIn(t, dir)
	i.want(t, proxytest.Path(t, big.Version, "zip"), big.Zip)
	i.want(t, proxytest.Path(t, small.Version, "zip"), small.Zip)
	if n := len(w.upstream.Requests()); n != 0 {
		t.Errorf("what was fetched while draining is not stored: %d requests", n)
	}
}
