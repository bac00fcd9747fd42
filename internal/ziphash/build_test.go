package ziphash

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"
)

// hashZip is dirhash.HashZip for bytes in memory.
func hashZip(data []byte) (string, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return "", err
	}
	var names []string
	files := make(map[string]*zip.File)
	for _, f := range z.File {
		names = append(names, f.Name)
		files[f.Name] = f
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return files[name].Open() })
}

// stream is Stream and Check.
func stream(data []byte) (string, error) {
	l, err := Stream(bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	return l.H1(), l.Check(bytes.NewReader(data), int64(len(data)))
}

func file(data []byte) (string, error) {
	return File(bytes.NewReader(data), int64(len(data)))
}

// never fails the test if stream or File accepts data that dirhash refuses, or
// hashes it to something else.
func never(t *testing.T, data []byte) {
	t.Helper()
	want, derr := hashZip(data)
	for name, f := range map[string]func([]byte) (string, error){"stream": stream, "File": file} {
		if got, err := f(data); err == nil && (derr != nil || got != want) {
			t.Fatalf("%s accepts %d bytes as %s; dirhash: %s, %v\n%q", name, len(data), got, want, derr, data[:min(len(data), 300)])
		}
	}
}

// member is one entry of an archive, in every form that the format has.
type member struct {
	name, data string
	store      bool
	descriptor int    // its length: 0, 12, 16, 20 or 24
	localExtra []byte // extra field of the local header
	extra      []byte // of the directory entry
	flags      uint16 // more flags

	offset int // of the local header; set by archive.local
}

func (m *member) packed() []byte {
	if m.store {
		return []byte(m.data)
	}
	var b bytes.Buffer
	w := flateWriters.Get().(*flate.Writer)
	defer flateWriters.Put(w)
	w.Reset(&b)
	io.WriteString(w, m.data)
	w.Close()
	return b.Bytes()
}

// flateWriters saves most of the time of these tests: a Writer has 800 KB.
var flateWriters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		panic(err)
	}
	return w
}}

func (m *member) method() uint16 {
	if m.store {
		return methodStore
	}
	return methodDeflate
}

func (m *member) bits() uint16 {
	if m.descriptor > 0 {
		return m.flags | flagDescriptor
	}
	return m.flags
}

var le = binary.LittleEndian

// archive is an archive under construction.
type archive struct{ bytes.Buffer }

func (a *archive) put(values ...any) {
	for _, v := range values {
		if err := binary.Write(a, le, v); err != nil {
			panic(err)
		}
	}
}

// local appends header, data and descriptor of m.
func (a *archive) local(m *member) {
	m.offset = a.Len()
	packed, crc := m.packed(), crc32.ChecksumIEEE([]byte(m.data))
	a.put(uint32(localSig), uint16(20), m.bits(), m.method(), uint32(0))
	if m.descriptor > 0 {
		a.put(uint32(0), uint32(0), uint32(0))
	} else {
		a.put(crc, uint32(len(packed)), uint32(len(m.data)))
	}
	a.put(uint16(len(m.name)), uint16(len(m.localExtra)), []byte(m.name), m.localExtra, packed)
	switch m.descriptor {
	case 16, 24:
		a.put(uint32(descriptorSig))
	}
	switch m.descriptor {
	case 12, 16:
		a.put(crc, uint32(len(packed)), uint32(len(m.data)))
	case 20, 24:
		a.put(crc, uint64(len(packed)), uint64(len(m.data)))
	}
}

// entry appends the directory entry of m.
func (a *archive) entry(m *member) {
	a.put(uint32(directorySig), uint16(20), uint16(20), m.bits(), m.method(), uint32(0),
		crc32.ChecksumIEEE([]byte(m.data)), uint32(len(m.packed())), uint32(len(m.data)),
		uint16(len(m.name)), uint16(len(m.extra)), uint16(0), uint16(0), uint16(0), uint32(0),
		uint32(m.offset), []byte(m.name), m.extra)
}

// end appends the end record of a directory of n entries that starts at dir.
func (a *archive) end(n, dir int) {
	size := a.Len() - dir
	a.put(uint32(endSig), uint32(0), uint16(n), uint16(n), uint32(size), uint32(dir), uint16(0))
}

// end64 appends the zip64 records and a saturated end record.
func (a *archive) end64(n, dir int) {
	at := a.Len()
	a.put(uint32(end64Sig), uint64(44), uint16(45), uint16(45), uint64(0),
		uint64(n), uint64(n), uint64(at-dir), uint64(dir))
	a.put(uint32(locatorSig), uint32(0), uint64(at), uint32(1))
	a.put(uint32(endSig), uint32(0), uint16(max16), uint16(max16), uint32(max32), uint32(max32), uint16(0))
}

// build returns an honest archive of these members.
func build(members ...*member) []byte {
	var a archive
	for _, m := range members {
		a.local(m)
	}
	dir := a.Len()
	for _, m := range members {
		a.entry(m)
	}
	a.end(len(members), dir)
	return a.Bytes()
}

// small returns the members of a small module. The text is in b.go.
func small(text string) []*member {
	return []*member{
		{name: "m@v1.0.0/go.mod", data: "module m\n", descriptor: 16},
		{name: "m@v1.0.0/b.go", data: text, descriptor: 16},
		{name: "m@v1.0.0/a/a.go", data: "package a\n", descriptor: 16},
	}
}
