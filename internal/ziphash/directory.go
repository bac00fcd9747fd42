package ziphash

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"sort"
)

// Check proves that the archive in r, whose bytes are those that Stream has
// read, is nothing but the entries of l and a central directory that says of
// them what was found. It reads only the directory, in one pass, and holds a
// bit for each entry. An error that is not of r wraps ErrFormat and says where
// the two disagree.
func (l *Listing) Check(r io.ReaderAt, size int64) error {
	w := workers.Get().(*worker)
	defer w.release()
	if err := w.check(l, r, size); err != nil {
		return fmt.Errorf("ziphash: directory: %w", err)
	}
	return nil
}

func (w *worker) check(l *Listing, r io.ReaderAt, size int64) error {
	if size != l.size {
		return fmt.Errorf("%w: %d bytes, but %d were streamed", ErrFormat, size, l.size)
	}
	w.src.reset(io.NewSectionReader(r, l.dir, size-l.dir), l.dir)
	seen := make([]uint64, (l.n+63)/64)
	for k := range l.n {
		at := w.src.offset()
		h, name, err := w.directoryEntry()
		if err != nil {
			return err
		}
		i, ok := l.find(k, h.offset)
		if !ok {
			return fmt.Errorf("%w: entry %.200q at %d points to %d, where no local header is", ErrFormat, name, at, h.offset)
		}
		if seen[i/64]&(1<<(i%64)) != 0 {
			return fmt.Errorf("%w: entry %.200q at %d points to %d like one before", ErrFormat, name, at, h.offset)
		}
		seen[i/64] |= 1 << (i % 64)
		if err := l.agree(i, h, name); err != nil {
			return fmt.Errorf("entry %.200q at %d: %w", name, at, err)
		}
	}
	return w.checkEnd(l, r)
}

// directoryEntry reads the next entry of the central directory. The name is
// valid until the next call.
func (w *worker) directoryEntry() (header, []byte, error) {
	s := &w.src
	if !s.need(directoryLen) {
		return header{}, nil, s.truncated("directory")
	}
	if sig := u32(s.bytes()); sig != directorySig {
		return header{}, nil, fmt.Errorf("%w: no entry at %d, but %#08x", ErrFormat, s.offset(), sig)
	}
	h := parseDirectory(s.bytes())
	if disk := u16(s.bytes()[34:]); disk != 0 {
		return h, nil, fmt.Errorf("%w: entry at %d is on disk %d", ErrFormat, s.offset(), disk)
	}
	s.pos += directoryLen
	b, err := s.copyTo(w.name[:0], h.name+h.extra, "directory")
	w.name = b
	if err == nil {
		err = s.skip(h.note, "directory")
	}
	if err != nil {
		return h, nil, err
	}
	return h, b[:h.name], h.widen(b[h.name:])
}

// find returns the index of the entry at offset; k is a guess.
func (l *Listing) find(k int, offset uint64) (int, bool) {
	if uint64(l.at(k).offset) == offset {
		return k, true
	}
	i := sort.Search(l.n, func(i int) bool { return uint64(l.at(i).offset) >= offset })
	return i, i < l.n && uint64(l.at(i).offset) == offset
}

// agree compares what the directory says of an entry with what was found.
func (l *Listing) agree(i int, h header, name []byte) error {
	e := l.at(i)
	prefix, rest := l.name(i)
	tail, ok := bytes.CutPrefix(name, []byte(prefix))
	switch {
	case !ok || !bytes.Equal(tail, rest):
		return fmt.Errorf("%w: the local header has the name %.200q", ErrFormat, prefix+string(rest))
	case h.crc != e.crc:
		return fmt.Errorf("%w: crc %08x, content has %08x", ErrFormat, h.crc, e.crc)
	case h.packed != uint64(e.packed):
		return fmt.Errorf("%w: %d bytes packed, found %d", ErrFormat, h.packed, e.packed)
	case h.unpacked != uint64(e.unpacked):
		return fmt.Errorf("%w: %d bytes unpacked, found %d", ErrFormat, h.unpacked, e.unpacked)
	case h.method != uint16(e.method) || h.flags != e.flags:
		return fmt.Errorf("%w: method %d, flags %#04x; the local header has %d, %#04x", ErrFormat, h.method, h.flags, e.method, e.flags)
	}
	return nil
}

// checkEnd reads the records after the last entry of the directory. They must
// be the last of the file, without a comment, and mean the same to a reader
// that starts at the end, as archive/zip does.
func (w *worker) checkEnd(l *Listing, r io.ReaderAt) error {
	s := &w.src
	at := s.offset()
	n, dirSize := uint64(l.n), uint64(at-l.dir)
	wide := l.size-at == end64Len+locatorLen+endLen
	if !wide && l.size-at != endLen {
		return fmt.Errorf("%w: %d bytes after the last of %d entries at %d", ErrFormat, l.size-at, l.n, at)
	}
	if !s.need(int(l.size - at)) {
		return s.truncated("end of directory")
	}
	b := s.bytes()
	if wide {
		if !end64OK(b, n, dirSize, uint64(l.dir)) || !locatorOK(b[end64Len:], uint64(at)) {
			return fmt.Errorf("%w: zip64 end record at %d does not fit %d entries, %d bytes at %d", ErrFormat, at, n, dirSize, l.dir)
		}
		b = b[end64Len+locatorLen:]
	}
	if !endOK(b, n, dirSize, uint64(l.dir), wide) {
		return fmt.Errorf("%w: end record at %d does not fit %d entries, %d bytes at %d", ErrFormat, l.size-endLen, n, dirSize, l.dir)
	}
	if !wide && wantsEnd64(b) {
		return noLocator(r, at-locatorLen)
	}
	return nil
}

