package cachetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/modgate/modgate/cache"
)

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
