package proxy_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

// TestFirstByte: a client has the first byte of a large zip before a tenth of
// it has left the upstream.
func TestFirstByte(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/m", "v1.0.0", 36<<20)
	w := newWorld(t, options{}, m)
	path := proxytest.Path(t, m.Version, "zip")
	var sent atomic.Int64
	first := make(chan struct{})
	w.up.SetFault(path, func(x proxytest.Exchange) {
		x.W.Header().Set("Content-Length", strconv.Itoa(len(m.Zip)))
		for rest := m.Zip; len(rest) > 0; {
			n := min(64<<10, len(rest))
			if sent.Load()+int64(n) > int64(len(m.Zip))/10 {
				select {
				case <-first:
				case <-x.R.Context().Done():
				case <-x.Done:
				}
			}
			sent.Add(int64(n))
			if _, err := x.W.Write(rest[:n]); err != nil {
				return
			}
			_ = http.NewResponseController(x.W).Flush()
			rest = rest[n:]
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+path, nil)
	w.must(err)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatalf("nothing has come after %d bytes of %d: %v", sent.Load(), len(m.Zip), err)
	}
	defer resp.Body.Close()
	one := make([]byte, 1)
	_, err = io.ReadFull(resp.Body, one)
	t.Logf("the first byte has come after at most %d of %d", sent.Load(), len(m.Zip))
	w.must(err)
	if resp.ContentLength != int64(len(m.Zip)) {
		t.Errorf("Content-Length %d", resp.ContentLength)
	}
	close(first)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(append(one, rest...), m.Zip) {
		t.Errorf("%d bytes, %v", 1+len(rest), err)
	}
}

// TestTailIsHeldBack: all of a large zip has come, but the checksum database
// has not answered: what a client has is not a zip.
func TestTailIsHeldBack(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/m", "v1.0.0", large)
	w := newWorld(t, options{}, m)
	release := make(chan struct{})
	w.log.Lie(stallAll(release))
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+proxytest.Path(t, m.Version, "zip"), nil)
	w.must(err)
	resp, err := w.client.Do(req)
	w.must(err)
	defer resp.Body.Close()
	early := make([]byte, len(m.Zip)-256<<10)
	if _, err := io.ReadFull(resp.Body, early); err != nil {
		t.Fatal(err)
	}
	next := make(chan answer, 1)
	go func() { next <- readAll(resp.Body) }()
	select {
	case a := <-next:
		close(release)
		t.Fatalf("the tail came without a proof: %d bytes, %v", len(a.body), a.err)
	case <-time.After(100 * time.Millisecond):
	}
	w.wantNotStored(m)
	close(release)
	a := <-next
	if a.err != nil || !bytes.Equal(append(early, a.body...), m.Zip) {
		t.Errorf("%d bytes, %v", len(a.body), a.err)
	}
}

// TestMemory: a zip of 64 MiB passes through without being held in memory. The
// bound holds for upstream, proxy and client together, garbage included.
func TestMemory(t *testing.T) {
	m := proxytest.Big(t, "example.com/m", "v1.0.0", 64<<20)
	w := newWorld(t, options{}, m)
	path := proxytest.Path(t, m.Version, "zip")
	for _, how := range []string{"miss", "hit"} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		resp, err := w.client.Get(w.url + path)
		w.must(err)
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n != int64(len(m.Zip)) {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if got := (<-w.records).Outcome.String(); got != how {
			t.Errorf("outcome %s", got)
		}
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d KiB", how, allocated>>10)
		if allocated > 12<<20 {
			t.Errorf("%s: %d KiB were allocated for %d", how, allocated>>10, n>>10)
		}
	}
}
