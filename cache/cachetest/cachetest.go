// Package cachetest tests that a cache.Store keeps the contract, sentence by
// sentence. Only tests may import it.
package cachetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
)

// Test runs the suite. open returns an empty Store with room for some MiB; it
// is called once for each subtest, with the T to register clean-up with.
func Test(t *testing.T, open func(t *testing.T) cache.Store) {
	for _, group := range [][]sentence{getSentences, putSentences, deleteSentences, listSentences, togetherSentences, abilitySentences} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.test(&suite{T: t, s: open(t)})
			})
		}
	}
}

// sentence of the contract and its test.
type sentence struct {
	name string
	test func(*suite)
}

// suite is one subtest over one fresh store.
type suite struct {
	*testing.T
	s cache.Store
}

// Names of the three classes, as the proxy uses them.
const (
	zipName  = "example.com/!acme/m/@v/v1.0.0.zip"
	modName  = "example.com/!acme/m/@v/v1.0.0.mod"
	listName = "example.com/!acme/m/@v/list"
	pinName  = "pins/example.com/m@v1.0.0"
)

var errBody = errors.New("the body broke")

func sum(data string) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

func class(c cache.Class) cache.PutOptions { return cache.PutOptions{Class: c} }

// must fails the test at once.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) put(name, data string, o cache.PutOptions) {
	s.Helper()
	s.must(s.s.Put(s.Context(), name, strings.NewReader(data), o))
}

func (s *suite) open(name string) *cache.Object {
	s.Helper()
	o, err := s.s.Get(s.Context(), name)
	s.must(err)
	return o
}

// read is Get and ReadAll.
func (s *suite) read(name string) (string, cache.Attrs) {
	s.Helper()
	o := s.open(name)
	b, err := o.ReadAll(1 << 26)
	s.must(err)
	return string(b), o.Attrs
}

// holds checks bytes and attributes of name.
func (s *suite) holds(name, want string) {
	s.Helper()
	got, a := s.read(name)
	if got != want {
		s.Errorf("%s holds %.60q, want %.60q", name, got, want)
	}
	if a.Size != int64(len(want)) || a.SHA256 != sum(want) {
		s.Errorf("%s: attributes say %d bytes, SHA-256 %s", name, a.Size, a.SHA256)
	}
}

func (s *suite) absent(name string) {
	s.Helper()
	o, err := s.s.Get(s.Context(), name)
	if err == nil {
		o.Close()
		s.Errorf("%s is there", name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("%s: %v, want fs.ErrNotExist", name, err)
	}
	for _, n := range s.list(name) {
		if n == name {
			s.Errorf("%s is listed", name)
		}
	}
}

func (s *suite) fails(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("error %v, want %v", err, want)
	}
}

// list returns the names that start with prefix and fails if one comes twice.
func (s *suite) list(prefix string) []string {
	s.Helper()
	var names []string
	seen := make(map[string]bool)
	for e, err := range s.s.List(s.Context(), prefix) {
		s.must(err)
		if seen[e.Name] {
			s.Errorf("%s is listed twice", e.Name)
		}
		seen[e.Name] = true
		names = append(names, e.Name)
	}
	return names
}

