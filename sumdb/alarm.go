package sumdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Where evidence is stored, below "sumdb/<name>/". While forkName exists the
// remote of the database is not asked.
const (
	forkName    = "evidence/fork"
	suspectName = "evidence/suspect"
)

// forkError says that two properly signed heads contradict each other.
type forkError struct {
	older, newer *head
	proof        string
}

func (e *forkError) Error() string {
	return fmt.Sprintf("signed tree heads of %d and %d records contradict each other", e.older.tree.N, e.newer.tree.N)
}

// evidence is what an operator, or the people who run the log, need to see.
func (e *forkError) evidence() string {
	return fmt.Sprintf("old head:\n%s\nnew head:\n%s\n%s\n", e.older.note, e.newer.note, e.proof)
}

// trusted says why the remote must not be asked, if it must not.
func (d *DB) trusted() error {
	if why := d.untrusted.Load(); why != nil {
		return fmt.Errorf("%w: %s: %s; see %s in the cache, and remove that file once it is understood",
			ErrUntrusted, d.name, *why, d.stored(forkName))
	}
	return nil
}

// alarming is ErrUntrusted or ErrForged with the words for a client.
type alarming struct {
	err  error
	text string
}

func (e *alarming) Error() string { return e.err.Error() }
func (e *alarming) Unwrap() error { return e.err }

// Public tells whoever builds that this is no passing trouble.
func (e *alarming) Public() string { return e.text }

// alarm returns err with the words for a client, if it is one for an alarm.
func (d *DB) alarm(err error) error {
	if text := d.alarmText(err); text != "" {
		return &alarming{err, text}
	}
	return err
}

// alarmText returns what a client reads of ErrUntrusted and ErrForged, and "" for
// anything else.
func (d *DB) alarmText(err error) string {
	switch {
	case errors.Is(err, ErrUntrusted):
		return fmt.Sprintf("SECURITY: %s has contradicted itself, and this proxy does not ask it any more.\n"+
			"What was proven before is still served. Please tell who runs this proxy;\n"+
			"the evidence is in its cache, in %s", d.name, d.stored(forkName))
	case errors.Is(err, ErrForged):
		return fmt.Sprintf("SECURITY: the answer of %s failed its proof, twice.\n"+
			"Somebody between this proxy and the database changes what it says.\n"+
			"Please tell who runs this proxy; what is known is in its log and its cache, in %s", d.name, d.stored(suspectName))
	}
	return ""
}

// distrust stops all requests to the remote and raises the alarm.
func (d *DB) distrust(why string) {
	if d.untrusted.CompareAndSwap(nil, &why) {
		d.alarms.Inc()
		d.log.Error("SECURITY: checksum database contradicted itself and is not asked any more",
			"reason", why, "evidence", d.stored(forkName))
	}
}

// onFork keeps the evidence of a fork, stops trust and returns the error that
// lookups get from now on. Any other error is returned as it is.
func (d *DB) onFork(ctx context.Context, err error) error {
	var fork *forkError
	if !errors.As(err, &fork) {
		return err
	}
	d.distrust(fork.Error())
	d.keepEvidence(ctx, forkName, fork.Error(), fork.evidence())
	return d.trusted()
}

// suspect raises the alarm for an answer that failed its proof twice. What can
// be found out is whether the head in it, if it had one, contradicts ours.
func (d *DB) suspect(ctx context.Context, seen *head, cause error) error {
	pin := d.heads.pinned()
	if pin != nil && seen != nil {
		for _, from := range []source{anywhere, remotely} {
			r := d.reader(ctx, from)
			r.unpinned = true
			defer r.close(false)
			err := d.compare(pin, seen, r)
			if fork := new(forkError); errors.As(err, &fork) {
				return d.onFork(ctx, err)
			}
		}
	}
	d.alarms.Inc()
	d.log.Error("SECURITY: answer of the checksum database failed its proof twice",
		"error", cause, "evidence", d.stored(suspectName))
	var notes strings.Builder
	for _, h := range []*head{pin, seen} {
		if h != nil {
			fmt.Fprintf(&notes, "head:\n%s\n", h.note)
		}
	}
	d.keepEvidence(ctx, suspectName, cause.Error(), notes.String())
	return cause
}

// keepEvidence stores evidence where it outlives us. The first evidence of a
// fork stays; of suspicions the last one does.
func (d *DB) keepEvidence(ctx context.Context, name, why, text string) {
	old, err := d.read(ctx, name)
	if err == nil && (old == nil || name != forkName) {
		text = fmt.Sprintf("%s\nchecksum database %s: %s\n\n%s", time.Now().UTC().Format(time.RFC3339), d.name, why, text)
		err = d.cfg.Storage.Swap(ctx, d.stored(name), old, []byte(text))
	}
	if err != nil {
		d.log.Error("evidence could not be stored; it follows", "error", err, "evidence", text)
	}
}
