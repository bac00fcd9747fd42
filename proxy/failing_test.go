package proxy_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
)

// failing is the store of a world, whose operations can be made to fail.
type failing struct {
	*cache.Checked
	get, put, body atomic.Pointer[error]
	wrap           atomic.Pointer[wrapping]
	puts, touches  atomic.Int64
	distrusts      atomic.Int64
}

// wrapping is what the bodies of a failing store are wrapped in.
type wrapping struct {
	body func(io.ReadSeekCloser) io.ReadSeekCloser
}

func set(p *atomic.Pointer[error], err error) { p.Store(&err) }

func fault(p *atomic.Pointer[error]) error {
	if e := p.Load(); e != nil {
		return *e
	}
	return nil
}

func (f *failing) Get(ctx context.Context, name string) (*cache.Object, error) {
	if err := fault(&f.get); err != nil {
		return nil, err
	}
	o, err := f.Checked.Get(ctx, name)
	if err == nil && o.Body != nil {
		if bad := fault(&f.body); bad != nil {
			o.Body = badBody{o.Body, bad}
		}
		if x := f.wrap.Load(); x != nil {
			o.Body = x.body(o.Body)
		}
	}
	return o, err
}

type badBody struct {
	io.ReadSeekCloser
	err error
}

func (b badBody) Read([]byte) (int, error) { return 0, b.err }

func (f *failing) Put(ctx context.Context, name string, body io.Reader, opts cache.PutOptions) error {
	f.puts.Add(1)
	if err := fault(&f.put); err != nil {
		return err
	}
	return f.Checked.Put(ctx, name, body, opts)
}

func (f *failing) PutSpool(ctx context.Context, name string, file *os.File, opts cache.PutOptions) error {
	f.puts.Add(1)
	if err := fault(&f.put); err != nil {
		return err
	}
	return f.Checked.PutSpool(ctx, name, file, opts)
}

func (f *failing) Touch(ctx context.Context, name string, checked time.Time) error {
	f.touches.Add(1)
	return f.Checked.Touch(ctx, name, checked)
}

func (f *failing) Distrust(name string) {
	f.distrusts.Add(1)
	f.Checked.Distrust(name)
}

// path is where the store has the object.
func (w *world) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func writeFile(tb testing.TB, name string, data []byte) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		tb.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.Write(data)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// wantNoSpools fails if a file that was on its way is left.
func (w *world) wantNoSpools() {
	w.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		var left []string
		_ = filepath.WalkDir(filepath.Join(w.dir, ".modgate", "spool"), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.Contains(d.Name(), "lock") {
				left = append(left, path)
			}
			return nil
		})
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Errorf("left behind: %q", left)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
