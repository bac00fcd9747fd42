package sumdb

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// source says where a reader may take tiles from.
type source uint8

const (
	anywhere source = iota // memory, storage, remote, whichever comes first
	atHand                 // memory and storage
	remotely               // the remote alone: what is stored has failed its proof
)

// errNotAtHand is what a reader without a remote says of tiles it cannot read.
var errNotAtHand = errors.New("tile is not at hand")

// reader reads tiles for one proof, or a few of one lookup. It is a
// tlog.TileReader, and it remembers what x/mod's interfaces cannot carry: the
// context, and the first trouble at the remote.
type reader struct {
	db   *DB
	ctx  context.Context // of the run that the reader belongs to
	from source
	// unpinned is set where the tiles are of a tree that will not be pinned. Of
	// those only full ones are kept, which are in larger trees as well, and others
	// put aside; not before r is closed: that tree may turn out to be of another
	// log.
	unpinned bool

	mu      sync.Mutex
	kept    map[tlog.Tile][]byte   // read from the storage, perhaps for no proof
	proven  map[tlog.Tile][]byte   // those of kept that a proof was made with
	later   map[tlog.Tile][]byte   // to be kept, or put aside, when r is closed
	joined  map[tlog.Tile]*arrival // arriving or arrived
	fetched map[tlog.Tile]bool     // came from the remote
	partial map[tlog.Tile]error    // why a partial tile could not be fetched, by its full tile
	trouble error                  // first failure that no other tile could replace
}

func (d *DB) reader(ctx context.Context, from source) *reader {
	return &reader{
		db: d, ctx: ctx, from: from,
		kept:    make(map[tlog.Tile][]byte),
		proven:  make(map[tlog.Tile][]byte),
		later:   make(map[tlog.Tile][]byte),
		joined:  make(map[tlog.Tile]*arrival),
		fetched: make(map[tlog.Tile]bool),
		partial: make(map[tlog.Tile]error),
	}
}

// close ends the reader. proven says that every proof it was used for has
// succeeded, and so that the tiles in these proofs are those of the log. Others
// it may have read are not: while it read one from the storage, another reader
// may have put the right one into memory, and the proof took that. Only the first
// close counts: a deferred close(false) is for errors and panics on the way.
func (r *reader) close(proven bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if proven { // before the arrivals are left, or others would send again
		for t, data := range r.later {
			if t == full(t) {
				r.db.tiles.keep(r.ctx, t, data)
			} else {
				r.db.tiles.aside.put(t.Path(), data, len(data))
			}
		}
	}
	clear(r.later)
	for t, a := range r.joined {
		if !proven {
			r.db.tiles.forget(t.Path(), a)
		}
		r.db.tiles.leave(t.Path(), a)
	}
	clear(r.joined)
	if proven && !r.unpinned {
		for t, data := range r.proven {
			if _, ok := r.db.tiles.memory.get(t.Path()); !ok {
				r.db.tiles.memory.put(t.Path(), data, len(data))
			}
		}
	}
}

// local returns t from memory or storage, where a full tile has its partial
// ones in it.
func (r *reader) local(t tlog.Tile) ([]byte, bool) {
	if r.from == remotely {
		return nil, false
	}
	if data, ok := r.db.tiles.proven(t); ok {
		return data, true
	}
	if data, ok := r.stored(t); ok {
		return data, true
	}
	if f := full(t); t != f {
		// Not noted as read: only its first part will have been proven.
		if data, ok := r.db.tiles.kept(r.ctx, f); ok {
			return cut(t, data), true
		}
	}
	return nil, false
}

func (r *reader) stored(t tlog.Tile) ([]byte, bool) {
	r.mu.Lock()
	data, ok := r.kept[t]
	r.mu.Unlock()
	if ok {
		return data, true
	}
	if data, ok = r.db.tiles.kept(r.ctx, t); ok {
		r.mu.Lock()
		r.kept[t] = data
		r.mu.Unlock()
	}
	return data, ok
}

