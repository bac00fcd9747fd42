package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/modgate/modgate/cache"
)

// Metadata of an object: x-amz-meta-….
const (
	metaClass     = "class"
	metaSHA256    = "sha256"
	metaH1        = "h1"
	metaSource    = "source"
	metaFirstSeen = "first-seen"
	metaChecked   = "checked"
	// metaTag is an HMAC-SHA256 of the name, the size and all of the above.
	metaTag = "tag"
)

var classNames = [...]string{cache.Immutable: "immutable", cache.Mutable: "mutable", cache.Precious: "precious"}

// encode returns the metadata of what is stored under name.
func (s *Store) encode(name string, d cache.Stored) map[string]string {
	m := map[string]string{metaClass: classNames[d.Class], metaSHA256: d.SHA256}
	set := func(key, value string) {
		if value != "" {
			m[key] = value
		}
	}
	set(metaH1, d.H1)
	set(metaSource, d.Source)
	set(metaFirstSeen, timeText(d.FirstSeen))
	set(metaChecked, timeText(d.Checked))
	m[metaTag] = s.tag(name, d.Size, m)
	return m
}

// decode reads the metadata of an object of size bytes that was found under
// name, or returns ErrCorrupt.
func (s *Store) decode(name string, size int64, m map[string]string) (cache.Stored, error) {
	if !hmac.Equal([]byte(s.tag(name, size, m)), []byte(m[metaTag])) {
		return cache.Stored{}, fmt.Errorf("%w: %d bytes without a tag that is right (written with another secret, or by another program?)", cache.ErrCorrupt, size)
	}
	d := cache.Stored{Attrs: cache.Attrs{Size: size, SHA256: m[metaSHA256], H1: m[metaH1], Source: m[metaSource]}}
	for class, n := range classNames {
		if n == m[metaClass] {
			d.Class = cache.Class(class)
		}
	}
	d.FirstSeen, d.Checked = parseTime(m[metaFirstSeen]), parseTime(m[metaChecked])
	return d, nil
}

func (s *Store) tag(name string, size int64, m map[string]string) string {
	h := hmac.New(sha256.New, s.c.Secret)
	fmt.Fprintf(h, "modgate object 1\n%q\n%d\n", name, size)
	for _, key := range [...]string{metaClass, metaSHA256, metaH1, metaSource, metaFirstSeen, metaChecked} {
		fmt.Fprintf(h, "%s %q\n", key, m[key])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// parseTime returns the zero time for what is none: tags have been compared.
func parseTime(text string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, text)
	return t
}
