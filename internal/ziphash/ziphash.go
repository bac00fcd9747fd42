// Package ziphash computes the "h1:" hash of a module zip while the zip is
// being downloaded, as golang.org/x/mod/sumdb/dirhash does from a complete
// file.
//
// A zip says twice what it holds: in a header before each entry, and in the
// central directory at its end. Every Go program believes the directory, a
// reader from the front can only believe the headers, and nothing in the format
// makes them agree. An archive whose entries are good and whose directory
// points at evil ones has the right hash for the one and the wrong content for
// the other. So hashing takes two steps: [Stream] follows the headers, and
// [Listing.Check] proves, when the last byte is there, that the directory names
// exactly those entries and that no byte of the file belongs to neither.
//
// What passes both is accepted by archive/zip too and has the same hash there.
// The reverse does not hold: archives that a module zip never is (with a
// prefix, a comment, gaps, overlaps, duplicate names) are refused.
package ziphash

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	modzip "golang.org/x/mod/zip"
)

// limits bound what one archive may cost.
type limits struct {
	packed, unpacked int64 // bytes
	entries          int
	names            int // bytes of all names together
}

// moduleLimits are those of the go command, packed and unpacked. It does not
// bound the number of entries; here each costs 56 bytes and its name.
func moduleLimits() limits {
	return limits{
		packed:   modzip.MaxZipFile,
		unpacked: modzip.MaxZipFile,
		entries:  1 << 20,
		names:    64 << 20,
	}
}

// Errors, to be tested with errors.Is. An error that is none of these comes
// from the reader that was given.
var (
	// ErrNotStreamable says that the archive may be good, but its entries
	// cannot be followed from the front. Ask Scan.
	ErrNotStreamable = errors.New("zip cannot be read from the front")
	// ErrFormat says that the bytes are not one whole, consistent archive.
	ErrFormat = errors.New("not a valid module zip")
	// ErrLimit says that the archive is larger than a module may be.
	ErrLimit = errors.New("zip exceeds the limits of a module")
)

// Stream reads a zip from its first byte to the end of r and hashes its
// entries. The hash is worth nothing before Check has passed on the same bytes.
//
// When the error is nil or ErrNotStreamable, r has been read to io.EOF, so that
// whoever writes into r is never blocked. After any other error r stands
// anywhere, and the archive is to be given up. Stream holds about 200 KB of
// buffers while it runs, and about 60 bytes and the name for each entry.
func Stream(r io.Reader) (*Listing, error) {
	w := workers.Get().(*worker)
	defer w.release()
	l, err := w.scan(r, nil)
	if err != nil {
		return nil, fmt.Errorf("ziphash: %w", err)
	}
	return l, nil
}

// File returns the h1 hash of the zip of size bytes in r, as Scan finds it.
func File(r io.ReaderAt, size int64) (string, error) {
	l, err := Scan(r, size)
	if err != nil {
		return "", err
	}
	return l.H1(), nil
}

// Scan is Stream and Check for a complete zip of size bytes in r. It is for
// archives that Stream cannot follow (stored entries whose size comes after
// them) and reads the directory first, but demands of it all that Check does.
func Scan(r io.ReaderAt, size int64) (*Listing, error) {
	w := workers.Get().(*worker)
	defer w.release()
	extents, err := w.extents(r, size)
	if err != nil {
		return nil, fmt.Errorf("ziphash: %w", err)
	}
	l, err := w.scan(io.NewSectionReader(r, 0, size), extents)
	if err != nil {
		return nil, fmt.Errorf("ziphash: %w", err)
	}
	if err := l.Check(r, size); err != nil {
		return nil, err
	}
	return l, nil
}

// Mod returns the h1 hash of a go.mod file, as in the "/go.mod" lines of go.sum.
func Mod(data []byte) string {
	sum := sha256.Sum256(data)
	line := appendLine(nil, sum[:], "", []byte("go.mod"))
	return h1(sha256.Sum256(line))
}

// appendLine appends what one file contributes to the h1 hash: the line that
// sha256sum(1) prints.
func appendLine(b, sum []byte, prefix string, name []byte) []byte {
	b = hex.AppendEncode(b, sum)
	b = append(b, "  "...)
	b = append(b, prefix...)
	b = append(b, name...)
	return append(b, '\n')
}

func h1(sum [sha256.Size]byte) string {
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}