// remote returns t from the remote.
func (r *reader) remote(t tlog.Tile) ([]byte, error) {
	data, err := r.fetch(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.fetched[t] = true
	case t != full(t):
		// The full tile is asked for next; only then is it trouble.
		r.partial[full(t)] = err
	case r.trouble == nil:
		r.trouble = err
		if first := r.partial[t]; first != nil {
			r.trouble = first
		}
	}
	return data, err
}

func (r *reader) fetch(t tlog.Tile) ([]byte, error) {
	switch r.from {
	case atHand:
		return nil, errNotAtHand
	case remotely:
		return r.db.tiles.fetch(r.ctx, t)
	}
	a := r.send(t)
	select {
	case <-a.done:
		return a.data, a.err
	case <-r.ctx.Done():
		return nil, r.ctx.Err()
	}
}

func (r *reader) send(t tlog.Tile) *arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.joined[t]
	if a == nil {
		a = r.db.tiles.join(r.ctx, t)
		r.joined[t] = a
	}
	return a
}

// prefetch sends for those of tiles that are not at hand, so that proofs that
// are made one after the other cost one round trip together.
func (r *reader) prefetch(tiles []tlog.Tile) {
	if r.from != anywhere {
		return
	}
	var missing []tlog.Tile
	for _, t := range tiles {
		if _, ok := r.local(t); !ok {
			missing = append(missing, t)
		}
	}
	r.sendAll(missing)
}

// sendAll sends for tiles. Where other processes want them too it takes their
// turns one after the other in tileOrder: who holds one waits only for later ones.
// For that, all tiles of a reader must be sent for by one call.
func (r *reader) sendAll(tiles []tlog.Tile) {
	if !r.db.shared() {
		for _, t := range tiles {
			r.send(t)
		}
		return
	}
	for _, t := range slices.SortedFunc(slices.Values(tiles), tileOrder) {
		select {
		case <-r.send(t).turn:
		case <-r.ctx.Done():
			return
		}
	}
}

// tileOrder is the order in which the turns of tiles are taken.
func tileOrder(a, b tlog.Tile) int {
	return cmp.Or(cmp.Compare(a.L, b.L), cmp.Compare(a.N, b.N), cmp.Compare(a.W, b.W))
}

// Height is the height of the tiles.
func (r *reader) Height() int { return tileHeight }

// ReadTiles reads tiles in parallel.
func (r *reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	errs := make([]error, len(tiles))
	var missing []int
	for i, t := range tiles {
		var ok bool
		if data[i], ok = r.local(t); ok {
			continue
		}
		if r.from == atHand {
			return nil, errNotAtHand
		}
		missing = append(missing, i)
	}
	if r.from == anywhere && r.db.shared() {
		var wanted []tlog.Tile
		for _, i := range missing {
			wanted = append(wanted, tiles[i])
		}
		r.sendAll(wanted)
	}
	var wg sync.WaitGroup
	for _, i := range missing {
		wg.Go(func() {
			defer r.db.life.outcome(tiles[i].Path(), &errs[i])
			data[i], errs[i] = r.remoteOrFull(tiles[i])
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return data, nil
}

// remoteOrFull asks for the full tile where a partial one is gone, as servers
// may drop those of past heads.
func (r *reader) remoteOrFull(t tlog.Tile) ([]byte, error) {
	data, err := r.remote(t)
	if err == nil || t == full(t) {
		return data, err
	}
	whole, ferr := r.remote(full(t))
	if ferr != nil {
		return nil, err
	}
	r.mu.Lock()
	r.fetched[t] = true
	r.mu.Unlock()
	return cut(t, whole), nil
}

// SaveTiles keeps tiles that are proven by now: those from the remote at once,
// those from the storage, which are kept there, in memory when r is closed.
func (r *reader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		r.mu.Lock()
		fetched := r.fetched[t]
		if _, ok := r.kept[t]; ok {
			r.proven[t] = data[i]
		}
		if fetched && r.unpinned {
			r.later[t] = data[i]
		}
		r.mu.Unlock()
		if fetched && !r.unpinned {
			r.db.tiles.keep(r.ctx, t, data[i])
		}
	}
}
