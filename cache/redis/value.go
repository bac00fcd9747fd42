package redis

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/modgate/modgate/cache"
)

// A value is
//
//	HMAC-SHA256 of all that follows and of the key, in hex  64 bytes
//	header                                                  a line of JSON
//	body                                                    the rest
//
// The HMAC is the version of the value, too: a change is made only if the first
// 64 bytes are still those that were read.
const tagLen = 2 * sha256.Size

// maxHeader bounds tag and header, in bytes: a name of 3 KiB, escaped.
const maxHeader = 24 << 10

// header of a value.
type header struct {
	Name string `json:"name"`
	cache.Stored
}

// record is a value that was right.
type record struct {
	header
	body []byte
	tag  string
}

// key is where the thing of this kind that belongs to name is kept: an object
// ('o') or a lease ('l').
func (s *Store) key(kind byte, name string) string {
	h := hmac.New(sha256.New, s.c.Secret)
	h.Write([]byte{kind, 0})
	h.Write([]byte(name))
	return s.c.Namespace + ":" + string(kind) + ":" + hex.EncodeToString(h.Sum(nil)[:16])
}

// tag authenticates rest as the value of key.
func (s *Store) tag(key string, rest []byte) string {
	h := hmac.New(sha256.New, s.c.Secret)
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write(rest)
	return hex.EncodeToString(h.Sum(nil))
}

// encode returns the value of key for r.
func (s *Store) encode(key string, r *record) ([]byte, error) {
	head, err := json.Marshal(&r.header)
	if err != nil {
		return nil, err
	}
	if tagLen+len(head) >= maxHeader {
		return nil, fmt.Errorf("%w: attributes of %d bytes", cache.ErrFull, len(head))
	}
	value := make([]byte, tagLen, tagLen+len(head)+1+len(r.body))
	value = append(value, head...)
	value = append(value, '\n')
	value = append(value, r.body...)
	copy(value, s.tag(key, value[tagLen:]))
	return value, nil
}

// decode returns the record of name in value, or ErrCorrupt.
func (s *Store) decode(key, name string, value []byte) (*record, error) {
	if len(value) < tagLen {
		return nil, fmt.Errorf("%w: a value of %d bytes", cache.ErrCorrupt, len(value))
	}
	tag := s.tag(key, value[tagLen:])
	if !hmac.Equal([]byte(tag), value[:tagLen]) {
		return nil, fmt.Errorf("%w: the value does not have its digest", cache.ErrCorrupt)
	}
	r, err := parseHeader(value[tagLen:])
	if err != nil {
		return nil, err
	}
	if r.Name != name || r.Size != int64(len(r.body)) {
		return nil, fmt.Errorf("%w: the value is of %.80q, %d bytes", cache.ErrCorrupt, r.Name, r.Size)
	}
	r.tag = tag
	return r, nil
}

// parseHeader reads the header of what follows the tag.
func parseHeader(rest []byte) (*record, error) {
	head, body, ok := bytes.Cut(rest, []byte("\n"))
	var r record
	if !ok || len(head) > maxHeader || json.Unmarshal(head, &r.header) != nil || r.Class > cache.Precious || r.Size < 0 {
		return nil, fmt.Errorf("%w: the header of the value makes no sense", cache.ErrCorrupt)
	}
	r.body = body
	return &r, nil
}
