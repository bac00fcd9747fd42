package cachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/modgate/modgate/cache"
)

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
