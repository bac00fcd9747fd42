package sumdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// adopt compares h with the pinned head, makes it the pin if it is larger, and
// stores the pin if that has not been done yet.
func (d *DB) adopt(ctx context.Context, h *head) error {
	r := d.reader(ctx, anywhere)
	err := d.adoptBy(ctx, h, r)
	r.close(err == nil)
	return err
}

func (d *DB) adoptBy(ctx context.Context, h *head, r *reader) error {
	from := d.heads.pinned()
	for range 8 {
		if from != nil {
			if err := d.compare(from, h, r); err != nil {
				return err
			}
			if from.tree.N >= h.tree.N {
				h = from
			}
		}
		other, err := d.swapPin(ctx, from, h)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		from = other
	}
	return fmt.Errorf("checksum database %s: tree head: %w", d.name, ErrConflict)
}

// swapPin makes to the pin, in memory and in the storage, where from was. If
// another head is there the error is ErrConflict and the result that head. The
// caller has proven that to contains from, and that its tiles are stored. A
// storage that takes no writes is logged: it is tried again with each lookup.
func (d *DB) swapPin(ctx context.Context, from, to *head) (*head, error) {
	h := &d.heads
	h.mu.Lock()
	defer h.mu.Unlock()
	pin := h.pin.Load()
	if !same(pin, from) && (from == nil || !bytes.Equal(h.saved, from.note)) {
		return pin, ErrConflict
	}
	if same(pin, to) && bytes.Equal(h.saved, to.note) {
		return nil, nil
	}
	if !bytes.Equal(h.saved, to.note) {
		err := d.cfg.Storage.Swap(ctx, d.stored(latestName), h.saved, to.note)
		switch {
		case errors.Is(err, ErrConflict):
			return d.otherHead(ctx)
		case err != nil:
			d.storageTrouble(latestName, err)
		default:
			h.saved = to.note
		}
	}
	h.pin.Store(to)
	if pin != nil && bytes.Equal(h.saved, to.note) {
		d.dropEdge(ctx, pin.tree, to.tree)
	}
	return nil, nil
}

// otherHead returns what another process has stored as the pinned head.
func (d *DB) otherHead(ctx context.Context) (*head, error) {
	msg, err := d.read(ctx, latestName)
	if err != nil {
		return nil, err
	}
	d.heads.saved = msg
	if msg == nil {
		return d.heads.pin.Load(), ErrConflict
	}
	other, err := d.openHead(msg)
	if err != nil {
		return nil, fmt.Errorf("checksum database %s: stored %s: %w", d.name, latestName, err)
	}
	return other, ErrConflict
}

func same(a, b *head) bool {
	return a == b || a != nil && b != nil && bytes.Equal(a.note, b.note)
}

// dropEdge removes the stored partial tiles of the right edge of a past pin:
// they are in the tiles of the new one, which clients of the old one get too.
func (d *DB) dropEdge(ctx context.Context, past, now tlog.Tree) {
	needed := make(map[tlog.Tile]bool)
	for _, t := range edgeOf(now) {
		needed[t] = true
	}
	for _, t := range edgeOf(past) {
		if t == full(t) || needed[t] {
			continue
		}
		if err := d.cfg.Storage.Delete(ctx, d.stored(t.Path())); err != nil {
			d.storageTrouble(t.Path(), err)
		}
	}
}

// reload takes over the head that another process has pinned.
func (d *DB) reload(ctx context.Context) error {
	msg, err := d.read(ctx, latestName)
	if err != nil || msg == nil {
		return err
	}
	h, err := d.openHead(msg)
	if err != nil {
		return fmt.Errorf("checksum database %s: stored %s: %w", d.name, latestName, err)
	}
	return d.adopt(ctx, h)
}

// refreshEvery is how often clients whose heads are newer than the pinned one
// make us ask for the latest.
const refreshEvery = time.Minute

// refresh moves the pin to the latest head of the remote, if the last time is
// long enough ago. Trouble is logged, and a fork is an alarm.
func (d *DB) refresh(ctx context.Context) {
	now, last := time.Now().UnixNano(), d.refreshed.Load()
	if now-last < int64(refreshEvery) || !d.refreshed.CompareAndSwap(last, now) {
		return
	}
	msg, err := d.fetch(ctx, "/latest")
	if err == nil {
		var h *head
		if h, err = d.openHead(msg); err == nil {
			err = d.onFork(ctx, d.adopt(ctx, h))
		}
	}
	if err != nil {
		d.log.Info("the pinned head could not be refreshed", "error", err)
	}
}

// latest returns the pinned head. If there is none it pins the latest of the
// remote, once the tiles of its right edge are proven and stored.
func (d *DB) latest(ctx context.Context) (*head, error) {
	if pin := d.heads.pinned(); pin != nil {
		return pin, nil
	}
	h, _, err := d.firstPin.do(ctx, latestName, func(ctx context.Context) (*head, error) {
		if err := d.load(ctx); err != nil {
			return nil, err
		}
		h, pinned := d.base(ctx)
		if h == nil || pinned {
			return h, d.trusted()
		}
		r := d.reader(ctx, anywhere)
		hash, err := tlog.TreeHash(h.tree.N, tlog.TileHashReader(h.tree, r))
		r.close(err == nil)
		if err != nil || hash != h.tree.Hash {
			d.unpropose()
			return nil, fmt.Errorf("checksum database %s: latest head: %w", d.name, errors.Join(err, r.trouble))
		}
		return h, d.onFork(ctx, d.adopt(ctx, h))
	})
	if err == nil && h == nil {
		err = fmt.Errorf("checksum database %s: its latest head cannot be had", d.name)
	}
	return h, err
}
