package ziphash

import (
	"math/bits"
	"sync"
)

// Sizes of the deflate alphabets and their codes (RFC 1951 §3.2).
const (
	maxCodeBits = 15
	numLit      = 286 // literals, end of block, lengths; 286 and 287 are never used
	numDist     = 30
	numClen     = 19
	litRoot     = 11 // bits looked up at once; longer codes take a second step
	distRoot    = 9
	endOfBlock  = 256
)

// An entry of a decoding table says what the next bits mean:
//
//	 0-7   bits to consume, with the extra bits that follow a length or distance
//	 8-11  bits of the code alone
//	12     special: not a literal, a length or a distance, but
//	13       a second table, at the value; else
//	14       the end of the block; else a code that does not exist
//	16-30  value: byte, base of a length or distance, or index
//	31     literal
const (
	special  = 1 << 12
	subtable = 1 << 13
	blockEnd = 1 << 14
	literal  = 1 << 31
)

// tables decode one block. No two codes share a second table's first bits, and
// each such table serves two codes or more; that bounds their number.
type tables struct {
	lit     [1<<litRoot + numLit/2<<(maxCodeBits-litRoot)]uint32
	dist    [1<<distRoot + (numDist+2)/2<<(maxCodeBits-distRoot)]uint32
	litSub  uint64 // mask of the bits after litRoot that index a second table
	distSub uint64
}

// set builds both tables from the code lengths of their symbols.
func (t *tables) set(lit, dist []uint8) bool {
	ok1, ok2 := false, false
	t.litSub, ok1 = fillTable(t.lit[:], litRoot, lit, litSymbols[:])
	t.distSub, ok2 = fillTable(t.dist[:], distRoot, dist, distSymbols[:])
	return ok1 && ok2
}

// fillTable builds the decoding table of a canonical Huffman code whose symbols
// have these code lengths and meanings. It accepts what compress/flate does: a
// complete code, no code at all, and a single code of one bit. It returns the
// mask for second tables.
func fillTable(table []uint32, root int, lengths []uint8, symbols []uint32) (sub uint64, ok bool) {
	var count, next [maxCodeBits + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	longest, code, used := 0, 0, 0
	for n := 1; n <= maxCodeBits; n++ {
		next[n] = used
		used += count[n]
		code = code<<1 + count[n]
		if count[n] > 0 {
			longest = n
		}
	}
	complete := code == 1<<maxCodeBits
	if !complete {
		if used > 1 || longest > 1 {
			return 0, false
		}
		for i := range table[:1<<root] {
			table[i] = special
		}
	}
	var sorted [numLit + 2]uint16 // symbols by length of code, then by number
	for sym, n := range lengths {
		if n > 0 {
			sorted[next[n]] = uint16(sym)
			next[n]++
		}
	}
	if !complete {
		for i := 0; used == 1 && i < 1<<root; i += 2 {
			table[i] = symbols[sorted[0]] + 1 + 1<<8
		}
		return 0, true
	}
	fillCodes(table, root, longest, &count, sorted[:used], symbols)
	return 1<<max(0, longest-root) - 1, true
}

// fillCodes enters the codes of a complete code in order. What has been filled
// for n bits is doubled for n+1.
func fillCodes(table []uint32, root, longest int, count *[maxCodeBits + 1]int, sorted []uint16, symbols []uint32) {
	code, k := 0, 0 // of the length n, its bits in the order of the format
	for n := 1; n <= min(root, longest); n++ {
		half := 1 << (n - 1)
		copy(table[half:2*half], table[:half])
		code <<= 1
		for range count[n] {
			table[reverse(code, n)] = symbols[sorted[k]] + uint32(n)*(1+1<<8)
			code++
			k++
		}
	}
	for n := longest; n < root; n++ {
		copy(table[1<<n:2<<n], table[:1<<n])
	}
	free, width, first := 1<<root, longest-root, -1
	for n := root + 1; n <= longest; n++ {
		code <<= 1
		for range count[n] {
			rev := reverse(code, n)
			if head := rev & (1<<root - 1); head != first {
				first = head
				table[head] = special | subtable | uint32(free)<<16
				free += 1 << width
			}
			e := symbols[sorted[k]] + uint32(n)*(1+1<<8)
			sub := table[free-1<<width : free]
			for i := rev >> root; i < len(sub); i += 1 << (n - root) {
				sub[i] = e
			}
			code++
			k++
		}
	}
}

// reverse returns the low n bits of code in reverse.
func reverse(code, n int) int { return int(bits.Reverse16(uint16(code)) >> (16 - n)) }

// What the symbols of the alphabets mean, without the code length.
var (
	litSymbols  = newLitSymbols()
	distSymbols = newDistSymbols()
	clenSymbols = newClenSymbols()
)

func newLitSymbols() (t [numLit + 2]uint32) {
	for i := range 256 {
		t[i] = literal | uint32(i)<<16
	}
	t[endOfBlock] = special | blockEnd
	base := uint32(3)
	for i := 257; i < numLit-1; i++ {
		extra := uint32(max(0, (i-261)/4))
		t[i] = base<<16 | extra
		base += 1 << extra
	}
	t[numLit-1] = 258 << 16
	t[numLit], t[numLit+1] = special, special
	return t
}

func newDistSymbols() (t [numDist + 2]uint32) {
	base := uint32(1)
	for i := range numDist {
		extra := uint32(max(0, (i-2)/2))
		t[i] = base<<16 | extra
		base += 1 << extra
	}
	t[numDist], t[numDist+1] = special, special
	return t
}

func newClenSymbols() (t [numClen]uint32) {
	for i := range numClen {
		t[i] = uint32(i) << 16
	}
	return t
}

// fixedTables are those of blocks that bring no code of their own.
var fixedTables = sync.OnceValue(func() *tables {
	var lit [numLit + 2]uint8
	for i := range lit {
		switch {
		case i < 144, i >= 280:
			lit[i] = 8
		case i < 256:
			lit[i] = 9
		default:
			lit[i] = 7
		}
	}
	var dist [numDist + 2]uint8
	for i := range dist {
		dist[i] = 5
	}
	t := new(tables)
	t.set(lit[:], dist[:])
	return t
})
