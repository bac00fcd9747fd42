package ziphash

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
)

// Listing is what a zip was found to hold, read from the front. It is not
// changed after Stream has returned and safe for concurrent use.
//
// Sixteen toolchains of 11,039 files may be under way at once, so it is kept
// small: numbers of 32 bits (a module has at most 500 MiB), blocks that never
// move, and the leading "path@version/" of the names only once.
type Listing struct {
	blocks []*block
	n      int
	prefix string // that of the first name, up to the "/" after its "@"
	names  int    // bytes of all names
	dir    int64  // offset of the central directory
	size   int64  // of the whole archive, in bytes
	h1     string

	tail   []byte // names of the last block while it is filled
	last   []byte // last name that was added
	sorted bool   // so far each name was greater than the one before
}

const blockLen = 128

type block struct {
	entries [blockLen]entry
	names   []byte
	sums    *[blockLen][sha256.Size]byte // until h1 is known
}

// entry is one file of the archive.
type entry struct {
	offset, packed, unpacked, crc uint32
	nameEnd                       uint32 // in block.names
	flags                         uint16
	method                        uint8
	bare                          bool // the name does not begin with Listing.prefix
}

// H1 returns the hash of the entries, as in go.sum.
func (l *Listing) H1() string { return l.h1 }

// at returns the entry with this index, in the order of the archive.
func (l *Listing) at(i int) *entry { return &l.blocks[i/blockLen].entries[i%blockLen] }

// name returns the name of an entry in two parts.
func (l *Listing) name(i int) (prefix string, rest []byte) {
	b, k := l.blocks[i/blockLen], i%blockLen
	start := uint32(0)
	if k > 0 {
		start = b.entries[k-1].nameEnd
	}
	rest = b.names[start:b.entries[k].nameEnd]
	if b.entries[k].bare {
		return "", rest
	}
	return l.prefix, rest
}

// add appends an entry.
func (l *Listing) add(e entry, name, sum []byte) {
	if l.n == 0 {
		l.prefix = modulePrefix(name)
		l.sorted = true
	} else if bytes.Compare(l.last, name) >= 0 {
		l.sorted = false
	}
	l.last = append(l.last[:0], name...)
	if l.n%blockLen == 0 {
		l.seal()
		l.blocks = append(l.blocks, &block{sums: new([blockLen][sha256.Size]byte)})
	}
	rest, ok := bytes.CutPrefix(name, []byte(l.prefix))
	e.bare = !ok
	l.tail = append(l.tail, rest...)
	e.nameEnd = uint32(len(l.tail))
	b := l.blocks[len(l.blocks)-1]
	b.entries[l.n%blockLen] = e
	b.sums[l.n%blockLen] = [sha256.Size]byte(sum)
	l.n++
	l.names += len(name)
}

// modulePrefix returns the "path@version/" that name begins with, or "".
func modulePrefix(name []byte) string {
	at := bytes.IndexByte(name, '@')
	if at < 0 {
		return ""
	}
	return string(name[:at+1+bytes.IndexByte(name[at+1:], '/')+1])
}

// seal gives the last block its names, in a slice of their exact length.
func (l *Listing) seal() {
	if len(l.blocks) > 0 {
		l.blocks[len(l.blocks)-1].names = bytes.Clone(l.tail)
	}
	l.tail = l.tail[:0]
}

// finish computes the hash and lets go of what only the hash needed.
func (l *Listing) finish(h hash.Hash) error {
	l.seal()
	l.tail, l.last = nil, nil
	order, err := l.order()
	if err != nil {
		return err
	}
	h.Reset()
	var line []byte
	for k := range l.n {
		i := k
		if order != nil {
			i = int(order[k])
		}
		prefix, rest := l.name(i)
		line = appendLine(line[:0], l.blocks[i/blockLen].sums[i%blockLen][:], prefix, rest)
		h.Write(line)
	}
	for _, b := range l.blocks {
		b.sums = nil
	}
	l.h1 = h1([sha256.Size]byte(h.Sum(nil)))
	return nil
}

// order returns the indexes of the entries sorted by name, nil where that is
// the order they have. No two names may be equal: the go command refuses to
// unpack them, and which one a hash means is undefined.
func (l *Listing) order() ([]uint32, error) {
	if l.sorted {
		return nil, nil
	}
	order := make([]uint32, l.n)
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, l.compare)
	for k := 1; k < len(order); k++ {
		if l.compare(order[k-1], order[k]) == 0 {
			prefix, rest := l.name(int(order[k]))
			return nil, fmt.Errorf("%w: two entries have the name %.200q", ErrFormat, prefix+string(rest))
		}
	}
	return order, nil
}

// compare compares the names of two entries. A bare name does not begin with
// the prefix, so the prefix alone decides between it and one that does.
func (l *Listing) compare(i, j uint32) int {
	a, x := l.name(int(i))
	b, y := l.name(int(j))
	switch {
	case a == b:
		return bytes.Compare(x, y)
	case a != "" && a < string(y), b != "" && string(x) < b:
		return -1
	}
	return 1
}
