package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// spoolDir makes files as a store does, and says which are still there.
type spoolDir struct {
	dir  string
	full bool // files of a device without room
	fail error

	made, dropped int
}

func (d *spoolDir) newFile() (*os.File, error) {
	if d.fail != nil {
		return nil, d.fail
	}
	d.made++
	if d.full {
		return os.OpenFile("/dev/full", os.O_RDWR, 0)
	}
	return os.CreateTemp(d.dir, "spool-*")
}

func (d *spoolDir) drop(f *os.File) error {
	d.dropped++
	if d.full {
		return nil
	}
	return os.Remove(f.Name())
}

func (d *spoolDir) left(t interface{ Fatal(...any) }) int {
	names, err := filepath.Glob(filepath.Join(d.dir, "spool-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func randomBytes(n int, seed uint64) []byte {
	data := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = src.Read(data)
	return data
}

// TestSpool: whatever is written in whatever pieces, all readers read just
// that; one that serves clients never sees the tail before the verdict.
func TestSpool(t *testing.T) {
	t.Parallel()
	data := randomBytes(3<<20, 1)
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 4096), rapid.IntRange(heldBack-2, heldBack+2), rapid.IntRange(inMemory-2, inMemory+2), rapid.IntRange(0, 1400<<10)).Draw(rt, "size")
		piece := rapid.OneOf(rapid.IntRange(1, 512), rapid.IntRange(512, 1<<17)).Draw(rt, "piece")
		piece = max(piece, size/100)
		known := rapid.Bool().Draw(rt, "size is known")
		good := rapid.Bool().Draw(rt, "verdict is good")
		d := &spoolDir{dir: dir}
		total := int64(-1)
		if known {
			total = int64(size)
		}
		sp := newSpool(d.newFile, d.drop, total)
		verdict := errors.New("wrong")
		if good {
			verdict = nil
		}
		type result struct {
			data []byte
			err  error
		}
		read := func(trust bool) <-chan result {
			c := make(chan result, 1)
			go func() {
				b, err := io.ReadAll(&spoolReader{ctx: context.Background(), s: sp, trust: trust})
				c <- result{b, err}
			}()
			return c
		}
		trusted, untrusted := read(true), read(false)
		for rest := data[:size]; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := sp.Write(rest[:n]); err != nil {
				rt.Fatal(err)
			}
			rest = rest[n:]
			if limit, wait, err := sp.readable(0, false); err != nil || wait == nil && (!known || limit > total-heldBack) {
				rt.Fatalf("%d bytes of %d can be read without a proof, %v", limit, size, err)
			}
		}
		sp.end()
		if got := <-trusted; got.err != nil || !bytes.Equal(got.data, data[:size]) {
			rt.Fatalf("hashed %d bytes of %d, %v", len(got.data), size, got.err)
		}
		select {
		case got := <-untrusted:
			rt.Fatalf("a client had %d bytes of %d before the verdict, %v", len(got.data), size, got.err)
		default:
		}
		sp.settle(verdict)
		got := <-untrusted
		if !errors.Is(got.err, verdict) || good && !bytes.Equal(got.data, data[:size]) {
			rt.Fatalf("served %d bytes of %d, %v", len(got.data), size, got.err)
		}
		if !good && len(got.data) > max(0, size-heldBack) {
			rt.Fatalf("a client has %d bytes of %d that are wrong", len(got.data), size)
		}
		if (sp.file != nil) != (size > inMemory) {
			rt.Fatalf("%d bytes: in a file %v", size, sp.file != nil)
		}
		sp.release()
		if n := d.left(rt); n != 0 {
			rt.Fatalf("%d files are left", n)
		}
	})
}

func TestSpoolReaders(t *testing.T) {
	t.Parallel()
	t.Run("many follow at once", func(t *testing.T) {
		data := randomBytes(2<<20, 2)
		d := &spoolDir{dir: t.TempDir()}
		sp := newSpool(d.newFile, d.drop, int64(len(data)))
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				got, err := io.ReadAll(&spoolReader{ctx: t.Context(), s: sp})
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		for rest := data; len(rest) > 0; rest = rest[64<<10:] {
			if _, err := sp.Write(rest[:64<<10]); err != nil {
				t.Error(err)
			}
		}
		sp.end()
		sp.settle(nil)
		wg.Wait()
		sp.release()
	})
	t.Run("an end of the wait is not the end of the file", func(t *testing.T) {
		sp := newSpool(nil, nil, 10)
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		cancel(gone)
		if n, err := (&spoolReader{ctx: ctx, s: sp, trust: true}).Read(make([]byte, 1)); n != 0 || err != gone {
			t.Errorf("%d, %v", n, err)
		}
	})
	t.Run("an error stops a reader in the middle", func(t *testing.T) {
		sp := newSpool(nil, nil, heldBack+100)
		r := &spoolReader{ctx: t.Context(), s: sp}
		sp.Write(make([]byte, 60))
		if n, err := r.Read(make([]byte, 50)); n != 50 || err != nil {
			t.Fatal(n, err)
		}
		wrong := errors.New("wrong")
		sp.settle(wrong)
		if n, err := r.Read(make([]byte, 50)); n != 0 || err != wrong {
			t.Errorf("%d bytes after the verdict, %v", n, err)
		}
	})
}

