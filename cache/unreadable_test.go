package cache_test

import (
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/modgate/modgate/cache"
)

// What cannot be read does not heal by itself: it is fetched again at once.
func TestCheckedPutsAsideWhatCannotBeRead(t *testing.T) {
	broken := errors.New("input/output error")
	inner := openMem(t)
	lies := &liar{Store: inner}
	s := cache.NewChecked(lies, cache.CheckedConfig{})
	tiered := cache.NewTiered(openMem(t), s, cache.TieredConfig{})
	for name, get := range map[string]cache.Store{"checked": s, "tiered": tiered} {
		put(t, s, zip, []byte("zip"), cache.Immutable)
		lies.change = func(o *cache.Object) { o.Body = &brokenBody{broken} }
		if _, err := read(get, zip); !errors.Is(err, broken) || !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		lies.change = nil
		if exists(inner, zip) {
			t.Errorf("%s: it was not put aside", name)
		}
	}
	// Proven and then broken, on the way to the fast store.
	lies.Store = openDisk(t, t.TempDir())
	put(t, s, zip, []byte("zip"), cache.Immutable)
	_, err := read(s, zip)
	must(t, err)
	lies.change = func(o *cache.Object) { o.Body = &rotten{o.Body, broken} }
	if _, err := read(tiered, zip); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("proven before: %v", err)
	}
}

// rotten is a file that can be opened, and not read.
type rotten struct {
	io.ReadSeekCloser
	err error
}

func (r *rotten) Read([]byte) (int, error) { return 0, r.err }