// failAt yields n bytes of data and then err.
func failAt(data string, n int, err error) io.Reader {
	return io.MultiReader(strings.NewReader(data[:n]), &failing{err})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// cancelling cancels a context when it is first read.
type cancelling struct {
	io.Reader
	cancel context.CancelFunc
}

func (c *cancelling) Read(p []byte) (int, error) {
	c.cancel()
	return c.Reader.Read(p)
}

var getSentences = []sentence{
	{"Get of what is absent is fs.ErrNotExist", func(s *suite) {
		s.absent(zipName)
		s.put(zipName, "zip", class(cache.Immutable))
		s.absent(modName)
		s.absent("example.com")
		s.absent("example.com/!acme/m/@v")
		s.absent(zipName + "/below")
	}},
	{"Get returns the bytes and their attributes", func(s *suite) {
		for i, data := range []string{"", "x", strings.Repeat("0123456789", 20_000)} {
			name := fmt.Sprintf("example.com/m/@v/v1.0.%d.zip", i)
			s.put(name, data, class(cache.Immutable))
			s.holds(name, data)
		}
	}},
	{"Get keeps H1, Source, FirstSeen and Checked", func(s *suite) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		want := cache.Attrs{H1: "h1:abc=", Source: "example.net", FirstSeen: at, Checked: at.Add(time.Hour)}
		s.put(zipName, "zip", cache.PutOptions{Attrs: want})
		want.Size, want.SHA256 = 3, sum("zip")
		if _, got := s.read(zipName); got != want {
			s.Errorf("got  %+v\nwant %+v", got, want)
		}
	}},
	{"Get sets FirstSeen to the time of the first Put", func(s *suite) {
		before := time.Now().Add(-time.Second)
		s.put(listName, "v1.0.0\n", class(cache.Mutable))
		_, a := s.read(listName)
		if a.FirstSeen.Before(before) || a.FirstSeen.After(time.Now().Add(time.Second)) {
			s.Errorf("FirstSeen %v", a.FirstSeen)
		}
		s.put(listName, "v1.0.0\nv1.1.0\n", class(cache.Mutable))
		if _, b := s.read(listName); !b.FirstSeen.Equal(a.FirstSeen) {
			s.Errorf("FirstSeen moved from %v to %v", a.FirstSeen, b.FirstSeen)
		}
	}},
	{"Get positions the body at the start, for seeking and reading", func(s *suite) {
		s.put(zipName, "0123456789", class(cache.Immutable))
		for range 2 {
			o := s.open(zipName)
			if o.Name != zipName {
				s.Errorf("Name %q", o.Name)
			}
			if o.Body != nil {
				_, err := o.Body.Seek(5, io.SeekStart)
				s.must(err)
				rest, err := io.ReadAll(o.Body)
				s.must(err)
				if string(rest) != "56789" {
					s.Errorf("after Seek(5): %q", rest)
				}
			}
			s.must(o.Close())
		}
		s.holds(zipName, "0123456789")
	}},
	{"Get with a cancelled context fails", func(s *suite) {
		s.put(zipName, "zip", class(cache.Immutable))
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		o, err := s.s.Get(ctx, zipName)
		if err == nil {
			o.Close()
		}
		s.fails(err, context.Canceled)
	}},
	{"An open Object needs no context", func(s *suite) {
		s.put(zipName, "zip", class(cache.Immutable))
		ctx, cancel := context.WithCancel(s.Context())
		o, err := s.s.Get(ctx, zipName)
		s.must(err)
		cancel()
		if b, err := o.ReadAll(10); err != nil || string(b) != "zip" {
			s.Errorf("%q, %v", b, err)
		}
	}},
	{"A name that cannot be stored is ErrName", func(s *suite) {
		for _, name := range []string{
			"", ".", "..", "/", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", "a/.", "a/..",
			".hidden", "a/.hidden", ".modgate/layout", "a\x00b", "a\nb", "a\x7f", `a\b`, "C:/x", "a:b",
			"a\xff", strings.Repeat("a/", 2000) + "a",
		} {
			s.fails(s.s.Put(s.Context(), name, strings.NewReader("x"), cache.PutOptions{}), cache.ErrName)
			o, err := s.s.Get(s.Context(), name)
			if err == nil {
				o.Close()
			}
			if !errors.Is(err, cache.ErrName) {
				s.Errorf("Get %.40q: %v, want ErrName", name, err)
			}
			s.fails(s.s.Delete(s.Context(), name), cache.ErrName)
		}
		if got := s.list(""); len(got) != 0 {
			s.Errorf("listed: %q", got)
		}
	}},
}