// noLocator refuses a zip64 locator at offset, where a name or comment of the
// directory ends that no zip64 record follows: archive/zip would find it.
func noLocator(r io.ReaderAt, offset int64) error {
	var b [4]byte
	if offset < 0 {
		return nil
	}
	if _, err := r.ReadAt(b[:], offset); err != nil {
		return err
	}
	if u32(b[:]) == locatorSig {
		return fmt.Errorf("%w: zip64 locator inside the directory at %d", ErrFormat, offset)
	}
	return nil
}

// end64OK reports whether b is a zip64 end record with these values.
func end64OK(b []byte, n, size, offset uint64) bool {
	return u32(b) == end64Sig && u64(b[4:]) == end64Len-12 &&
		u32(b[16:]) == 0 && u32(b[20:]) == 0 &&
		u64(b[24:]) == n && u64(b[32:]) == n && u64(b[40:]) == size && u64(b[48:]) == offset
}

// locatorOK reports whether b locates a zip64 end record at offset.
func locatorOK(b []byte, offset uint64) bool {
	return u32(b) == locatorSig && u32(b[4:]) == 0 && u64(b[8:]) == offset && u32(b[16:]) == 1
}

// endOK reports whether b is an end record with these values and no comment. In
// a wide archive a field may be saturated instead, and one must be that makes
// archive/zip look for the zip64 record.
func endOK(b []byte, n, size, offset uint64, wide bool) bool {
	fits := func(got, want, full uint64) bool { return got == want || wide && got == full }
	return u32(b) == endSig && u16(b[4:]) == 0 && u16(b[6:]) == 0 && u16(b[20:]) == 0 &&
		fits(uint64(u16(b[8:])), n, max16) && fits(uint64(u16(b[10:])), n, max16) &&
		fits(uint64(u32(b[12:])), size, max32) && fits(uint64(u32(b[16:])), offset, max32) &&
		(!wide || wantsEnd64(b))
}

// wantsEnd64 reports whether archive/zip, having read this end record, looks
// for a locator in front of it. The size of 0xffff is its own misreading.
func wantsEnd64(b []byte) bool {
	return u16(b[10:]) == max16 || u32(b[12:]) == max16 || u32(b[16:]) == max32
}

// extents returns where the directory of an archive says that its entries are,
// in the order of their offsets. It does not judge the rest: Check does.
func (w *worker) extents(r io.ReaderAt, size int64) ([]extent, error) {
	if size > w.limits.packed {
		return nil, fmt.Errorf("%w: more than %d bytes packed", ErrLimit, w.limits.packed)
	}
	dir, err := directoryOffset(r, size)
	if err != nil {
		return nil, err
	}
	w.src.reset(io.NewSectionReader(r, dir, size-dir), dir)
	list := []extent{}
	for w.src.need(4) && u32(w.src.bytes()) == directorySig {
		h, name, err := w.directoryEntry()
		if err != nil {
			return nil, err
		}
		if len(list) == w.limits.entries {
			return nil, fmt.Errorf("%w: more than %d entries", ErrLimit, len(list))
		}
		if h.offset >= uint64(dir) || h.packed >= uint64(dir) {
			return nil, fmt.Errorf("%w: %d bytes at %d of entry %.200q reach into the directory", ErrFormat, h.packed, h.offset, name)
		}
		list = append(list, extent{uint32(h.offset), uint32(h.packed)})
	}
	slices.SortFunc(list, func(a, b extent) int { return cmp.Compare(a.offset, b.offset) })
	return list, nil
}

// directoryOffset reads from the end records where the directory starts.
func directoryOffset(r io.ReaderAt, size int64) (int64, error) {
	end := make([]byte, min(size, end64Len+locatorLen+endLen))
	if _, err := r.ReadAt(end, size-int64(len(end))); err != nil && err != io.EOF {
		return 0, err
	}
	if len(end) < endLen || u32(end[len(end)-endLen:]) != endSig {
		return 0, fmt.Errorf("%w: no end record in the last %d of %d bytes", ErrFormat, endLen, size)
	}
	dir := uint64(u32(end[len(end)-endLen+16:]))
	if dir == max32 && u32(end) == end64Sig {
		dir = u64(end[48:])
	}
	if dir > uint64(size-endLen) {
		return 0, fmt.Errorf("%w: directory at %d of %d bytes", ErrFormat, dir, size)
	}
	return int64(dir), nil
}
