package sumdb

import (
	"fmt"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
)

// record is what a database knows of one module version.
type record struct {
	id       int64
	zip, mod string // "h1:" hashes
	// block is the record as lookups return it, up to and with the blank line
	// behind which the tree head follows.
	block []byte
}

// h1Len is the length of an "h1:" hash: the prefix and base64 of 32 bytes.
const h1Len = len("h1:") + 44

// maxRecord bounds a record with its tree head. Real ones have 600 bytes.
const maxRecord = 64 << 10

// parseRecord reads a record of m, and returns what follows it. A database is
// free to prove any record of its log in answer to a lookup; that the record
// is of m, with both lines and no other, is for the caller of x/mod's client
// to demand (CVE-2026-42501, CVE-2026-56864).
func parseRecord(m module.Version, data []byte) (r *record, rest []byte, err error) {
	if len(data) > maxRecord {
		return nil, nil, fmt.Errorf("malformed record: %d bytes", len(data))
	}
	id, text, rest, err := tlog.ParseRecord(data)
	if err != nil {
		return nil, nil, err
	}
	if id < 0 || id >= maxTree {
		return nil, nil, fmt.Errorf("malformed record: id %d", id)
	}
	r = &record{id: id}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for _, line := range lines {
		if h, ok := hashOf(line, m.Path+" "+m.Version+" "); ok {
			r.zip = h
		} else if h, ok := hashOf(line, m.Path+" "+m.Version+"/go.mod "); ok {
			r.mod = h
		}
	}
	if len(lines) != 2 || r.zip == "" || r.mod == "" {
		return nil, nil, fmt.Errorf("%w: record %d does not have exactly the two lines of %s", ErrForged, id, m)
	}
	if r.block, err = tlog.FormatRecord(id, text); err != nil {
		return nil, nil, err
	}
	return r, rest, nil
}

// in proves that r is a record of tree, whose hash is known to be right.
func (r *record) in(tree tlog.Tree, tiles tlog.TileReader) error {
	_, text, _, err := tlog.ParseRecord(r.block)
	if err != nil {
		return err
	}
	hashes, err := tlog.TileHashReader(tree, tiles).ReadHashes([]int64{tlog.StoredHashIndex(0, r.id)})
	if err == nil && hashes[0] != tlog.RecordHash(text) {
		err = fmt.Errorf("record %d of the tree is another one", r.id)
	}
	return err
}

func hashOf(line, prefix string) (string, bool) {
	h, ok := strings.CutPrefix(line, prefix)
	return h, ok && len(h) == h1Len && strings.HasPrefix(h, "h1:") && !strings.Contains(h, " ")
}

// lookupPath returns "<escaped module>@<escaped version>" of a module version
// that can have a record.
func lookupPath(m module.Version) (string, error) {
	if err := module.Check(m.Path, m.Version); err != nil {
		return "", err
	}
	if m.Version != module.CanonicalVersion(m.Version) {
		return "", fmt.Errorf("%s: not a canonical version", m)
	}
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return path + "@" + version, nil
}