var putSentences = []sentence{
	{"Put keeps nothing if the body fails, at whatever byte", func(s *suite) {
		data := "0123456789abcdef"
		for _, name := range []string{zipName, listName, pinName} {
			for n := range len(data) + 1 {
				err := s.s.Put(s.Context(), name, failAt(data, n, errBody), class(classOf(name)))
				s.fails(err, errBody)
				s.absent(name)
			}
		}
	}},
	{"Put keeps what the name had if the body fails", func(s *suite) {
		for _, name := range []string{listName, pinName} {
			s.put(name, "before", class(classOf(name)))
			for n := range 8 {
				s.fails(s.s.Put(s.Context(), name, failAt("01234567", n, errBody), class(classOf(name))), errBody)
				s.holds(name, "before")
			}
		}
	}},
	{"Put takes io.ErrUnexpectedEOF for a failure", func(s *suite) {
		s.fails(s.s.Put(s.Context(), zipName, failAt("0123", 2, io.ErrUnexpectedEOF), cache.PutOptions{}), io.ErrUnexpectedEOF)
		s.absent(zipName)
	}},
	{"Put with a cancelled context leaves nothing", func(s *suite) {
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		s.fails(s.s.Put(ctx, zipName, strings.NewReader("zip"), cache.PutOptions{}), context.Canceled)
		s.absent(zipName)
	}},
	{"Put whose context is cancelled meanwhile leaves what was there", func(s *suite) {
		s.put(listName, "before", class(cache.Mutable))
		for _, name := range []string{zipName, listName} {
			ctx, cancel := context.WithCancel(s.Context())
			body := &cancelling{strings.NewReader("after"), cancel}
			s.fails(s.s.Put(ctx, name, body, class(classOf(name))), context.Canceled)
		}
		s.absent(zipName)
		s.holds(listName, "before")
	}},
	{"Put of the same bytes under an immutable name is accepted", func(s *suite) {
		for range 3 {
			s.put(zipName, "zip", class(cache.Immutable))
			s.holds(zipName, "zip")
		}
	}},
	{"Put of other bytes under an immutable name is ErrConflict", func(s *suite) {
		s.put(zipName, "zip", class(cache.Immutable))
		for _, data := range []string{"zap", "", "zip and more"} {
			s.fails(s.s.Put(s.Context(), zipName, strings.NewReader(data), class(cache.Immutable)), cache.ErrConflict)
			s.fails(s.s.Put(s.Context(), zipName, strings.NewReader(data), class(cache.Mutable)), cache.ErrConflict)
			s.holds(zipName, "zip")
		}
	}},
	{"Put of the same bytes fills only attributes that were empty", func(s *suite) {
		s.put(zipName, "zip", cache.PutOptions{Attrs: cache.Attrs{Source: "first.example"}})
		_, first := s.read(zipName)
		s.put(zipName, "zip", cache.PutOptions{Attrs: cache.Attrs{Source: "second.example", H1: "h1:x=", FirstSeen: time.Unix(1, 0)}})
		want := first
		want.H1 = "h1:x="
		if _, got := s.read(zipName); got != want {
			s.Errorf("got  %+v\nwant %+v", got, want)
		}
	}},
	{"Put replaces bytes and attributes of a mutable name", func(s *suite) {
		for _, name := range []string{listName, pinName} {
			for i, data := range []string{"one", "two", "longer than before", "", "six", "six"} {
				at := time.Unix(int64(1000+i), 0).UTC()
				s.put(name, data, cache.PutOptions{Class: classOf(name), Attrs: cache.Attrs{Checked: at}})
				s.holds(name, data)
				if _, a := s.read(name); !a.Checked.Equal(at) {
					s.Errorf("Checked %v, want %v", a.Checked, at)
				}
			}
		}
	}},
	{"Put with a size or digest that is wrong is ErrCorrupt and stores nothing", func(s *suite) {
		s.put(listName, "before", class(cache.Mutable))
		for _, a := range []cache.Attrs{{Size: 2}, {Size: 4}, {SHA256: sum("zap")}, {Size: 3, SHA256: sum("zap")}, {Size: 2, SHA256: sum("zip")}, {SHA256: "junk"}} {
			for _, name := range []string{zipName, listName} {
				err := s.s.Put(s.Context(), name, strings.NewReader("zip"), cache.PutOptions{Class: classOf(name), Attrs: a})
				if !errors.Is(err, cache.ErrCorrupt) {
					s.Errorf("%s with %+v: %v, want ErrCorrupt", name, a, err)
				}
			}
		}
		s.absent(zipName)
		s.holds(listName, "before")
	}},
	{"Put with the right size and digest is accepted", func(s *suite) {
		s.put(zipName, "zip", cache.PutOptions{Attrs: cache.Attrs{Size: 3, SHA256: sum("zip")}})
		s.holds(zipName, "zip")
	}},
	{"Put reads from a reader of any habits", func(s *suite) {
		data := strings.Repeat("many small reads ", 1000)
		s.must(s.s.Put(s.Context(), zipName, &dribble{data: data}, cache.PutOptions{}))
		s.holds(zipName, data)
	}},
}

