package sumdb

import (
	"context"
	"fmt"

	"golang.org/x/mod/module"
)

// MismatchError says that a file is not the one that the database knows.
type MismatchError struct {
	Database string
	Module   module.Version
	Kind     string // "mod" or "zip"
	Want     string // "h1:" hash in the database
	Got      string // "h1:" hash of the bytes
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s.%s: checksum mismatch: have %s, %s says %s", e.Module, e.Kind, e.Got, e.Database, e.Want)
}

// Mismatch returns the hash in the database and the one of the bytes.
func (e *MismatchError) Mismatch() (want, got string) { return e.Want, e.Got }

// Verify compares hash with what the database says of m's file of this kind,
// "mod" or "zip". nil is proof. The error is a *MismatchError for other bytes,
// fs.ErrNotExist if the remote is sure that the database knows no such
// version, ErrPrivate if it must not be asked, ErrForged or ErrUntrusted if it
// misbehaved, with a method Public() string for clients, and anything else if
// it cannot be told now. No failure is remembered.
func (d *DB) Verify(ctx context.Context, m module.Version, kind, hash string) error {
	f, _, err := d.lookup(ctx, m)
	if err != nil {
		return err
	}
	want := f.zip
	switch kind {
	case "zip":
	case "mod":
		want = f.mod
	default:
		return fmt.Errorf("verify %s: unknown kind %q", m, kind)
	}
	if want != hash {
		return &MismatchError{Database: d.name, Module: m, Kind: kind, Want: want, Got: hash}
	}
	return nil
}

// Prepare looks m up, because Verify will be called when its bytes have come.
// It returns when the answer is at hand, cannot be had, or ctx ends. The
// lookup goes on without its caller.
func (d *DB) Prepare(ctx context.Context, m module.Version) {
	// Verify finds out again what went wrong, by asking again.
	_, _, _ = d.lookup(ctx, m)
}
