package sumdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"
)

// foundTile is a tile, and where it came from.
type foundTile struct {
	data    []byte
	fetched bool // the remote was asked
	// proven is false for a tile of a tree that is larger than ours, which
	// only the client who has the head of that tree can check.
	proven bool
}

// tile returns a tile for a client. joined reports that another had asked
// before. fs.ErrNotExist says that the remote has no such tile and that it is
// in no tree that we know; it may be there a moment later.
func (d *DB) tile(ctx context.Context, t tlog.Tile) (f *foundTile, joined bool, err error) {
	if err := d.life.closed(); err != nil {
		return nil, false, err
	}
	if data, ok := d.tiles.proven(t); ok {
		return &foundTile{data: data, proven: true}, false, nil
	}
	return d.tileRuns.do(ctx, t.Path(), func(ctx context.Context) (*foundTile, error) {
		return d.findTile(ctx, t)
	})
}

func (d *DB) findTile(ctx context.Context, t tlog.Tile) (*foundTile, error) {
	if err := d.load(ctx); err != nil {
		return nil, err
	}
	h, pinned := d.headFor(ctx, t)
	if h == nil {
		data, err := d.tiles.fetch(ctx, t)
		if errors.Is(err, errNoTile) {
			err = fmt.Errorf("%s: %w", t.Path(), fs.ErrNotExist)
		}
		return &foundTile{data: data, fetched: true}, err
	}
	f, err := d.proveTile(d.reader(ctx, anywhere), h, t)
	if errors.Is(err, ErrForged) {
		f, err = d.proveTile(d.reader(ctx, remotely), h, t)
	} else if err != nil {
		// Its proof takes other tiles, which cannot be had now. It was proven
		// when it was stored, and nothing says that it is not what it was; but
		// whoever keeps it should ask again.
		if data, ok := d.tiles.kept(ctx, t); ok {
			return &foundTile{data: data}, nil
		}
	}
	if err == nil && !pinned {
		err = d.onFork(ctx, d.adopt(ctx, h))
	}
	return f, err
}

// headFor returns a head in whose tree t is, or nil, and whether it is or was
// the pinned one.
func (d *DB) headFor(ctx context.Context, t tlog.Tile) (h *head, pinned bool) {
	h, pinned = d.base(ctx)
	if pinned && widthIn(h.tree, t) < t.W {
		d.refresh(ctx)
		h = d.heads.pinned()
	}
	if h == nil || widthIn(h.tree, t) < t.W {
		return nil, false
	}
	return h, pinned
}

// proveTile reads t by r with the tiles that lead to it, and closes r.
func (d *DB) proveTile(r *reader, h *head, t tlog.Tile) (*foundTile, error) {
	defer r.close(false)
	data, err := tlog.ReadTileData(t, tlog.TileHashReader(h.tree, r))
	r.close(err == nil)
	switch {
	case err == nil:
		return &foundTile{data: data, fetched: len(r.fetched) > 0, proven: true}, nil
	case r.trouble != nil:
		return nil, r.trouble
	}
	return nil, fmt.Errorf("%w: %s: %w", ErrForged, t.Path(), err)
}
