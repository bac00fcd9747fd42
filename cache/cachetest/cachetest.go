// Package cachetest tests that a cache.Store keeps the contract, sentence by
// sentence. Only tests may import it.
package cachetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

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
