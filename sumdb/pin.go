package sumdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// maxSwaps is how often a head is compared with another one that came in
// between, before a storage that always has another one is given up.
const maxSwaps = 8

// adopt compares h with the pinned head, makes it the pin if it is larger, and
// stores the pin if that has not been done yet.
func (d *DB) adopt(ctx context.Context, h *head) error {
	var known []*head
	for range maxSwaps {
		other, err := d.swapPin(ctx, known, h)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if other == nil {
			continue // it was removed in between
		}
		if err := d.compareNow(ctx, other, h); err != nil {
			return err
		}
		if other.tree.N >= h.tree.N {
			h = other
		}
		known = append(known, other)
	}
	return fmt.Errorf("checksum database %s: tree head: %w", d.name, ErrConflict)
}

// compareNow is compare with a reader of its own, so that each comparison sends
// for its tiles at once and keeps no turn for the next one.
func (d *DB) compareNow(ctx context.Context, a, b *head) error {
	r := d.reader(ctx, anywhere)
	defer r.close(false)
	err := d.compare(a, b, r)
	r.close(err == nil)
	return err
}

// swapPin makes to the pin, in memory and in the storage. known are the heads
// that the caller has proven to be the start of to, whose tiles are stored. If
// the pin or the stored head is another one, nothing is changed, the error is
// ErrConflict, and that head is returned to be compared. A storage that takes
// no writes is logged: it is tried again with each lookup.
func (d *DB) swapPin(ctx context.Context, known []*head, to *head) (*head, error) {
	h := &d.heads
	h.mu.Lock()
	defer h.mu.Unlock()
	pin := h.pin.Load()
	if pin != nil && !contains(known, pin.note) && !bytes.Equal(pin.note, to.note) {
		return pin, ErrConflict
	}
	if h.saved != nil && !contains(known, h.saved) && !bytes.Equal(h.saved, to.note) {
		return d.savedHead()
	}
	if !bytes.Equal(h.saved, to.note) {
		err := d.cfg.Storage.Swap(ctx, d.stored(latestName), h.saved, to.note)
		switch {
		case errors.Is(err, ErrConflict):
			if h.saved, err = d.read(ctx, latestName); err != nil {
				return nil, err
			}
			return d.savedHead()
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

// savedHead returns the head in the storage as the reason of a conflict. One
// that was removed there is no less binding.
func (d *DB) savedHead() (*head, error) {
	if d.heads.saved == nil {
		return d.heads.pin.Load(), ErrConflict
	}
	other, err := d.openHead(d.heads.saved)
	if err != nil {
		return nil, fmt.Errorf("checksum database %s: stored %s: %w", d.name, d.stored(latestName), err)
	}
	return other, ErrConflict
}

func contains(known []*head, note []byte) bool {
	return slices.ContainsFunc(known, func(h *head) bool { return bytes.Equal(h.note, note) })
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
	if err := d.life.closed(); err != nil {
		return nil, err
	}
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
		defer r.close(false)
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
