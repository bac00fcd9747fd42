package sumdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// latestName is where the pinned head is stored.
const latestName = "latest"

// head is a signed tree head whose signature was checked.
type head struct {
	tree tlog.Tree
	note []byte // as signed, with the signatures that were checked
}

// heads are what a DB knows of the head of its log.
type heads struct {
	pin atomic.Pointer[head] // written under mu

	mu     sync.Mutex
	loaded bool
	// saved are the bytes that the storage has under latestName, as far as we
	// know. They differ from the pin while the storage takes no writes.
	saved []byte
	// first is what the remote gave as its latest head before anything was
	// pinned: a proposal, which the first proven record makes the pin.
	first *head
}

// pinned returns the head that everything is proven against, nil before the
// first record was.
func (h *heads) pinned() *head { return h.pin.Load() }

// isSettled reports that h is the start of the pinned head, being one itself,
// and that the storage has the pinned head.
func (h *heads) isSettled(past *head) bool {
	pin := h.pin.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	return pin != nil && past.tree.N <= pin.tree.N && bytes.Equal(h.saved, pin.note)
}

// maxTree bounds the size that a head may claim, so that no arithmetic on it
// overflows. It is 10⁶ times the size of Go's database.
const maxTree = 1 << 46

// maxOpened bounds the memory of heads whose signatures were found good, in bytes.
// The 757 lookups for hugo's graph bring 23 different ones.
const maxOpened = 128 << 10

// openHead checks the signature of a head: of the same bytes once, as long as
// they are remembered. What else was signed to it, by keys that we do not know, is
// left out: anybody can add that, by the megabyte.
func (d *DB) openHead(msg []byte) (*head, error) {
	if len(msg) > maxRecord {
		return nil, fmt.Errorf("tree head: %d bytes", len(msg))
	}
	if h, ok := d.opened.get(string(msg)); ok {
		return h, nil
	}
	h, err := d.verifyHead(msg)
	if err == nil {
		d.opened.put(string(msg), h, len(h.note))
	}
	return h, err
}

func (d *DB) verifyHead(msg []byte) (*head, error) {
	n, err := note.Open(msg, d.verifiers)
	if err != nil {
		return nil, fmt.Errorf("tree head: %w", err)
	}
	msg = append([]byte(n.Text), '\n')
	for _, sig := range n.Sigs {
		msg = fmt.Appendf(msg, "— %s %s\n", sig.Name, sig.Base64)
	}
	tree, err := tlog.ParseTree([]byte(n.Text))
	if err != nil {
		return nil, fmt.Errorf("tree head: %w", err)
	}
	if tree.N > maxTree {
		return nil, fmt.Errorf("tree head: size %d is absurd", tree.N)
	}
	return &head{tree, msg}, nil
}

// load reads what was stored by earlier processes: once, unless it fails.
func (d *DB) load(ctx context.Context) error {
	h := &d.heads
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loaded {
		return nil
	}
	evidence, err := d.read(ctx, forkName)
	if err != nil {
		return err
	}
	msg, err := d.read(ctx, latestName)
	if err != nil {
		return err
	}
	if msg != nil {
		// A head that does not verify is no reason to start afresh: that
		// would forget what the log has promised.
		pin, err := d.openHead(msg)
		if err != nil {
			return fmt.Errorf("checksum database %s: stored %s: %w (a new key needs a new database name)", d.name, d.stored(latestName), err)
		}
		h.pin.Store(pin)
		h.saved = msg
	}
	if evidence != nil {
		d.distrust("evidence was stored earlier")
	}
	h.loaded = true
	return nil
}

// base returns the head to start a proof from: the pinned one or, as long as
// there is none, the latest of the remote. nil says that there is neither.
func (d *DB) base(ctx context.Context) (h *head, pinned bool) {
	if pin := d.heads.pinned(); pin != nil {
		return pin, true
	}
	first, _, err := d.firsts.do(ctx, latestName, func(ctx context.Context) (*head, error) {
		d.heads.mu.Lock()
		known := d.heads.first
		d.heads.mu.Unlock()
		if known != nil {
			return known, nil
		}
		msg, err := d.fetch(ctx, "/latest")
		if err != nil {
			return nil, err
		}
		h, err := d.openHead(msg)
		if err != nil {
			return nil, err
		}
		d.heads.mu.Lock()
		d.heads.first = h
		d.heads.mu.Unlock()
		return h, nil
	})
	if err != nil {
		d.log.Info("no latest head; the first lookup brings one", "error", err)
		return nil, false
	}
	return first, false
}

// unpropose forgets a proposal that could not be proven.
func (d *DB) unpropose() {
	d.heads.mu.Lock()
	defer d.heads.mu.Unlock()
	d.heads.first = nil
}

// compare proves that the smaller of two heads is the start of the larger. The
// error is a *forkError if it is not, ErrForged if the tiles fit neither, and
// anything else if it cannot be told.
func (d *DB) compare(a, b *head, r *reader) error {
	older, newer := a, b
	if older.tree.N > newer.tree.N {
		older, newer = newer, older
	}
	if older.tree == newer.tree || older.tree.N == 0 {
		return nil
	}
	if older.tree.N == newer.tree.N {
		return &forkError{older: older, newer: newer, proof: "two heads of one size"}
	}
	hashes := tlog.TileHashReader(newer.tree, r)
	h, err := tlog.TreeHash(older.tree.N, hashes)
	switch {
	case err == nil && h == older.tree.Hash:
		return nil
	case err == nil:
		return &forkError{older: older, newer: newer, proof: proof(older, newer, h, hashes)}
	case r.trouble != nil:
		return r.trouble
	case errors.Is(err, errNotAtHand):
		return err
	}
	return fmt.Errorf("%w: tree %d against tree %d: %w", ErrForged, older.tree.N, newer.tree.N, err)
}

// proof is what shows without the server that newer does not contain older:
// the hash that newer has instead, and the proof for that.
func proof(older, newer *head, h tlog.Hash, hashes tlog.HashReader) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %d has for its first %d records the hash\n\t%v\nproof:\n", newer.tree.N, older.tree.N, h)
	p, err := tlog.ProveTree(newer.tree.N, older.tree.N, hashes)
	if err != nil {
		fmt.Fprintf(&b, "\t%v\n", err)
	}
	for _, h := range p {
		fmt.Fprintf(&b, "\t%v\n", h)
	}
	return b.String()
}
