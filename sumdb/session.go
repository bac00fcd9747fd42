package sumdb

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/mod/module"
	modsumdb "golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/tlog"
)

// session is one lookup. Where that is left to x/mod's client, it does the
// operations for it; a client is used once, because it remembers every failure
// for ever.
type session struct {
	db     *DB
	reader *reader
	// base is the head that the proof starts from, nil if there is none, and
	// pinned reports that it is the pinned one.
	base   *head
	pinned bool
	known  []*head // the heads that the client has started from
	answer []byte  // what the remote says to the lookup, as the client sees it
	fork   string  // what the client said when it found one
	config error   // why the pin could not be moved
}

// run proves record r of m. The head that came with it is used only if r is
// not in the tree that we have. In a tree that we have, what the client would
// do for the record is r.in; the rest would be to prove once more that our own
// head is what it is, three signatures and the edge of the tree for each
// module. What fails there comes again, from the remote alone and by the client.
func (s *session) run(m module.Version, r *record, seen *head) error {
	target := s.base
	if target == nil || r.id >= target.tree.N {
		target = seen
	}
	if r.id >= target.tree.N {
		return fmt.Errorf("%w: record %d comes with a tree of %d records", ErrForged, r.id, target.tree.N)
	}
	tiles := tilesOf(target.tree, r.id)
	if s.base != nil && target != s.base {
		tiles = append(tiles, tilesBetween(s.base.tree, target.tree)...)
	}
	from := atHand
	if target == s.base && s.db.headCheckDue() {
		from = anywhere
		tiles = append(tiles, tilesToCompare(s.base.tree, seen.tree)...)
	}
	s.reader.prefetch(tiles)
	if target == s.base {
		if err := s.checkUnused(seen, from); err != nil {
			return err
		}
		if s.reader.from == anywhere {
			return s.classify(r.in(target.tree, s.reader), seen)
		}
	}
	s.answer = append(bytes.Clone(r.block), target.note...)
	client := modsumdb.NewClient(s)
	for version, want := range map[string]string{m.Version: r.zip, m.Version + "/go.mod": r.mod} {
		lines, err := client.Lookup(m.Path, version)
		if err != nil {
			return s.classify(err, seen)
		}
		if len(lines) != 1 || lines[0] != m.Path+" "+version+" "+want {
			return fmt.Errorf("%w: %q are not the lines of %s", ErrForged, lines, m)
		}
	}
	s.base = later(s.base, target)
	return nil
}

func later(a, b *head) *head {
	if a == nil || b.tree.N > a.tree.N {
		return b
	}
	return a
}

// classify finds out what an error of a proof was, whose text alone says.
func (s *session) classify(err error, seen *head) error {
	switch {
	case err == nil:
		return nil
	case s.fork != "":
		return &forkError{older: s.base, newer: seen, proof: s.fork}
	case s.reader.trouble != nil:
		return s.reader.trouble
	case s.config != nil:
		return s.config
	case s.reader.ctx.Err() != nil:
		return s.reader.ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrForged, err)
}

// headCheckDue reports whether a head that is not needed is to be compared even
// if tiles must be fetched for that: true to one caller every Config.HeadCheck.
func (d *DB) headCheckDue() bool {
	now, last := time.Now().UnixNano(), d.compared.Load()
	return now-last >= int64(d.cfg.HeadCheck) && d.compared.CompareAndSwap(last, now)
}

// checkUnused compares a head that is not needed with the one that is, if the
// tiles can be had from there; what cannot be told now is not an error.
func (s *session) checkUnused(seen *head, from source) error {
	r := s.db.reader(s.reader.ctx, from)
	defer r.close(false)
	r.unpinned = seen.tree.N > s.base.tree.N
	err := s.db.compare(s.base, seen, r)
	r.close(err == nil)
	if fork := new(forkError); errors.As(err, &fork) {
		return err
	}
	if err != nil && from != atHand {
		s.db.log.Info("a tree head could not be compared", "size", seen.tree.N, "error", err)
	}
	return nil
}

// settle makes the head that the record was proven against the pin, if it is
// not yet.
func (s *session) settle() error {
	if s.pinned && s.db.heads.isSettled(s.base) {
		return nil
	}
	return s.db.adopt(s.reader.ctx, s.base)
}

// ReadRemote returns the answer for the lookup, and tiles.
func (s *session) ReadRemote(path string) ([]byte, error) {
	t, err := tlog.ParseTilePath(path[1:])
	if err != nil {
		return s.answer, nil
	}
	return s.reader.remote(t)
}

// ReadConfig returns the key, or the head to start from.
func (s *session) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(s.db.key), nil
	}
	if s.base == nil {
		return nil, nil
	}
	return s.base.note, nil
}

// WriteConfig moves the pin, whose proof the client has just made. Before
// there is a pin it does nothing: settle does, after the record was proven.
func (s *session) WriteConfig(_ string, _, msg []byte) error {
	if s.base == nil || !s.pinned {
		return nil
	}
	to, err := s.db.openHead(msg)
	if err != nil {
		return err
	}
	s.known = append(s.known, s.base)
	other, err := s.db.swapPin(s.reader.ctx, s.known, to)
	if errors.Is(err, ErrConflict) && len(s.known) < maxSwaps {
		// The client compares it with what it has, and comes again.
		s.base = other
		return modsumdb.ErrWriteConflict
	}
	s.config = err
	return err
}

// ReadCache returns tiles that are at hand. Records are not asked of it: a
// record that is at hand needs no client.
func (s *session) ReadCache(file string) ([]byte, error) {
	t, err := tlog.ParseTilePath(file[len(s.db.name)+1:])
	if err != nil {
		return nil, fs.ErrNotExist
	}
	if data, ok := s.reader.local(t); ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

// WriteCache keeps a proven tile.
func (s *session) WriteCache(file string, data []byte) {
	if t, err := tlog.ParseTilePath(file[len(s.db.name)+1:]); err == nil {
		s.db.tiles.keep(s.reader.ctx, t, data)
	}
}

// Log has nothing to say: the client logs no more than its errors.
func (s *session) Log(string) {}

// SecurityError notes the proof of a fork.
func (s *session) SecurityError(msg string) { s.fork = msg }
