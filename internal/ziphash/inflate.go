package ziphash

import "fmt"

const (
	windowSize = 32 << 10 // how far back a match may reach
	outputSize = windowSize + 96<<10
	// slack is what the buffers of input and output have behind their ends, so
	// that words may be read and written at every place in them.
	slack = 16
	// longestStep is how much one step of decoding may write: two literals and
	// a match of 258 bytes in words of sixteen.
	longestStep = 2 + 272
	// inputStep is how much input one step may want to see. More than that
	// follows the data in every archive: a directory and an end record.
	inputStep = 16
)

// inflater unpacks a deflate stream (RFC 1951) out of a source. It accepts
// exactly what compress/flate accepts, and is more than twice as fast
// because it sees its input as a slice and writes straight into the window.
type inflater struct {
	src   *source
	write func([]byte) error

	out  []byte // up to windowSize bytes that were written, then new ones; at most outputSize, and slack behind them
	done int    // start of the new ones
	pos  int    // end of the new ones

	// hold has the next held bits, the first one lowest. Bits above them are
	// zero or already those that follow, so that they can be or-ed in again.
	hold uint64
	held uint

	dynamic tables
	lengths [numLit + numDist]uint8
}

// run unpacks one stream, hands the content to write, and leaves src right
// behind it.
func (f *inflater) run() error {
	f.done, f.pos, f.hold, f.held = 0, 0, 0, 0
	for final := false; !final; {
		if err := f.refill(); err != nil {
			return err
		}
		final = f.take(1) == 1
		var err error
		switch f.take(2) {
		case 0:
			err = f.copyBlock()
		case 1:
			err = f.decode(fixedTables())
		case 2:
			if err = f.readTables(); err == nil {
				err = f.decode(&f.dynamic)
			}
		default:
			err = f.corrupt("block of unknown kind")
		}
		if err != nil {
			return err
		}
	}
	f.align()
	return f.flush()
}

func (f *inflater) corrupt(what string) error {
	return fmt.Errorf("%w: deflate: %s near %d", ErrFormat, what, f.src.offset()-int64(f.held/8))
}

// refill makes at least 56 bits available.
func (f *inflater) refill() error {
	f.giveBack()
	if !f.src.need(inputStep) {
		return f.src.truncated("deflate data")
	}
	f.hold |= u64(f.src.bytes()) << (f.held & 63)
	f.src.pos += int((63 - f.held) >> 3)
	f.held |= 56
	return nil
}

// take consumes n bits that are there.
func (f *inflater) take(n uint) uint {
	v := uint(f.hold & (1<<n - 1))
	f.hold >>= n
	f.held -= n
	return v
}

// giveBack returns whole bytes to the source, which may forget them as soon as
// it is asked for more.
func (f *inflater) giveBack() {
	f.src.pos -= int(f.held / 8)
	f.held %= 8
}

// align gives whole bytes back and drops the rest of the last one.
func (f *inflater) align() {
	f.giveBack()
	f.hold, f.held = 0, 0
}

// flush hands the new bytes to write and keeps the window.
func (f *inflater) flush() error {
	err := f.write(f.out[f.done:f.pos])
	if f.pos > windowSize {
		copy(f.out, f.out[f.pos-windowSize:f.pos])
		f.pos = windowSize
	}
	f.done = f.pos
	return err
}

// copyBlock copies a block that is not compressed.
func (f *inflater) copyBlock() error {
	f.align()
	s := f.src
	if !s.need(4) {
		return s.truncated("deflate data")
	}
	n := int(u16(s.bytes()))
	if int(^u16(s.bytes()[2:])) != n {
		return f.corrupt("stored block of unclear length")
	}
	for s.pos += 4; n > 0; {
		if !s.need(1) {
			return s.truncated("deflate data")
		}
		if f.pos == len(f.out) {
			if err := f.flush(); err != nil {
				return err
			}
		}
		k := copy(f.out[f.pos:], s.bytes()[:min(n, s.end-s.pos)])
		f.pos += k
		s.pos += k
		n -= k
	}
	return nil
}

// clenOrder is the order in which the code lengths of the alphabet for code
// lengths come.
var clenOrder = [numClen]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// clenRoot is the longest code of that alphabet.
const clenRoot = 7

// readTables reads the codes of a block that brings its own.
func (f *inflater) readTables() error {
	nlit, ndist, nclen := int(f.take(5))+257, int(f.take(5))+1, int(f.take(4))+4
	if nlit > numLit || ndist > numDist {
		return f.corrupt("too many symbols")
	}
	var clen [numClen]uint8
	for i := range nclen {
		if f.held < 3 {
			if err := f.refill(); err != nil {
				return err
			}
		}
		clen[clenOrder[i]] = uint8(f.take(3))
	}
	var table [1 << clenRoot]uint32
	if _, ok := fillTable(table[:], clenRoot, clen[:], clenSymbols[:]); !ok {
		return f.corrupt("bad code for code lengths")
	}
	lengths := f.lengths[:nlit+ndist]
	if err := f.readLengths(lengths, &table); err != nil {
		return err
	}
	if !f.dynamic.set(lengths[:nlit], lengths[nlit:]) {
		return f.corrupt("bad code")
	}
	return nil
}

// readLengths reads code lengths, which have been run-length encoded.
func (f *inflater) readLengths(lengths []uint8, table *[1 << clenRoot]uint32) error {
	for i := 0; i < len(lengths); {
		if f.held < clenRoot+7 {
			if err := f.refill(); err != nil {
				return err
			}
		}
		e := table[f.hold&(1<<clenRoot-1)]
		if e&special != 0 {
			return f.corrupt("unknown code for a code length")
		}
		f.take(uint(e & 0xff))
		v, times := uint8(e>>16), 1
		switch v {
		case 16:
			if i == 0 {
				return f.corrupt("nothing to repeat")
			}
			v, times = lengths[i-1], 3+int(f.take(2))
		case 17:
			v, times = 0, 3+int(f.take(3))
		case 18:
			v, times = 0, 11+int(f.take(7))
		}
		if times > len(lengths)-i {
			return f.corrupt("too many code lengths")
		}
		for range times {
			lengths[i] = v
			i++
		}
	}
	return nil
}
