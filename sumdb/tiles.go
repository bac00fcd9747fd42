package sumdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// tileHeight is the height of the tiles that checksum databases serve.
const tileHeight = 8

// errNoTile says that the remote is sure to have no such tile. It is not
// fs.ErrNotExist, which is for module versions.
var errNoTile = errors.New("the database has no such tile")

// tiles are the tiles of a database: in memory, in the storage, at the remote.
// Those in memory are proven. Those in the storage were, too, but their bytes
// are proven again by whoever reads them. Those that arrive are not yet.
type tiles struct {
	db     *DB
	memory *memory[[]byte] // by Tile.Path
	// aside are partial tiles of trees that were not pinned. One of those may be
	// pinned yet: then they need not come again, and are kept like all that comes.
	aside *memory[[]byte] // by Tile.Path

	mu       sync.Mutex
	arriving map[string]*arrival // by Tile.Path
}

// arrival is a tile on its way, or one that has come and waits for its proof.
// It is shared by the readers that need it and forgotten when the last of them
// leaves, or when it is refuted.
type arrival struct {
	// Guarded by tiles.mu.
	users   int    // readers, and who fetches
	release func() // ends the turn among processes; nil before it has begun

	turn chan struct{} // closed when it is our turn among processes
	done chan struct{} // closed when what is below is final
	data []byte
	err  error
}

func newTiles(db *DB, limit int64) *tiles {
	return &tiles{db: db, memory: newMemory[[]byte](limit), aside: newMemory[[]byte](maxAside), arriving: make(map[string]*arrival)}
}

// maxAside bounds the tiles that are put aside, in bytes: those of some dozen heads.
const maxAside = 512 << 10

func full(t tlog.Tile) tlog.Tile {
	t.W = 1 << t.H
	return t
}

// cut returns the first t.W hashes of a tile that is at least as wide.
func cut(t tlog.Tile, data []byte) []byte {
	n := t.W * tlog.HashSize
	return data[:n:n]
}

// proven returns t from memory, be it as a part of a wider tile.
func (s *tiles) proven(t tlog.Tile) ([]byte, bool) {
	if data, ok := s.memory.get(t.Path()); ok {
		return data, true
	}
	if t == full(t) {
		return nil, false
	}
	wider := []tlog.Tile{full(t)}
	if pin := s.db.heads.pinned(); pin != nil {
		if w := widthIn(pin.tree, t); w > t.W && w < 1<<t.H {
			wider = append(wider, tlog.Tile{H: t.H, L: t.L, N: t.N, W: w})
		}
	}
	for _, w := range wider {
		if data, ok := s.memory.get(w.Path()); ok {
			return cut(t, data), true
		}
	}
	return nil, false
}

// widthIn returns how wide t is in tree: 0 if it is not there at all.
func widthIn(tree tlog.Tree, t tlog.Tile) int {
	width := tree.N>>(t.H*t.L) - t.N<<t.H
	return int(max(0, min(width, 1<<t.H)))
}

// kept returns t, of exactly this width, from the storage.
func (s *tiles) kept(ctx context.Context, t tlog.Tile) ([]byte, bool) {
	data, err := s.db.cfg.Storage.Get(ctx, s.db.stored(t.Path()))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.db.storageTrouble(t.Path(), err)
		}
		return nil, false
	}
	return data, len(data) == t.W*tlog.HashSize
}

// keep keeps a proven tile in memory and in the storage.
func (s *tiles) keep(ctx context.Context, t tlog.Tile, data []byte) {
	if have, ok := s.memory.get(t.Path()); ok && bytes.Equal(have, data) {
		return // another reader was first
	}
	s.memory.put(t.Path(), data, len(data))
	if pin := s.db.heads.pinned(); pin != nil && widthIn(pin.tree, t) > t.W {
		return // of a past pin: superseded by a wider tile
	}
	s.db.keep(ctx, t.Path(), data)
}

// fetch asks the remote. The bytes have the right length, but no proof.
func (s *tiles) fetch(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := s.db.fetch(ctx, "/"+t.Path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", t.Path(), errNoTile)
	case err != nil:
		return nil, err
	case len(data) != t.W*tlog.HashSize:
		return nil, fmt.Errorf("checksum database %s: %s has %d bytes instead of %d", s.db.name, t.Path(), len(data), t.W*tlog.HashSize)
	}
	return data, nil
}

// join returns the tile that is arriving, having sent for it if need be.
// leave must be called once for each join.
func (s *tiles) join(ctx context.Context, t tlog.Tile) *arrival {
	path := t.Path()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.arriving[path]
	if a == nil {
		a = &arrival{turn: make(chan struct{}), done: make(chan struct{}), users: 1}
		if err := s.db.life.start(ctx, func(ctx context.Context) { s.arrive(ctx, t, a) }); err != nil {
			a.err = err // there is nobody else to write it
			a.users--
			close(a.turn)
			close(a.done)
		} else {
			s.arriving[path] = a
		}
	}
	a.users++
	return a
}

// arrive owns the request, which thus ends for no reader but on its own time.
func (s *tiles) arrive(ctx context.Context, t tlog.Tile, a *arrival) {
	ctx, cancel := context.WithTimeout(ctx, s.db.cfg.Timeout)
	defer cancel()
	defer func() {
		if a.err != nil {
			s.forget(t.Path(), a)
		}
		close(a.done)
		s.leave(t.Path(), a)
	}()
	defer s.db.life.outcome(t.Path(), &a.err)
	there := s.takeTurn(ctx, t, a)
	// Who sends for a tile has looked for it, and may have been overtaken by
	// the reader that has just kept it.
	for _, have := range []func(tlog.Tile) ([]byte, bool){s.proven, s.putAside} {
		if data, ok := have(t); ok {
			a.data = data
			return
		}
	}
	if there {
		if data, ok := s.kept(ctx, t); ok {
			a.data = data
			return
		}
	}
	a.data, a.err = s.fetch(ctx, t)
}

func (s *tiles) putAside(t tlog.Tile) ([]byte, bool) { return s.aside.get(t.Path()) }

// takeTurn waits for our turn among processes to fetch t, and reports whether
// another one has put it meanwhile.
func (s *tiles) takeTurn(ctx context.Context, t tlog.Tile, a *arrival) (there bool) {
	defer close(a.turn)
	release, there := s.db.turn(ctx, t.Path())
	s.mu.Lock()
	defer s.mu.Unlock()
	a.release = release
	return there
}

func (s *tiles) leave(path string, a *arrival) {
	s.mu.Lock()
	a.users--
	last, release := a.users == 0, a.release
	if last && s.arriving[path] == a {
		delete(s.arriving, path)
	}
	s.mu.Unlock()
	if last && release != nil {
		release() // the tile is kept by now, or of no use
	}
}

// forget makes the next reader send for the tile again.
func (s *tiles) forget(path string, a *arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.arriving[path] == a {
		delete(s.arriving, path)
	}
}
