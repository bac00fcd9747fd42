// Package cache keeps named bytes within bounds.
//
// The one contract is [Store]. A backend is a folder with one file (disk, mem);
// a decorator (Checked, Limit, Tiered) is a Store too. All of them pass the
// suite of cachetest, which tests the sentences of the contract one by one.
//
// A stored name is the path of the object in the GOPROXY protocol, escaped as
// on the wire ("github.com/!burnt!sushi/toml/@v/v1.0.0.mod"), so that a disk
// tree can be served by any static file server and read by a person.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"
)

// Store keeps named objects. All methods are safe for concurrent use. The
// context is used until the method returns; the body of an Object needs none.
//
// Absent is an error for which errors.Is(err, fs.ErrNotExist) holds. Nothing
// else is a miss: an I/O error, a refused permission or a corrupt object is a
// fault, and a caller that treats it as absence hides a broken disk.
type Store interface {
	// Get opens the object called name. The caller closes Object.Body. An open
	// Object stays readable, with the bytes it had, after Delete, eviction or
	// an overwrite of its name.
	Get(ctx context.Context, name string) (*Object, error)

	// Put stores all of body under name, or nothing: if body returns an error
	// other than io.EOF, ctx is cancelled or the process dies, the name keeps
	// what it had. An immutable name that exists accepts only the same bytes
	// (ErrConflict otherwise) and its Attrs are left as they were, but for
	// those that were empty. When Put returns nil the object is visible to
	// Get; it survives a power failure only if opts.Class is Precious.
	// Attrs.Size and Attrs.SHA256 are computed by the Store; if they are set
	// and differ from the bytes, nothing is stored and the error is ErrCorrupt.
	Put(ctx context.Context, name string, body io.Reader, opts PutOptions) error

	// Delete removes name. Deleting what is absent is not an error.
	Delete(ctx context.Context, name string) error

	// List yields the entries whose name starts with prefix, in no particular
	// order, each once. An error ends the sequence. The prefix "" lists
	// everything. Bodies are not opened.
	List(ctx context.Context, prefix string) iter.Seq2[Entry, error]
}

// Errors of a Store beside fs.ErrNotExist; test with errors.Is.
var (
	// ErrConflict says that an immutable name already holds other bytes.
	ErrConflict = errors.New("name already holds other bytes")
	// ErrCorrupt says that bytes do not have the size or digest they should.
	ErrCorrupt = errors.New("stored bytes are corrupt")
	// ErrName says that a name is not acceptable (see CheckName).
	ErrName = errors.New("invalid name")
	// ErrFull says that there is no room, in bytes or in inodes.
	ErrFull = errors.New("no space left in the cache")
)

// Class says what losing an object would cost, and so how it is published.
type Class uint8

const (
	// Immutable bytes can be fetched again but never change. Published by
	// rename without fsync; its digest finds a torn file after a crash.
	Immutable Class = iota
	// Mutable bytes (list, @latest, branch queries, tree heads of others) may
	// be replaced at any time.
	Mutable
	// Precious bytes are mutable and cannot be fetched again (pins of private
	// modules, keys, our own tree head). Published with fsync of file and
	// directory, never evicted.
	Precious
)

// PutOptions describe what is being stored.
type PutOptions struct {
	Class Class
	Attrs Attrs
}

// Attrs are kept beside an object. The zero value of a field means unknown.
type Attrs struct {
	// Size of the body in bytes.
	Size int64 `json:"size"`
	// SHA256 of the body in lower-case hex. Empty for an object that another
	// program has put there (an adopted tree): such bytes are not proven.
	SHA256 string `json:"sha256,omitempty"`
	// H1 is the "h1:" hash of a .zip or go.mod as in go.sum, if it was proven.
	H1 string `json:"h1,omitempty"`
	// Source is the host that the bytes came from, never with credentials.
	Source string `json:"source,omitempty"`
	// FirstSeen is when this store first held the name, by our wall clock.
	FirstSeen time.Time `json:"first_seen,omitzero"`
	// Checked is when a mutable object was last confirmed by its source.
	Checked time.Time `json:"checked,omitzero"`
}

// Object is an open stored object.
type Object struct {
	Name  string
	Attrs Attrs
	// Class it was stored with, if the Store is one that is shared (redis, s3);
	// Stores near to us say nothing.
	Class Class
	// Body is positioned at the start. Where the bytes are in a file it has
	// ReadAt, Stat, and Sendfile as internal/conn wants it. It is nil where
	// Bytes is set.
	Body io.ReadSeekCloser
	// Bytes is set, and Body nil, where a Store has the whole object in
	// memory. Nobody may change them.
	Bytes []byte
}

