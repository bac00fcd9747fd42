package ziphash

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"
)

// worker holds the buffers of one run.
type worker struct {
	limits   limits
	src      source
	inflater inflater
	left     int64 // bytes that the rest of the archive may unpack to

	// Of the current entry: its name, and the hash, CRC and length of its
	// content. The name may be followed by extra fields.
	name []byte
	hash hash.Hash
	crc  uint32
	n    int64
	sum  []byte
}

var workers = sync.Pool{New: func() any { return newWorker(moduleLimits()) }}

func newWorker(most limits) *worker {
	w := &worker{
		limits: most,
		src:    source{buf: make([]byte, sourceSize, sourceSize+slack), most: most.packed},
		hash:   sha256.New(),
	}
	w.inflater = inflater{src: &w.src, write: w.write, out: make([]byte, outputSize, outputSize+slack)}
	return w
}

// release returns w to the pool without keeping the reader alive.
func (w *worker) release() {
	w.src.reset(nil, 0)
	workers.Put(w)
}

// An extent is where the central directory says an entry is.
type extent struct{ offset, packed uint32 }

// scan reads an archive from the front. If extents are given, in the order of
// their offsets, the packed size of an entry comes from there, so that every
// archive can be followed.
func (w *worker) scan(r io.Reader, extents []extent) (*Listing, error) {
	w.src.reset(r, 0)
	w.left = w.limits.unpacked
	l := new(Listing)
	err := w.entries(l, extents)
	if err == nil {
		l.dir = w.src.offset()
		err = w.src.drain()
		l.size = w.src.offset()
	} else if errors.Is(err, ErrNotStreamable) {
		if derr := w.src.drain(); derr != nil {
			err = derr
		}
	}
	if err == nil {
		err = l.finish(w.hash)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// entries reads entries up to the central directory.
func (w *worker) entries(l *Listing, extents []extent) error {
	s := &w.src
	for {
		if !s.need(4) {
			return s.truncated("record signature")
		}
		switch sig := u32(s.bytes()); sig {
		case localSig:
		case directorySig, endSig, end64Sig:
			return nil
		default:
			return fmt.Errorf("%w: no record at %d, but %#08x", ErrFormat, s.offset(), sig)
		}
		var x *extent
		if extents != nil {
			if l.n == len(extents) || int64(extents[l.n].offset) != s.offset() {
				return fmt.Errorf("%w: entry at %d is not in the directory", ErrFormat, s.offset())
			}
			x = &extents[l.n]
		}
		if err := w.entry(l, x); err != nil {
			return err
		}
	}
}

// entry reads one entry. x is what the directory says of it, if that is known.
func (w *worker) entry(l *Listing, x *extent) error {
	s := &w.src
	offset := s.offset()
	if !s.need(localLen) {
		return s.truncated("local header")
	}
	h := parseLocal(s.bytes())
	s.pos += localLen
	var err error
	if w.name, err = s.copyTo(w.name[:0], h.name, "name"); err != nil {
		return err
	}
	if err := s.skip(h.extra, "extra field"); err != nil {
		return err
	}
	start := s.offset()
	err = w.admit(l)
	if err == nil {
		err = w.data(h, x)
	}
	packed := s.offset() - start
	if err == nil {
		err = w.confirm(h, packed)
	}
	if err != nil {
		return fmt.Errorf("entry %.200q at %d: %w", w.name, offset, err)
	}
	w.sum = w.hash.Sum(w.sum[:0])
	l.add(entry{
		offset:   uint32(offset),
		packed:   uint32(packed),
		unpacked: uint32(w.n),
		crc:      w.crc,
		flags:    h.flags,
		method:   uint8(h.method),
	}, w.name, w.sum)
	return nil
}

// admit judges the name of the next entry, and whether there is room for it.
func (w *worker) admit(l *Listing) error {
	switch {
	case l.n >= w.limits.entries:
		return fmt.Errorf("%w: more than %d entries", ErrLimit, w.limits.entries)
	case l.names+len(w.name) > w.limits.names:
		return fmt.Errorf("%w: more than %d bytes of names", ErrLimit, w.limits.names)
	case bytes.IndexByte(w.name, '\n') >= 0:
		return fmt.Errorf("%w: newline in the name", ErrFormat)
	}
	return nil
}

// isDir reports whether the current entry is a directory.
func (w *worker) isDir() bool { return len(w.name) > 0 && w.name[len(w.name)-1] == '/' }

// data reads and hashes the content of a file.
func (w *worker) data(h header, x *extent) error {
	w.hash.Reset()
	w.crc, w.n = 0, 0
	size := h.packed
	known := h.flags&flagDescriptor == 0 && h.packed < max32 && h.unpacked < max32
	verdict := ErrNotStreamable
	if x != nil {
		size, known, verdict = uint64(x.packed), true, ErrFormat
	}
	if h.flags&flagsForeign != 0 {
		return fmt.Errorf("%w: flags %#04x (encrypted or patched)", verdict, h.flags)
	}
	switch {
	case h.method == methodDeflate && (known || h.flags&flagDescriptor != 0):
		return w.inflater.run()
	case h.method == methodStore && known:
		return w.stored(int64(size))
	case h.method == methodStore && w.isDir() && h.flags&flagDescriptor != 0:
		return nil // archive/zip reads no data of a directory either
	}
	return fmt.Errorf("%w: method %d, flags %#04x, packed size %d", verdict, h.method, h.flags, h.packed)
}

// confirm compares what was read with the three values that the header or the
// data descriptor has for it, and consumes the descriptor. Sizes that are in a
// zip64 field of the header are left to Check.
func (w *worker) confirm(h header, packed int64) error {
	s := &w.src
	if w.n > 0 && w.isDir() {
		return fmt.Errorf("%w: a directory with content", ErrFormat)
	}
	if h.flags&flagDescriptor != 0 {
		s.need(descriptorMax) // as many follow in any good archive
		n := descriptorLen(s.bytes(), w.crc, uint64(packed), uint64(w.n))
		if n == 0 && s.err != nil && s.err != io.EOF {
			return s.err
		}
		if n == 0 {
			return fmt.Errorf("%w: no data descriptor at %d for crc %08x, %d bytes packed, %d unpacked",
				ErrFormat, s.offset(), w.crc, packed, w.n)
		}
		s.pos += n
		return nil
	}
	if h.crc != w.crc ||
		h.packed != uint64(packed) && h.packed != max32 ||
		h.unpacked != uint64(w.n) && h.unpacked != max32 {
		return fmt.Errorf("%w: crc %08x, %d bytes packed, %d unpacked; the header says %08x, %d, %d",
			ErrFormat, w.crc, packed, w.n, h.crc, h.packed, h.unpacked)
	}
	return nil
}

// stored hashes the next n bytes as they are.
func (w *worker) stored(n int64) error {
	s := &w.src
	for n > 0 {
		if !s.need(1) {
			return s.truncated("stored data")
		}
		b := s.bytes()
		b = b[:min(n, int64(len(b)))]
		if err := w.write(b); err != nil {
			return err
		}
		s.pos += len(b)
		n -= int64(len(b))
	}
	return nil
}

// write hashes content.
func (w *worker) write(b []byte) error {
	if w.left -= int64(len(b)); w.left < 0 {
		return fmt.Errorf("%w: more than %d bytes unpacked", ErrLimit, w.limits.unpacked)
	}
	w.n += int64(len(b))
	w.crc = crc32.Update(w.crc, crc32.IEEETable, b)
	w.hash.Write(b)
	return nil
}
