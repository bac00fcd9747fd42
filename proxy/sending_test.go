package proxy_test

import (
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy/proxytest"
)

// breaking reads left bytes and fails then.
type breaking struct {
	io.ReadSeekCloser
	left *atomic.Int64
	err  error
}

func (b breaking) Read(p []byte) (int, error) {
	left := b.left.Load()
	if left <= 0 {
		return 0, b.err
	}
	n, err := b.ReadSeekCloser.Read(p[:min(int64(len(p)), left)])
	b.left.Add(-int64(n))
	return n, err
}

// TestUnreadableHit: when a stored file, which was right before, cannot be read
// while it is sent, the client is cut off, and the file is looked at anew before
// it is sent again.
func TestUnreadableHit(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		for how, err := range map[string]error{"an error": errBroken, "an early end": io.EOF} {
			for kind, header := range map[string][]string{"whole": nil, "range": {"Range", "bytes=10-"}} {
				if err == io.EOF && kind == "range" {
					continue // nothing tells it from a shorter range
				}
				t.Run(how+", "+kind, func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, options{}, m)
					w.want(w.get(path), m.Zip, access.Miss)
					w.want(w.get(path), m.Zip, access.Hit)
					w.spoil(w.path(w.name(m, "zip")))
					var left atomic.Int64
					left.Store(100_000)
					w.store.wrap.Store(&wrapping{func(body io.ReadSeekCloser) io.ReadSeekCloser { return breaking{body, &left, err} }})
					a := w.get(path, header...)
					w.wantCut(a, m.Zip)
					if a.outcome != access.Trouble || a.cause == nil {
						t.Errorf("noted as %v, %v", a.outcome, a.cause)
					}
					w.store.wrap.Store(nil)
					w.want(w.get(path), m.Zip, access.Miss)
					w.want(w.get(path), m.Zip, access.Hit)
				})
			}
		}
	})
}

// TestClientLeavesHit: a client that hangs up does not make the server read the
// file anew.
func TestClientLeavesHit(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/m", "v1.0.0", 24<<20)
	w := newWorld(t, options{}, m)
	path := proxytest.Path(t, m.Version, "zip")
	w.want(w.get(path), m.Zip, access.Miss)
	for range 10 {
		resp, err := w.client.Get(w.url + path)
		w.must(err)
		_, _ = io.CopyN(io.Discard, resp.Body, 1000)
		_ = resp.Body.Close()
		if r := <-w.records; r.Outcome != access.Hit || r.Bytes >= int64(len(m.Zip)) {
			t.Errorf("%v, %d bytes", r.Outcome, r.Bytes)
		}
	}
	for _, header := range [][]string{{"Range", "bytes=0-99"}, {"Range", "bytes=0-9,20-29"}, {"Range", "bytes=99999999-"}, {"If-None-Match", "*"}} {
		w.get(path, header...)
	}
	w.ask("HEAD", path)
	if n := w.store.distrusts.Load(); n != 0 {
		t.Errorf("distrusted %d times", n)
	}
}

// spoil changes a bit of a file, as a disk does: behind the back of its times.
func (w *world) spoil(name string) {
	w.Helper()
	fi, err := os.Stat(name)
	w.must(err)
	data, err := os.ReadFile(name)
	w.must(err)
	data[len(data)/2] ^= 1
	writeFile(w, name, data)
	w.must(os.Chtimes(name, time.Time{}, fi.ModTime()))
}
