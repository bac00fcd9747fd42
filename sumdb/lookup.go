package sumdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/module"
)

// found is a proven record, and whether the remote was asked for it.
type found struct {
	*record
	fetched bool
}

// lookup returns the proven record of m. joined reports that another caller
// had asked before. fs.ErrNotExist says that the database has none.
func (d *DB) lookup(ctx context.Context, m module.Version) (f *found, joined bool, err error) {
	if err := d.life.closed(); err != nil {
		return nil, false, err
	}
	if d.cfg.Private(m.Path) {
		return nil, false, fmt.Errorf("%s: %w", m, ErrPrivate)
	}
	path, err := lookupPath(m)
	if err != nil {
		return nil, false, err
	}
	if r, ok := d.records.get(path); ok {
		d.results.WithLabelValues(resultHit).Inc()
		return &found{record: r}, false, nil
	}
	f, joined, err = d.lookups.do(ctx, path, func(ctx context.Context) (*found, error) {
		f, err := d.find(ctx, m, path)
		d.results.WithLabelValues(result(f, err)).Inc()
		return f, err
	})
	if err != nil {
		return nil, joined, fmt.Errorf("look up %s: %w", m, d.alarm(err))
	}
	return f, joined, nil
}

func (d *DB) find(ctx context.Context, m module.Version, path string) (*found, error) {
	if err := d.load(ctx); err != nil {
		return nil, err
	}
	// Who comes here has looked, and may have been overtaken by the run before.
	if r, ok := d.records.get(path); ok {
		return &found{record: r}, nil
	}
	r, err := d.storedRecord(ctx, m, path)
	if r != nil || err != nil {
		return &found{record: r}, err
	}
	d.begin(ctx)
	done, there := d.turn(ctx, recordName(path))
	defer done()
	if there {
		if r, err = d.storedRecord(ctx, m, path); r != nil || err != nil {
			return &found{record: r}, err
		}
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r, err = d.ask(ctx, m, path); err != nil {
		return nil, err
	}
	d.records.put(path, r, len(r.block))
	d.keep(ctx, recordName(path), r.block)
	return &found{r, true}, nil
}

// begin pins a head before the first record is asked for, if other processes
// share the storage, one of them at a time. All need the same tiles then, at the
// edge of the tree, of which two would each fetch some and wait for the others;
// and what one has proven the next knows to be in its tree. Without a head the
// first record brings one.
func (d *DB) begin(ctx context.Context) {
	if !d.shared() || d.heads.pinned() != nil {
		return
	}
	done, _ := d.turn(ctx, "first")
	defer done()
	if d.heads.pinned() == nil {
		if err := d.reload(ctx); err != nil { // the others may have begun
			d.storageTrouble(latestName, d.onFork(ctx, err))
		}
	}
	if _, err := d.latest(ctx); err != nil {
		d.log.Info("no head is pinned; the first record brings one", "error", err)
	}
}

func recordName(path string) string { return "record/" + path }

// storedRecord returns a record that was proven before it was stored, and is in
// the tree of the pinned head; nil if there is none.
func (d *DB) storedRecord(ctx context.Context, m module.Version, path string) (*record, error) {
	data, err := d.read(ctx, recordName(path))
	if err != nil {
		d.storageTrouble(recordName(path), err)
	}
	if data == nil {
		return nil, nil
	}
	r, rest, err := parseRecord(m, data)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	if err != nil {
		// It is looked up again, and replaced.
		d.storageTrouble(recordName(path), err)
		return nil, nil
	}
	pin := d.heads.pinned()
	if pin == nil || r.id >= pin.tree.N {
		// Another process that shares the storage may have a larger one.
		if err := d.reload(ctx); err != nil {
			return nil, d.onFork(ctx, err)
		}
		if pin = d.heads.pinned(); pin == nil || r.id >= pin.tree.N {
			return nil, nil
		}
	}
	proven, err := d.recheck(ctx, r, pin)
	if err != nil {
		d.storageTrouble(recordName(path), err)
		return nil, nil
	}
	if proven {
		d.records.put(path, r, len(r.block))
	}
	return r, nil
}

// recheckPatience is how long a stored record waits for tiles from the remote.
const recheckPatience = 10 * time.Second

// recheck proves a stored record once more: something in the storage may have
// rotted, or come from elsewhere. The tiles for that were stored with it and
// cost no request. One that is not there is fetched, because who can write a
// single record could otherwise choose one whose tile nobody has stored.
//
// Only while the remote is in trouble, lacks tiles of our head, or is not
// trusted any more, a record whose tiles are not at hand is neither proven nor
// an error: a server that is cut off goes on with what it has proven before. It
// is proven when it is next asked for.
func (d *DB) recheck(ctx context.Context, r *record, pin *head) (proven bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, min(recheckPatience, d.cfg.Timeout/2))
	defer cancel()
	tiles := d.reader(ctx, anywhere)
	defer tiles.close(false)
	err = r.in(pin.tree, tiles)
	tiles.close(err == nil)
	if tiles.trouble != nil {
		return false, nil
	}
	return err == nil, err
}

// ask looks m up at the remote and proves the answer. An answer that fails is
// asked for once more, past all caches, before it is held against anybody.
func (d *DB) ask(ctx context.Context, m module.Version, path string) (*record, error) {
	r, seen, err := d.prove(ctx, m, path, anywhere)
	if errors.Is(err, ErrForged) {
		d.log.Warn("answer failed its proof; asking again", "module", m.Path, "version", m.Version, "error", err)
		r, seen, err = d.prove(ctx, m, path, remotely)
		if errors.Is(err, ErrForged) {
			err = d.suspect(ctx, seen, err)
		}
	}
	if err != nil {
		if seen != nil {
			d.unpropose()
		}
		return nil, d.onFork(ctx, err)
	}
	return r, nil
}

// prove fetches the record of m and proves it. seen is the head in the answer,
// also of one that failed.
func (d *DB) prove(ctx context.Context, m module.Version, path string, from source) (r *record, seen *head, err error) {
	s := &session{db: d, reader: d.reader(ctx, from)}
	defer s.reader.close(false)
	var wg sync.WaitGroup
	defer wg.Wait() // also if what follows panics
	wg.Go(func() {
		var err error // is logged; the head in the answer will do
		defer d.life.outcome(latestName, &err)
		s.base, s.pinned = d.base(ctx)
	})
	data, err := d.fetch(ctx, "/lookup/"+path)
	wg.Wait()
	if err != nil {
		return nil, nil, err
	}
	r, rest, err := parseRecord(m, data)
	if err != nil {
		return nil, nil, err
	}
	if seen, err = d.openHead(rest); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrForged, err)
	}
	err = s.run(m, r, seen)
	s.reader.close(err == nil)
	if err == nil {
		err = s.settle()
	}
	return r, seen, err
}
