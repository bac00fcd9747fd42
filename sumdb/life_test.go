package sumdb_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// bomb is a Remote at whose answers the reader panics.
type bomb struct {
	sumdb.Remote
	mu   sync.Mutex
	path string // prefix; empty for none
}

func (b *bomb) set(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.path = path
}

func (b *bomb) SumDB(ctx context.Context, database, path string) ([]byte, error) {
	b.mu.Lock()
	armed := b.path != "" && strings.HasPrefix(path, b.path)
	b.mu.Unlock()
	if armed {
		panic("index out of range")
	}
	return b.Remote.SumDB(ctx, database, path)
}

// A panic at what a remote has sent fails that one lookup, is told with its
// stack, and leaves nothing behind.
func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/latest", "/lookup/", "/tile/8/0/", "/tile/", "/"} {
		t.Run(path, func(t *testing.T) {
			log := newLog(t, 1000)
			add(log, mod(1))
			log.Fill(300)
			remote := &bomb{Remote: log, path: path}
			var text bytes.Buffer
			d := newDB(t, log, sumdbtest.NewStorage(), func(c *sumdb.Config) {
				c.Remote, c.Logger = remote, slog.New(slog.NewTextHandler(&text, nil))
			})
			err := verifyErr(t.Context(), d, mod(1))
			if path != "/latest" && err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v", err)
			}
			rec := get(t, newMirror(t, d), "sum.test/db/tile/8/0/000")
			if path == "/" && rec.Code != 502 {
				t.Errorf("mirror: %d", rec.Code)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if s := text.String(); !strings.Contains(s, "level=ERROR") || !strings.Contains(s, "life_test.go") {
				t.Errorf("the log has no stack: %s", s)
			}
			d = newDB(t, log, sumdbtest.NewStorage(), func(c *sumdb.Config) { c.Remote = remote })
			_ = verifyErr(t.Context(), d, mod(1))
			remote.set("")
			verify(t, d, mod(1))
		})
	}
}

// After Close neither the remote nor the storage is touched, whatever was under
// way, and nobody waits in vain.
func TestClose(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/latest", "/lookup/", "/tile/", "none"} {
		synctest.Test(t, func(t *testing.T) {
			log := newLog(t, 1000)
			add(log, mod(1))
			log.Lie(sumdbtest.Stall(path, make(chan struct{})))
			storage := sumdbtest.NewStorage()
			d := newDB(t, log, storage)
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					err := verifyErr(t.Context(), d, mod(1))
					if path == "none" && err != nil || path != "none" && !errors.Is(err, sumdb.ErrClosed) {
						t.Errorf("%s: under way: %v", path, err)
					}
				})
			}
			synctest.Wait()
			start := time.Now()
			if err := errors.Join(d.Close(), d.Close()); err != nil {
				t.Error(err)
			}
			if time.Since(start) != 0 {
				t.Errorf("%s: Close took %v", path, time.Since(start))
			}
			wg.Wait()
			log.Forget()
			storage.Fault(func(op, name string) error { t.Errorf("%s: %s %s after Close", path, op, name); return nil })
			if err := verifyErr(t.Context(), d, mod(1)); !errors.Is(err, sumdb.ErrClosed) {
				t.Errorf("%s: Verify: %v", path, err)
			}
			d.Prepare(t.Context(), mod(2))
			for _, file := range []string{"lookup/example.com/!mod1@v1.2.3", "tile/8/0/000", "latest"} {
				if rec := get(t, newMirror(t, d), "sum.test/db/"+file); rec.Code != 503 {
					t.Errorf("%s: %s: %d %s", path, file, rec.Code, rec.Body)
				}
			}
			wantRequests(t, log, "/", 0)
		})
	}
}
