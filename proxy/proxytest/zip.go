package proxytest

import (
	"archive/zip"
	"bytes"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/dirhash"
)

// TwoFaced returns a zip that shows m's files to who reads its directory and
// other contents of the same names and sizes to who reads it front to back.
func TwoFaced(tb testing.TB, m *Module) []byte {
	tb.Helper()
	zr, err := zip.NewReader(bytes.NewReader(m.Zip), int64(len(m.Zip)))
	if err != nil {
		tb.Fatal(err)
	}
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for _, f := range zr.File { // the face that is streamed
		data := bytes.Repeat([]byte("x"), int(f.UncompressedSize64))
		put(tb, zw, f.Name, data)
	}
	if err := zw.Flush(); err != nil {
		tb.Fatal(err)
	}
	streamed := bytes.Clone(buf.Bytes())
	var honest bytes.Buffer
	zw = zip.NewWriter(&honest)
	zw.SetOffset(int64(len(streamed)))
	for _, f := range zr.File {
		data, err := readZipped(f)
		if err != nil {
			tb.Fatal(err)
		}
		put(tb, zw, f.Name, data)
	}
	if err := zw.Close(); err != nil {
		tb.Fatal(err)
	}
	return append(streamed, honest.Bytes()...)
}

func put(tb testing.TB, zw *zip.Writer, name string, data []byte) {
	tb.Helper()
	w, err := zw.CreateRaw(&zip.FileHeader{
		Name:               name,
		Method:             zip.Store,
		CRC32:              crc32.ChecksumIEEE(data),
		CompressedSize64:   uint64(len(data)),
		UncompressedSize64: uint64(len(data)),
	})
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func readZipped(f *zip.File) ([]byte, error) {
	rc, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func hashZip(tb testing.TB, data []byte) string {
	tb.Helper()
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		tb.Fatal(err)
	}
	files := map[string]*zip.File{}
	var names []string
	for _, f := range zr.File {
		files[f.Name] = f
		names = append(names, f.Name)
	}
	h, err := dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return files[name].Open() })
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func hashMod(tb testing.TB, data []byte) string {
	tb.Helper()
	h, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// memFile is a file in memory as x/mod/zip wants it.
type memFile struct {
	name string
	data []byte
}

func (f memFile) Path() string                 { return f.name }
func (f memFile) Lstat() (fs.FileInfo, error)  { return fileInfo{f}, nil }
func (f memFile) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.data)), nil }

type fileInfo struct{ f memFile }

func (i fileInfo) Name() string       { return path.Base(i.f.name) }
func (i fileInfo) Size() int64        { return int64(len(i.f.data)) }
func (i fileInfo) Mode() fs.FileMode  { return 0o644 }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }
