package ziphash

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// allocated returns how many bytes f allocates, garbage included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// An archive that is too large in any way ends early and costs little. The
// limits are lowered, so that the bombs need not be large. Not parallel, for
// what others allocate would count.
func TestBombs(t *testing.T) {
	if m := moduleLimits(); m.packed != 500<<20 || m.unpacked != 500<<20 {
		t.Errorf("the go command allows 500 MiB, packed and unpacked: %+v", m)
	}
	small := limits{packed: 1 << 20, unpacked: 10 << 20, entries: 1000, names: 5000}
	scan := func(t *testing.T, r io.Reader) {
		n := allocated(func() {
			if _, err := newWorker(small).scan(r, nil); !errors.Is(err, ErrLimit) {
				t.Error(err)
			}
		})
		if n > 1<<20 {
			t.Errorf("%d bytes allocated", n)
		}
	}
	t.Run("one file of zeros", func(t *testing.T) {
		scan(t, bytes.NewReader(build(&member{name: "x", data: strings.Repeat("\x00", 10<<20+1), descriptor: 16})))
	})
	t.Run("many files of zeros", func(t *testing.T) {
		var a archive
		for i := range 11 {
			a.local(&member{name: fmt.Sprint(i), data: strings.Repeat("\x00", 1<<20), descriptor: 16})
		}
		a.put(uint32(directorySig))
		scan(t, &a)
	})
	t.Run("endless tail", func(t *testing.T) {
		head := build(&member{name: "x", data: "y", descriptor: 16})
		scan(t, io.MultiReader(bytes.NewReader(head), endless{}))
	})
	t.Run("endless and not streamable", func(t *testing.T) {
		head := build(&member{name: "x", data: "y", descriptor: 16, store: true})
		scan(t, io.MultiReader(bytes.NewReader(head), endless{}))
	})
	t.Run("entries", func(t *testing.T) {
		data := emptyEntries(1001)
		s := small
		s.names = 1 << 20
		for name, f := range map[string]func(w *worker) error{
			"scan":    func(w *worker) error { _, err := w.scan(bytes.NewReader(data), nil); return err },
			"extents": func(w *worker) error { _, err := w.extents(bytes.NewReader(data), int64(len(data))); return err },
		} {
			if err := f(newWorker(s)); !errors.Is(err, ErrLimit) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("names", func(t *testing.T) {
		scan(t, bytes.NewReader(emptyEntries(999)))
	})
	t.Run("File", func(t *testing.T) {
		if _, err := File(bytes.NewReader(nil), 500<<20+1); !errors.Is(err, ErrLimit) {
			t.Error(err)
		}
	})
}

// What a listing costs, garbage included: sixteen toolchains of 11,039 files
// are hashed at once within 128 MiB, and no number of empty files is an attack.
func TestMemory(t *testing.T) {
	for _, c := range []struct{ entries, most int }{{11039, 1500 << 10}, {50000, 5 << 20}} {
		data := emptyEntries(c.entries)
		if _, err := stream(data); err != nil { // the buffers are in the pool now
			t.Fatal(err)
		}
		n := allocated(func() {
			if _, err := stream(data); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%d entries: %d bytes, %.1f each", c.entries, n, float64(n)/float64(c.entries))
		if n > uint64(c.most) {
			t.Errorf("%d bytes allocated for %d entries, want at most %d", n, c.entries, c.most)
		}
	}
}

// emptyEntries returns an archive of n empty stored files.
func emptyEntries(n int) []byte {
	const name = "golang.org/toolchain@v0.0.1-go1.25.0.linux-amd64/test/fixedbugs/issue0000000.go"
	names := strings.Split(name, "0000000")
	local := append([]byte("PK\x03\x04"), make([]byte, localLen-4)...)
	local[26] = byte(len(name))
	entry := append([]byte("PK\x01\x02"), make([]byte, directoryLen-4)...)
	entry[28] = byte(len(name))
	var a archive
	for i := range n {
		a.Write(local)
		fmt.Fprintf(&a, "%s%07d%s", names[0], i, names[1])
	}
	dir := a.Len()
	for i := range n {
		le.PutUint32(entry[42:], uint32(i*(localLen+len(name))))
		a.Write(entry)
		fmt.Fprintf(&a, "%s%07d%s", names[0], i, names[1])
	}
	a.end64(n, dir)
	return a.Bytes()
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
