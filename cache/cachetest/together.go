package cachetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modgate/modgate/cache"
)

var listSentences = []sentence{
	{"List yields what starts with the prefix, each once", func(s *suite) {
		all := []string{
			"a.example/m/@v/list", "a.example/m/@v/v1.0.0.info", "a.example/m/@v/v1.0.0.mod",
			"a.example/mm/@v/v1.0.0.mod", "a.example/m/v2/@v/v2.0.0.mod", "b.example/@latest",
			"pins/a.example/m@v1.0.0", "sumdb/sum.example/tile/8/0/000", "sumdb/sum.example/lookup/a.example/m@v1.0.0",
		}
		for _, n := range all {
			s.put(n, n, class(cache.Mutable))
		}
		for _, prefix := range []string{"", "a", "a.example/m", "a.example/m/", "a.example/m/@v/v1", "a.example/m/@v/list", "b.example/@latest", "sumdb/", "sumdb/sum.example/t", "nothing", "a.example/m/@v/list/", "../", "/", "a.example//"} {
			var want []string
			for _, n := range all {
				if strings.HasPrefix(n, prefix) {
					want = append(want, n)
				}
			}
			got := s.list(prefix)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				s.Errorf("List(%q)\ngot  %q\nwant %q", prefix, got, want)
			}
		}
	}},
	{"List yields size, class and time of use", func(s *suite) {
		for _, name := range []string{zipName, listName, pinName} {
			s.put(name, "12345", class(classOf(name)))
			s.put(name, "12345", class(classOf(name)))
		}
		n := 0
		for e, err := range s.s.List(s.Context(), "") {
			s.must(err)
			n++
			if e.Size != 5 || time.Since(e.Used).Abs() > 2*time.Hour {
				s.Errorf("%+v", e)
			}
			if e.Class != classOf(e.Name) {
				s.Errorf("%s has class %d", e.Name, e.Class)
			}
		}
		if n != 3 {
			s.Errorf("%d entries", n)
		}
	}},
	{"List may be left, and allows changes meanwhile", func(s *suite) {
		for i := range 20 {
			s.put(fmt.Sprintf("example.com/m%d/@v/list", i), "x", class(cache.Mutable))
		}
		for _, err := range s.s.List(s.Context(), "") {
			s.must(err)
			break
		}
		n := 0
		for e, err := range s.s.List(s.Context(), "example.com/") {
			s.must(err)
			s.must(s.s.Delete(s.Context(), e.Name))
			n++
		}
		if n != 20 {
			s.Errorf("%d entries", n)
		}
		if left := s.list(""); len(left) != 0 {
			s.Errorf("left: %q", left)
		}
	}},
	{"List with a cancelled context ends with an error", func(s *suite) {
		s.put(zipName, "zip", cache.PutOptions{})
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		var last error
		for _, err := range s.s.List(ctx, "") {
			last = err
		}
		s.fails(last, context.Canceled)
	}},
}

var togetherSentences = []sentence{
	{"Two writers of an immutable name: one wins, the other agrees or conflicts", func(s *suite) {
		for round := range 10 {
			name := fmt.Sprintf("example.com/m/@v/v1.0.%d.zip", round)
			errs := s.together(4, func(i int) error {
				return s.s.Put(s.Context(), name, strings.NewReader(strings.Repeat("ab"[i%2:i%2+1], 5000)), cache.PutOptions{})
			})
			got, _ := s.read(name)
			for i, err := range errs {
				same := got[0] == "ab"[i%2]
				if same && err != nil || !same && !errors.Is(err, cache.ErrConflict) {
					s.Errorf("writer %d of %.1q: %v; the name holds %.1q", i, "ab"[i%2:], err, got)
				}
			}
			s.holds(name, got)
		}
	}},
	{"Two writers of a mutable name: the bytes of one", func(s *suite) {
		for range 10 {
			for _, err := range s.together(4, func(i int) error {
				return s.s.Put(s.Context(), listName, strings.NewReader(strings.Repeat(fmt.Sprint(i), 3000)), class(cache.Mutable))
			}) {
				s.must(err)
			}
			got, _ := s.read(listName)
			s.holds(listName, got)
			if got != strings.Repeat(got[:1], 3000) {
				s.Error("mixed bytes")
			}
		}
	}},
	{"A reader during overwrites and deletes finds one version, whole, or none", func(s *suite) {
		// Versions of equal size, so that only their bytes tell them apart.
		ctx, cancel := context.WithCancel(s.Context())
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				for ctx.Err() == nil {
					s.checkWhole(listName)
				}
			})
		}
		errs := s.together(2, func(i int) error {
			for n := range 30 {
				data := strings.Repeat(fmt.Sprintf("%d%02d", i, n), 1000)
				if err := s.s.Put(s.Context(), listName, strings.NewReader(data), class(cache.Mutable)); err != nil {
					return err
				}
				if n%7 == 6 {
					if err := s.s.Delete(s.Context(), listName); err != nil {
						return err
					}
				}
			}
			return nil
		})
		cancel()
		readers.Wait()
		for _, err := range errs {
			s.must(err)
		}
	}},
	{"Put is visible to Get when it returns", func(s *suite) {
		for _, err := range s.together(4, func(i int) error {
			for n := range 30 {
				name, data := fmt.Sprintf("example.com/m%d/@v/list", i), fmt.Sprint(n)
				if err := s.s.Put(s.Context(), name, strings.NewReader(data), class(cache.Mutable)); err != nil {
					return err
				}
				o, err := s.s.Get(s.Context(), name)
				if err != nil {
					return err
				}
				if b, err := o.ReadAll(10); err != nil || string(b) != data {
					return fmt.Errorf("read %q, %w; wrote %q", b, err, data)
				}
			}
			return nil
		}) {
			s.must(err)
		}
	}},
}

// together runs f n times at once and returns the errors.
func (s *suite) together(n int, f func(i int) error) []error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func (s *suite) checkWhole(name string) {
	o, err := s.s.Get(s.Context(), name)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, cache.ErrCorrupt) {
		return
	}
	if err != nil {
		s.Errorf("get: %v", err)
		return
	}
	b, err := o.ReadAll(1 << 20)
	if err != nil || sum(string(b)) != o.Attrs.SHA256 || int64(len(b)) != o.Attrs.Size {
		s.Errorf("read %d bytes that are not those of the attributes (%v)", len(b), err)
	}
}
