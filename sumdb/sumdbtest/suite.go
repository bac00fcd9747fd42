package sumdbtest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/modgate/modgate/sumdb"
)

// names are such as a DB uses.
var names = [...]string{
	"sumdb/sum.golang.org/latest",
	"sumdb/sum.golang.org/evidence/fork",
	"sumdb/sum.golang.org/record/github.com/!burnt!sushi/toml@v1.4.1-0.20240526193622-a339e1f7089c+incompatible",
	"sumdb/sum.corp.example/go/tile/8/0/x259/091",
	"sumdb/sum.corp.example/go/tile/8/0/x259/091.p/83",
	"sumdb/localhost!8080/tile/8/0/000",
}

// TestStorage tests the sentences of the sumdb.Storage contract. open returns
// an empty Storage.
func TestStorage(t *testing.T, open func(t *testing.T) sumdb.Storage) {
	want := func(t *testing.T, s sumdb.Storage, name, data string) {
		t.Helper()
		have, err := s.Get(t.Context(), name)
		if err != nil || string(have) != data {
			t.Errorf("%s: %q, %v; want %q", name, have, err, data)
		}
	}
	absent := func(t *testing.T, s sumdb.Storage, name string) {
		t.Helper()
		if data, err := s.Get(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v; want fs.ErrNotExist", name, data, err)
		}
	}
	ok := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	conflict := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, sumdb.ErrConflict) {
			t.Errorf("%v, want ErrConflict", err)
		}
	}
	tests := map[string]func(t *testing.T, s sumdb.Storage, name string){
		"put is kept, the same bytes again too, others not": func(t *testing.T, s sumdb.Storage, name string) {
			absent(t, s, name)
			ok(t, s.Put(t.Context(), name, []byte("one")))
			ok(t, s.Put(t.Context(), name, []byte("one")))
			conflict(t, s.Put(t.Context(), name, []byte("two")))
			want(t, s, name, "one")
		},
		"swap replaces what it was told of": func(t *testing.T, s sumdb.Storage, name string) {
			conflict(t, s.Swap(t.Context(), name, []byte("one"), []byte("two")))
			absent(t, s, name)
			ok(t, s.Swap(t.Context(), name, nil, []byte("one")))
			conflict(t, s.Swap(t.Context(), name, nil, []byte("two")))
			conflict(t, s.Swap(t.Context(), name, []byte("on"), []byte("two")))
			conflict(t, s.Swap(t.Context(), name, []byte("one "), []byte("two")))
			want(t, s, name, "one")
			ok(t, s.Swap(t.Context(), name, []byte("one"), []byte("two")))
			want(t, s, name, "two")
		},
		"delete makes room, and deletes what is absent": func(t *testing.T, s sumdb.Storage, name string) {
			ok(t, s.Delete(t.Context(), name))
			ok(t, s.Put(t.Context(), name, []byte("one")))
			ok(t, s.Delete(t.Context(), name))
			absent(t, s, name)
			ok(t, s.Put(t.Context(), name, []byte("two")))
			ok(t, s.Delete(t.Context(), name))
			ok(t, s.Swap(t.Context(), name, nil, []byte("three")))
			want(t, s, name, "three")
		},
		"of many swaps from one state one succeeds": func(t *testing.T, s sumdb.Storage, name string) {
			var old []byte
			for round := range 5 {
				var won atomic.Pointer[[]byte]
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						data := fmt.Appendf(nil, "round %d by %d", round, i)
						err := s.Swap(t.Context(), name, old, data)
						if err == nil && !won.CompareAndSwap(nil, &data) {
							t.Error("two swaps succeeded")
						} else if err != nil && !errors.Is(err, sumdb.ErrConflict) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if won.Load() == nil {
					t.Fatal("no swap succeeded")
				}
				old = *won.Load()
				want(t, s, name, string(old))
			}
		},
		"what was taken and given is not changed": func(t *testing.T, s sumdb.Storage, name string) {
			data := bytes.Repeat([]byte("x"), 8192)
			ok(t, s.Put(t.Context(), name, data))
			have, err := s.Get(t.Context(), name)
			if err != nil || !bytes.Equal(have, data) {
				t.Fatalf("%d bytes, %v", len(have), err)
			}
			ok(t, s.Delete(t.Context(), name))
			ok(t, s.Put(t.Context(), name, bytes.Repeat([]byte("y"), 8192)))
			if !bytes.Equal(have, data) {
				t.Error("bytes from Get changed afterwards")
			}
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			for _, name := range names {
				test(t, open(t), name)
			}
		})
	}
	t.Run("names are apart", func(t *testing.T) {
		s := open(t)
		for _, name := range names {
			ok(t, s.Put(t.Context(), name, []byte(name)))
		}
		for _, name := range names {
			want(t, s, name, name)
		}
	})
}