// Close closes the body, if there is one.
func (o *Object) Close() error {
	if o.Body == nil {
		return nil
	}
	return o.Body.Close()
}

// ReadAll returns the whole object and closes it. It reads at most limit bytes
// and fails if there are more.
func (o *Object) ReadAll(limit int64) ([]byte, error) {
	defer o.Close()
	if o.Body == nil {
		if int64(len(o.Bytes)) > limit {
			return nil, fmt.Errorf("%s: longer than %d bytes", o.Name, limit)
		}
		return o.Bytes, nil
	}
	b, err := io.ReadAll(io.LimitReader(o.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: longer than %d bytes", o.Name, limit)
	}
	return b, err
}

// Entry is one line of List.
type Entry struct {
	Name string
	// Size of the body in bytes.
	Size int64
	// Used is when the object was last read, exact to the hour, or stored.
	Used time.Time
	// Class it was stored with; Immutable if adopted.
	Class Class
}

// Optional abilities, found by type assertion. A decorator passes on those of
// the Store that it wraps, or does without.
type (
	// Spooler is a Store that can take over a finished file by rename instead
	// of copying it.
	Spooler interface {
		// NewSpool creates an empty file for reading and writing on the file
		// system of the store. The file has no name that Get could find.
		NewSpool() (*os.File, error)
		// PutSpool is Put for a file from NewSpool. It takes the file over by
		// its name; the caller still closes f, which stays readable. If
		// opts.Attrs.SHA256 is set it is trusted and the bytes are not read.
		PutSpool(ctx context.Context, name string, f *os.File, opts PutOptions) error
		// GrowSpool takes room for a file from NewSpool to grow to size bytes.
		// An error means that it must not grow further.
		GrowSpool(f *os.File, size int64) error
		// DropSpool removes a file from NewSpool that will not be published.
		// The caller still closes f.
		DropSpool(f *os.File) error
	}

	// Quarantiner is a Store that can put a corrupt object aside for a person
	// to look at. Afterwards the name is absent.
	Quarantiner interface {
		Quarantine(ctx context.Context, name, reason string) error
	}

	// Toucher is a Store that keeps when an object was last confirmed without
	// rewriting its bytes.
	Toucher interface {
		// Touch replaces Attrs.Checked of a mutable object. Touching what is
		// absent is fs.ErrNotExist.
		Touch(ctx context.Context, name string, checked time.Time) error
	}

	// Locator is a Store from whose storage clients can fetch by themselves.
	Locator interface {
		// Locate returns a URL that whoever has it can fetch name from for some
		// minutes, and what is known of the object. fs.ErrNotExist: there is
		// none now.
		Locate(ctx context.Context, name string) (url string, attrs Attrs, err error)
	}

	// Leaser is a Store that several processes share, and that lets one of
	// them at a time work on a name. A lease saves work and guards nothing:
	// two may believe that they hold it, where one was cut off for a while.
	Leaser interface {
		// Lease takes the lease of name if nobody holds it; release gives it
		// back, once what was Put under name can be seen by the others. Until
		// then it is kept, unless this process dies. If somebody holds it
		// release is nil, and holder tells this holding from all others. An
		// error means that it cannot be told.
		Lease(ctx context.Context, name string) (release func(), holder string, err error)
	}

	// Recoverer is a Store on a server that is left alone while it is in trouble.
	Recoverer interface {
		// Again reports whether what began then and has failed with err is worth
		// another try, because the server was in trouble and is well. It waits
		// for that while the trouble is not older than most.
		Again(ctx context.Context, err error, began time.Time, most time.Duration) bool
	}
)

// CheckName reports, as ErrName, why name cannot be stored: it must be valid
// for fs.ValidPath, no element may start with a dot, and no byte may be a
// control character, a backslash or a colon.
func CheckName(name string) error {
	if !fs.ValidPath(name) || name == "." || len(name) > maxName {
		return fmt.Errorf("%w %.80q", ErrName, name)
	}
	start := true
	for i := range len(name) {
		switch c := name[i]; {
		case start && c == '.', c < ' ', c == 0x7f, c == '\\', c == ':':
			return fmt.Errorf("%w %.80q", ErrName, name)
		}
		start = name[i] == '/'
	}
	return nil
}

// maxName bounds a stored name, in bytes. Linux allows 4,096 for a whole path;
// the rest is left for the directory that the cache stands in.
const maxName = 3072
