package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/modgate/modgate/cache"
)

const zipName = "example.com/some/module/@v/v1.2.3.zip"

func BenchmarkGet(b *testing.B) {
	ctx := context.Background()
	s := open(b, b.TempDir())
	if err := s.Put(ctx, zipName, bytes.NewReader(make([]byte, 240<<10)), cache.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		o, err := s.Get(ctx, zipName)
		if err != nil {
			b.Fatal(err)
		}
		o.Close()
	}
}

func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		what  string
		name  func(i int) string
		class cache.Class
	}{
		{"new", func(i int) string { return fmt.Sprintf("example.com/m%d/@v/v1.0.0.mod", i) }, cache.Immutable},
		{"again", func(int) string { return "example.com/m/@v/list" }, cache.Mutable},
		{"precious", func(i int) string { return fmt.Sprintf("pins/m%d", i) }, cache.Precious},
	} {
		b.Run(c.what, func(b *testing.B) {
			s := open(b, b.TempDir())
			data := make([]byte, 4<<10)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				binary.LittleEndian.PutUint64(data, uint64(i))
				if err := s.Put(context.Background(), c.name(i), bytes.NewReader(data), cache.PutOptions{Class: c.class}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	s := open(b, b.TempDir())
	for i := range 1000 {
		put(b, s, fmt.Sprintf("example.com/m%d/@v/v1.0.%d.mod", i/10, i%10), "x", cache.Immutable)
	}
	for b.Loop() {
		n := 0
		for _, err := range s.List(context.Background(), "") {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}
