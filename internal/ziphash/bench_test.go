package ziphash

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"
)

// realZips returns the zips below the directory that MODGATE_ZIPS names, by
// their base names. A module cache will do.
func realZips(t testing.TB) map[string]string {
	root := os.Getenv("MODGATE_ZIPS")
	if root == "" {
		t.Skip("MODGATE_ZIPS names no directory")
	}
	zips := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".zip" {
			rel, _ := filepath.Rel(root, path)
			zips[strings.ReplaceAll(rel, string(filepath.Separator), "_")] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return zips
}

func BenchmarkReal(b *testing.B) {
	for name, path := range realZips(b) {
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("stream/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				l, err := Stream(bytes.NewReader(data))
				if err == nil {
					err = l.Check(bytes.NewReader(data), int64(len(data)))
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("dirhash/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := dirhash.HashZip(path, dirhash.Hash1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestReal(t *testing.T) {
	for name, path := range realZips(t) {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := dirhash.HashZip(path, dirhash.Hash1)
			if err != nil {
				t.Fatal(err)
			}
			size := int64(len(data))
			l, err := Stream(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Check(bytes.NewReader(data), size); err != nil {
				t.Error(err)
			}
			if l.H1() != want {
				t.Errorf("Stream %s, dirhash %s", l.H1(), want)
			}
			if got, err := File(bytes.NewReader(data), size); got != want || err != nil {
				t.Errorf("File %s, %v, dirhash %s", got, err, want)
			}
		})
	}
}
