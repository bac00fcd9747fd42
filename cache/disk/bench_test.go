package disk_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
)

const zipName = "example.com/some/module/@v/v1.2.3.zip"

func BenchmarkGet(b *testing.B) {
	ctx := context.Background()
	s, err := disk.New(disk.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
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
	ctx := context.Background()
	s, err := disk.New(disk.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	data := make([]byte, 4<<10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		data[0], data[1], data[2] = byte(i), byte(i>>8), byte(i>>16)
		if err := s.Put(ctx, "example.com/m/@v/list", bytes.NewReader(data), cache.PutOptions{Class: cache.Mutable}); err != nil {
			b.Fatal(err)
		}
	}
}