// dribble returns few bytes at a time, sometimes none, and io.EOF together with
// the last.
type dribble struct {
	data string
	n    int
}

func (d *dribble) Read(p []byte) (int, error) {
	d.n++
	if d.n%5 == 0 {
		return 0, nil
	}
	n := copy(p[:min(len(p), 7*d.n%61)], d.data)
	d.data = d.data[n:]
	if d.data == "" {
		return n, io.EOF
	}
	return n, nil
}

func classOf(name string) cache.Class {
	switch name {
	case listName:
		return cache.Mutable
	case pinName:
		return cache.Precious
	}
	return cache.Immutable
}

var deleteSentences = []sentence{
	{"Delete removes", func(s *suite) {
		for _, name := range []string{zipName, listName, pinName} {
			s.put(name, "data", class(classOf(name)))
			s.must(s.s.Delete(s.Context(), name))
			s.absent(name)
		}
	}},
	{"Delete of what is absent is not an error", func(s *suite) {
		for range 2 {
			s.must(s.s.Delete(s.Context(), zipName))
		}
		s.put(zipName, "zip", cache.PutOptions{})
		s.must(s.s.Delete(s.Context(), "example.com"))
		s.must(s.s.Delete(s.Context(), zipName+"/below"))
		s.holds(zipName, "zip")
	}},
	{"Delete leaves the neighbours", func(s *suite) {
		s.put(zipName, "zip", cache.PutOptions{})
		s.put(modName, "mod", cache.PutOptions{})
		s.must(s.s.Delete(s.Context(), zipName))
		s.absent(zipName)
		s.holds(modName, "mod")
	}},
	{"Delete frees an immutable name for other bytes", func(s *suite) {
		s.put(zipName, "zip", cache.PutOptions{})
		s.must(s.s.Delete(s.Context(), zipName))
		s.put(zipName, "zap", cache.PutOptions{})
		s.holds(zipName, "zap")
	}},
	{"Delete with a cancelled context fails", func(s *suite) {
		s.put(zipName, "zip", cache.PutOptions{})
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		s.fails(s.s.Delete(ctx, zipName), context.Canceled)
		s.holds(zipName, "zip")
	}},
	{"An open Object outlives Delete", func(s *suite) {
		data := strings.Repeat("zip", 100_000)
		s.put(zipName, data, cache.PutOptions{})
		o := s.open(zipName)
		s.must(s.s.Delete(s.Context(), zipName))
		s.put(zipName, "other", cache.PutOptions{})
		b, err := o.ReadAll(1 << 20)
		s.must(err)
		if !bytes.Equal(b, []byte(data)) {
			s.Error("the open object changed")
		}
	}},
	{"An open Object outlives an overwrite", func(s *suite) {
		data := strings.Repeat("list", 100_000)
		s.put(listName, data, class(cache.Mutable))
		o := s.open(listName)
		for i := range 3 {
			s.put(listName, strings.Repeat("LIST", 100_000-i), class(cache.Mutable))
		}
		if b, err := o.ReadAll(1 << 20); err != nil || string(b) != data || o.Attrs.SHA256 != sum(data) {
			s.Errorf("the open object changed (%v)", err)
		}
	}},
}