func TestSpoolReadAt(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, inMemory + 100} {
		data := randomBytes(size, 3)
		d := &spoolDir{dir: t.TempDir()}
		sp := newSpool(d.newFile, d.drop, int64(size))
		if _, err := sp.Write(data); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			off, len, want int
			err            error
		}{
			{0, 10, 10, nil}, {size - 10, 10, 10, nil}, {size - 10, 11, 10, io.EOF}, {size, 1, 0, io.EOF}, {size + 5, 1, 0, io.EOF}, {0, size, size, nil}, {0, size + 1, size, io.EOF}, {5, 0, 0, nil},
		} {
			b := make([]byte, c.len)
			n, err := sp.ReadAt(b, int64(c.off))
			if n != c.want || err != c.err || !bytes.Equal(b[:n], data[min(c.off, size):min(c.off+n, size)]) {
				t.Errorf("size %d: ReadAt(%d bytes, %d) = %d, %v", size, c.len, c.off, n, err)
			}
		}
		sp.release()
	}
}

// What the store's file does not take goes on in one of the system, from the
// first byte, and nothing is left of the former.
func TestSpoolWithoutRoom(t *testing.T) {
	t.Parallel()
	data := randomBytes(inMemory+500_000, 4)
	for name, d := range map[string]*spoolDir{
		"the store makes no file":   {fail: syscall.ENOSPC},
		"the first write finds out": {full: true},
		"a later write finds out":   {dir: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			sp := newSpool(d.newFile, d.drop, int64(len(data)))
			for i := 0; i < len(data); i += 50_000 {
				if name == "a later write finds out" && i == inMemory/50_000*50_000+100_000 {
					// The same file, which cannot be written any more.
					ro, err := os.Open(sp.file.Name())
					if err != nil {
						t.Fatal(err)
					}
					sp.file.Close()
					sp.file = ro
				}
				if _, err := sp.Write(data[i:min(i+50_000, len(data))]); err != nil {
					t.Fatal(err)
				}
			}
			if !sp.foreign {
				t.Error("not noted as a file from elsewhere: it would be published by its name")
			}
			sp.end()
			sp.settle(nil)
			got, err := io.ReadAll(&spoolReader{ctx: t.Context(), s: sp})
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
			}
			f := sp.file
			sp.release()
			if d.dropped != d.made {
				t.Errorf("%d files were made in the store, %d dropped", d.made, d.dropped)
			}
			if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("not closed: %v", err)
			}
		})
	}
}

// Room is taken before the first byte is in a file of the store: for the whole
// where its size is known, else for what comes next.
func TestSpoolTakesRoom(t *testing.T) {
	t.Parallel()
	data := randomBytes(inMemory+3*spoolStride, 5)
	for _, c := range []struct {
		name        string
		total, most int64
		claims      int
		foreign     bool
	}{
		{"known size", int64(len(data)), 1 << 40, 1, false},
		{"unknown size", -1, 1 << 40, 3, false},
		{"too little for a known size", int64(len(data)), int64(len(data)) - 1, 1, true},
		{"too little for an unknown size", -1, 2 * spoolStride, 2, true},
	} {
		d := &spoolDir{dir: t.TempDir()}
		sp := newSpool(d.newFile, d.drop, c.total)
		var claims []int64
		sp.grow = func(f *os.File, size int64) error {
			if fi, err := f.Stat(); err != nil || fi.Size() > size {
				t.Errorf("%s: %v, %v when %d are asked for", c.name, fi, err, size)
			}
			claims = append(claims, size)
			if size > c.most {
				return syscall.ENOSPC
			}
			return nil
		}
		for part := data; len(part) > 0; part = part[min(len(part), 100_000):] {
			if _, err := sp.Write(part[:min(len(part), 100_000)]); err != nil {
				t.Fatal(err)
			}
			if sp.file != nil && !sp.foreign && sp.n > claims[len(claims)-1] {
				t.Fatalf("%s: %d bytes in the store, room for %d", c.name, sp.n, claims[len(claims)-1])
			}
		}
		sp.end()
		sp.settle(nil)
		got, err := io.ReadAll(&spoolReader{ctx: t.Context(), s: sp})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
		if len(claims) != c.claims || sp.foreign != c.foreign {
			t.Errorf("%s: asked for %d, from elsewhere: %v", c.name, claims, sp.foreign)
		}
		sp.release()
		if d.left(t) != 0 {
			t.Errorf("%s: a file is left", c.name)
		}
	}
}

// No room anywhere is an error, and again no file is left.
func TestSpoolWithoutAnyRoom(t *testing.T) {
	d := &spoolDir{dir: t.TempDir()}
	sp := newSpool(d.newFile, d.drop, 2*inMemory)
	if _, err := sp.Write(make([]byte, inMemory+1)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", filepath.Join(d.dir, "missing"))
	ro, err := os.Open(sp.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	sp.file.Close()
	sp.file = ro
	if _, err := sp.Write(make([]byte, 10)); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("got %v", err)
	}
	if sp.size() != inMemory+1 {
		t.Errorf("size %d counts what was not written", sp.size())
	}
	sp.release()
	if d.left(t) != 0 {
		t.Error("a file is left in the store")
	}
}

func TestSpoolReleaseKeepsWhatWasTaken(t *testing.T) {
	t.Parallel()
	d := &spoolDir{dir: t.TempDir()}
	sp := newSpool(d.newFile, d.drop, -1)
	if _, err := sp.Write(make([]byte, inMemory+1)); err != nil {
		t.Fatal(err)
	}
	sp.take()
	sp.release()
	if d.left(t) != 1 {
		t.Error("the file that the store has taken over was removed")
	}
}
