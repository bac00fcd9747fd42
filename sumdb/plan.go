package sumdb

import (
	"errors"

	"golang.org/x/mod/sumdb/tlog"
)

// planTiles returns the tiles that do reads through a tile reader: a dry run.
func planTiles(do func(tlog.TileReader)) []tlog.Tile {
	var p planner
	do(&p)
	return p.tiles
}

type planner struct{ tiles []tlog.Tile }

var errPlanned = errors.New("only planned")

func (p *planner) Height() int { return tileHeight }

func (p *planner) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	p.tiles = append(p.tiles, tiles...)
	return nil, errPlanned
}

func (p *planner) SaveTiles([]tlog.Tile, [][]byte) {}

// edgeOf returns the tiles of the right edge of tree.
func edgeOf(tree tlog.Tree) []tlog.Tile {
	return planTiles(func(r tlog.TileReader) { tlog.TreeHash(tree.N, tlog.TileHashReader(tree, r)) })
}

// tilesOf returns the tiles that prove record id in tree.
func tilesOf(tree tlog.Tree, id int64) []tlog.Tile {
	return planTiles(func(r tlog.TileReader) {
		tlog.TileHashReader(tree, r).ReadHashes([]int64{tlog.StoredHashIndex(0, id)})
	})
}

// tilesBetween returns the tiles that prove older to be the start of newer.
func tilesBetween(older, newer tlog.Tree) []tlog.Tile {
	return planTiles(func(r tlog.TileReader) { tlog.TreeHash(older.N, tlog.TileHashReader(newer, r)) })
}

// tilesToCompare returns the tiles that prove the smaller of two trees to be the
// start of the larger.
func tilesToCompare(a, b tlog.Tree) []tlog.Tile {
	if a.N > b.N {
		a, b = b, a
	}
	if a.N == 0 || a.N == b.N {
		return nil
	}
	return tilesBetween(a, b)
}
