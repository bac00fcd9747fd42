package mem_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/mem"
)

func open(t testing.TB, c mem.Config) *mem.Store {
	t.Helper()
	s, err := mem.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	cachetest.Test(t, func(t *testing.T) cache.Store {
		return open(t, mem.Config{MaxBytes: 256 << 20, MaxObject: 1 << 20})
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []mem.Config{{}, {MaxBytes: 1 << 20}, {MaxObject: 1}, {MaxBytes: 3, MaxObject: 1}, {MaxBytes: 4, MaxObject: -1}} {
		if _, err := mem.New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func put(t testing.TB, s *mem.Store, name, data string) {
	t.Helper()
	if err := s.Put(context.Background(), name, strings.NewReader(data), cache.PutOptions{Class: cache.Mutable}); err != nil {
		t.Fatal(err)
	}
}

func has(s *mem.Store, name string) bool {
	_, err := s.Get(context.Background(), name)
	return err == nil
}

func TestObjectsHaveBytesAndShareThem(t *testing.T) {
	s := open(t, mem.Config{MaxBytes: 1 << 20, MaxObject: 1 << 10})
	put(t, s, "a", "bytes")
	a, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := s.Get(t.Context(), "a")
	if a.Body != nil || string(a.Bytes) != "bytes" || &a.Bytes[0] != &b.Bytes[0] {
		t.Errorf("%+v, %+v", a, b)
	}
	put(t, s, "empty", "")
	if o, err := s.Get(t.Context(), "empty"); err != nil || o.Bytes == nil {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestTooLargeIsErrFull(t *testing.T) {
	s := open(t, mem.Config{MaxBytes: 1 << 20, MaxObject: 100})
	put(t, s, "a", strings.Repeat("x", 100))
	err := s.Put(t.Context(), "b", strings.NewReader(strings.Repeat("x", 101)), cache.PutOptions{})
	if !errors.Is(err, cache.ErrFull) || has(s, "b") {
		t.Errorf("%v", err)
	}
}

// bytesUsed reads the gauge of s.
func bytesUsed(t *testing.T, s *mem.Store) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(s.Collectors()...)
	f, err := r.Gather()
	if err != nil || len(f) != 1 || f[0].GetName() != "modgate_cache_memory_bytes" {
		t.Fatalf("%v, %v", f, err)
	}
	return f[0].GetMetric()[0].GetGauge().GetValue()
}

func TestNeverMoreThanMaxBytes(t *testing.T) {
	const limit = 1 << 20
	s := open(t, mem.Config{MaxBytes: limit, MaxObject: 8 << 10})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for n := range 1000 {
				put(t, s, fmt.Sprintf("n%d", r.IntN(1000)), strings.Repeat("x", r.IntN(8<<10)))
				_ = s.Delete(t.Context(), fmt.Sprintf("n%d", r.IntN(1000)))
				if n%50 > 0 {
					continue
				}
				if got := bytesUsed(t, s); got > limit {
					t.Errorf("%v bytes", got)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := bytesUsed(t, s); got < limit/2 {
		t.Errorf("only %v bytes are used", got)
	}
	for e, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), e.Name); err != nil {
			t.Fatal(err)
		}
	}
	if got := bytesUsed(t, s); got != 0 {
		t.Errorf("%v bytes are counted in an empty store", got)
	}
}

func TestWhatIsUsedSurvivesAScan(t *testing.T) {
	s := open(t, mem.Config{MaxBytes: 64 << 10, MaxObject: 16 << 10}) // one shard
	put(t, s, "hot", strings.Repeat("x", 1000))
	for i := range 1000 {
		if !has(s, "hot") {
			t.Fatalf("gone after %d objects that were used once", i)
		}
		put(t, s, fmt.Sprintf("cold%d", i), strings.Repeat("x", 1000))
	}
	if has(s, "cold0") {
		t.Error("cold0 is still there")
	}
}

func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, mem.Config{MaxBytes: 1 << 20, MaxObject: 1 << 10, MaxAge: time.Minute})
		put(t, s, "a", "x")
		put(t, s, "b", "x")
		time.Sleep(59 * time.Second)
		if err := s.Touch(t.Context(), "b", time.Now()); err != nil {
			t.Error(err)
		}
		if !has(s, "a") || !has(s, "b") {
			t.Error("gone too early")
		}
		time.Sleep(time.Second)
		if has(s, "a") || !has(s, "b") {
			t.Error("a should be gone, b not")
		}
		time.Sleep(24 * time.Hour)
		if _, err := s.Get(t.Context(), "b"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	ctx := context.Background()
	s := open(b, mem.Config{MaxBytes: 64 << 20, MaxObject: 256 << 10})
	var names [512]string
	for i := range names {
		names[i] = fmt.Sprintf("example.com/some/module%d/@v/v1.2.3.mod", i)
		put(b, s, names[i], strings.Repeat("x", 2000))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(512); pb.Next(); i++ {
			if _, err := s.Get(ctx, names[i%512]); err != nil {
				b.Error(err)
			}
		}
	})
}
