package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/modgate/modgate/cache"
)

// record is one line of an attribute file. The first line speaks of the bytes
// that were published last; a second one of those they were to replace.
type record struct {
	cache.Attrs
	Class className `json:"class,omitzero"`
	// Adopted says that the digest is ours, of bytes that another program has
	// put there: it tells them from others but proves nothing.
	Adopted bool `json:"adopted,omitempty"`
}

// attrs are those that the world may see.
func (r *record) attrs() cache.Attrs {
	a := r.Attrs
	if r.Adopted {
		a.SHA256 = ""
	}
	return a
}

func (r *record) class() cache.Class { return cache.Class(r.Class) }

type className cache.Class

func (c className) MarshalText() ([]byte, error) {
	switch cache.Class(c) {
	case cache.Mutable:
		return []byte("mutable"), nil
	case cache.Precious:
		return []byte("precious"), nil
	}
	return []byte("immutable"), nil
}

func (c *className) UnmarshalText(b []byte) error {
	switch string(b) {
	case "immutable":
		*c = className(cache.Immutable)
	case "mutable":
		*c = className(cache.Mutable)
	case "precious":
		*c = className(cache.Precious)
	default:
		return fmt.Errorf("unknown class %.20q", b)
	}
	return nil
}

const (
	attrSuffix = ".attr"
	// maxAttr bounds an attribute file. Ours have a few hundred bytes.
	maxAttr = 16 << 10
)

// attrName is the path of the attribute file of name.
func attrName(name string) string {
	dir, base := path.Split(name)
	return dir + "." + base + attrSuffix
}

// attrOwner is the inverse of attrName for an element.
func attrOwner(base string) (string, bool) {
	s, ok := strings.CutSuffix(base, attrSuffix)
	if !ok || len(s) < 2 || s[0] != '.' {
		return "", false
	}
	return s[1:], true
}

func encodeRecords(recs []record) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for i := range recs {
		if err := e.Encode(&recs[i]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// decodeRecords returns one or two records, or ErrCorrupt.
func decodeRecords(b []byte) ([]record, error) {
	var recs []record
	for line := range bytes.Lines(b) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%w: attributes: %w", cache.ErrCorrupt, err)
		}
		if d, err := hex.DecodeString(r.SHA256); err != nil || len(d) != sha256.Size || r.Size < 0 || len(recs) == 2 {
			return nil, fmt.Errorf("%w: attributes make no sense", cache.ErrCorrupt)
		}
		recs = append(recs, r)
	}
	if len(recs) == 0 {
		return nil, fmt.Errorf("%w: attributes are empty", cache.ErrCorrupt)
	}
	return recs, nil
}

// choose returns the record that speaks of the size bytes of body. A single
// record is believed if the size is right: comparing digests is the work of
// cache.Checked.
func choose(recs []record, body io.ReaderAt, size int64) (record, error) {
	var fit []record
	for _, r := range recs {
		if r.Size == size {
			fit = append(fit, r)
		}
	}
	switch {
	case len(fit) == 0:
		return record{}, fmt.Errorf("%w: %d bytes where %d should be", cache.ErrCorrupt, size, recs[0].Size)
	case len(fit) == 1 || fit[0].SHA256 == fit[1].SHA256:
		return fit[0], nil
	}
	sum, err := digest(body, size)
	if err != nil {
		return record{}, err
	}
	for _, r := range fit {
		if r.SHA256 == sum {
			return r, nil
		}
	}
	return record{}, fmt.Errorf("%w: neither the new nor the replaced bytes", cache.ErrCorrupt)
}

// digest returns the SHA-256 of the first size bytes of body.
func digest(body io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(body, 0, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// adoptable reports whether a file without attributes may be an object: the
// files of the protocol, and what the go command keeps below sumdb/.
func adoptable(name string) bool {
	if strings.HasPrefix(name, "sumdb/") {
		return true
	}
	dir, base := path.Split(name)
	if base == "@latest" {
		return true
	}
	if path.Base(dir) != "@v" {
		return false
	}
	switch path.Ext(base) {
	case ".info", ".mod", ".zip":
		return true
	}
	return base == "list"
}

var errBusy = errors.New("changes faster than it can be read")
