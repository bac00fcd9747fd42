package ziphash

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// padding stands for the directory that follows the data in an archive.
var padding = make([]byte, 64)

// inflateBoth unpacks data with compress/flate and with inflater and checks
// that both accept it or neither, with the same content and the same end. The
// inflater does it once more in the least room that it can work in.
func inflateBoth(t *testing.T, data []byte) (ok bool) {
	t.Helper()
	const most = 1 << 22
	data = append(bytes.Clone(data), padding...)
	in := bytes.NewReader(data)
	want, werr := io.ReadAll(io.LimitReader(flate.NewReader(in), most))
	end := len(data) - in.Len()
	if werr == nil && (in.Len() < inputStep || len(want) == most) {
		return false // inflater counts on what follows in an archive
	}
	for _, room := range []struct{ source, out int }{{sourceSize, outputSize}, {inputStep + 7, windowSize + longestStep}} {
		var got bytes.Buffer
		s := source{buf: make([]byte, room.source, sourceSize+slack), most: most}
		s.reset(bytes.NewReader(data), 0)
		f := &inflater{src: &s, out: make([]byte, room.out, outputSize+slack), write: func(b []byte) error {
			if got.Len() > most {
				return io.ErrShortWrite
			}
			got.Write(b)
			return nil
		}}
		err := f.run()
		if (err == nil) != (werr == nil) {
			t.Fatalf("inflater: %v, compress/flate: %v\n%x", err, werr, data)
		}
		if err == nil && (!bytes.Equal(got.Bytes(), want) || s.offset() != int64(end)) {
			t.Fatalf("inflater: %d bytes up to %d, compress/flate: %d up to %d\n%x", got.Len(), s.offset(), len(want), end, data)
		}
	}
	return werr == nil
}

func deflate(level int, data []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err)
	}
	for i, part := range bytes.SplitAfter(data, []byte("\n\n")) {
		w.Write(part)
		if i%50 == 49 {
			w.Flush() // ends a block, and adds an empty stored one
		}
	}
	w.Close()
	return b.Bytes()
}

func TestInflate(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300<<10)
	skewed := make([]byte, 300<<10) // needs codes of fifteen bits
	for i := range noise {
		noise[i] = byte(r.Uint32())
		for k := byte(0); k < 40 && r.Uint32()&1 == 0; k++ {
			skewed[i] = k
		}
	}
	var far bytes.Buffer // matches at every distance
	for far.Len() < 400<<10 {
		b := far.Bytes()
		if d := 1 + r.IntN(windowSize); d < len(b) {
			from := len(b) - d
			far.Write(b[from:min(len(b), from+3+r.IntN(300))])
		}
		far.WriteByte(byte(r.Uint32()))
	}
	for name, data := range map[string][]byte{
		"nothing": nil,
		"a byte":  {'x'},
		"text":    []byte(strings.Repeat("The quick brown fox\n\njumps over the lazy dog.\n", 20000)),
		"zeros":   make([]byte, 1<<20),
		"noise":   noise,
		"skewed":  skewed,
		"far":     far.Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.DefaultCompression, flate.BestCompression} {
				if !inflateBoth(t, deflate(level, data)) {
					t.Errorf("level %d is not accepted", level)
				}
			}
		})
	}
}

// bitWriter writes a deflate stream by hand.
type bitWriter struct {
	b []byte
	n uint
}

func (w *bitWriter) put(v, n uint) {
	for i := range n {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v >> i & 1 << (w.n % 8))
		w.n++
	}
}

// dynamic writes the header of a block with these code lengths, each as one
// symbol of a code in which all lengths have four bits.
func (w *bitWriter) dynamic(lit, dist []uint8) {
	w.put(1, 1)
	w.put(2, 2)
	w.put(uint(len(lit)-257), 5)
	w.put(uint(len(dist)-1), 5)
	w.put(numClen-4, 4)
	for _, sym := range clenOrder {
		if sym < 16 {
			w.put(4, 3)
		} else {
			w.put(0, 3)
		}
	}
	for _, n := range append(append([]uint8{}, lit...), dist...) {
		w.put(uint(reverse(int(n), 4)), 4)
	}
}

// Codes that no encoder writes are accepted or refused as compress/flate does.
func TestInflateOddCodes(t *testing.T) {
	t.Parallel()
	lengths := func(n int, set map[int]uint8) []uint8 {
		l := make([]uint8, n)
		for i, v := range set {
			l[i] = v
		}
		return l
	}
	for name, c := range map[string]struct {
		lit, dist []uint8
		bits      uint // of the data, 20 of them
		ok        bool
	}{
		"only end of block":          {lengths(257, map[int]uint8{256: 1}), lengths(1, nil), 0, true},
		"only end of block, other":   {lengths(257, map[int]uint8{256: 1}), lengths(1, nil), 1, false},
		"single code of two bits":    {lengths(257, map[int]uint8{256: 2}), lengths(1, nil), 0, false},
		"no end of block":            {lengths(257, map[int]uint8{1: 1, 2: 1}), lengths(1, nil), 0, false},
		"no code at all":             {lengths(257, nil), lengths(1, nil), 0, false},
		"match without distances":    {lengths(258, map[int]uint8{0: 2, 256: 2, 257: 1}), lengths(1, nil), 2, false},
		"match, single distance":     {lengths(258, map[int]uint8{0: 2, 256: 2, 257: 1}), lengths(1, map[int]uint8{0: 1}), 0b11_0_0_01, true},
		"match, other distance":      {lengths(258, map[int]uint8{0: 2, 256: 2, 257: 1}), lengths(1, map[int]uint8{0: 1}), 0b11_1_0_01, false},
		"match before the beginning": {lengths(258, map[int]uint8{0: 2, 256: 2, 257: 1}), lengths(2, map[int]uint8{0: 1, 1: 1}), 0b11_1_0_01, false},
		"too many codes":             {lengths(257, map[int]uint8{0: 1, 1: 1, 256: 1}), lengths(1, nil), 0, false},
		"too few codes":              {lengths(257, map[int]uint8{0: 2, 256: 2}), lengths(1, nil), 0, false},
		"incomplete distances":       {lengths(257, map[int]uint8{0: 1, 256: 1}), lengths(2, map[int]uint8{0: 2, 1: 2}), 1, false},
		"too many distances":         {lengths(257, map[int]uint8{0: 1, 256: 1}), []uint8{1, 1, 1}, 1, false},
		"287 symbols":                {lengths(287, map[int]uint8{0: 1, 256: 1}), lengths(1, nil), 1, false},
		"31 distances":               {lengths(257, map[int]uint8{0: 1, 256: 1}), lengths(31, nil), 1, false},
		"30 distances":               {lengths(286, map[int]uint8{0: 1, 256: 1}), lengths(30, nil), 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w bitWriter
			w.dynamic(c.lit, c.dist)
			w.put(c.bits, 20)
			if ok := inflateBoth(t, w.b); ok != c.ok {
				t.Errorf("accepted: %v", ok)
			}
		})
	}
	for name, c := range map[string]struct {
		bits string // in the order of the stream: numbers backwards, codes as they are
		ok   bool
	}{
		"fixed":                {"1 10 00110000 0000001 00000 0000000", true},
		"fixed, symbol 286":    {"1 10 00110000 11000110 00000 0000000", false},
		"fixed, symbol 287":    {"1 10 00110000 11000111 00000 0000000", false},
		"fixed, distance 30":   {"1 10 00110000 0000001 11110 0000000", false},
		"fixed, too far":       {"1 10 00110000 0000001 00001 0000000", false},
		"unknown kind":         {"1 11 00110000 0000000", false},
		"stored":               {"1 00 00000 1000000000000000 0111111111111111 01010101", true},
		"stored, wrong length": {"1 00 00000 1000000000000000 1111111111111111 01010101", false},
		"repeat nothing":       {"1 01 00000 00000 0000 100 100 000 000 0", false},
		"repeat too often":     {"1 01 00000 00000 0000 000 000 100 100 1 1111111 1 1111111 1 1111111", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w bitWriter
			for _, bit := range strings.ReplaceAll(c.bits, " ", "") {
				w.put(uint(bit-'0'), 1)
			}
			if ok := inflateBoth(t, w.b); ok != c.ok {
				t.Errorf("accepted: %v", ok)
			}
		})
	}
}

// Wherever the longest step falls on the end of the window, there is room.
func TestInflateLongestStep(t *testing.T) {
	t.Parallel()
	for shift := range uint(3) {
		var w bitWriter
		w.put(0b011, 3)
		for range 8 + shift {
			w.put(0b00001100, 8) // zero
		}
		for n := 8 + shift; n < 2*windowSize; n += 261 {
			w.put(0b00001100, 8)
			w.put(0b00001100, 8)
			w.put(0b00001100, 8)
			w.put(0b10100011, 8) // 258 bytes, of which no extra bits
			w.put(0b10100, 5)    // from 7 or 8 before
			w.put(1, 1)
		}
		w.put(0, 7)
		if !inflateBoth(t, w.b) {
			t.Fatalf("shift %d is not accepted", shift)
		}
	}
}

// FuzzInflate compares with compress/flate: the same streams are accepted, with
// the same content and the same end.
func FuzzInflate(f *testing.F) {
	for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
		f.Add(deflate(level, []byte(strings.Repeat("The quick brown fox\n\njumps over the lazy dog.\n", 9))))
	}
	var w bitWriter
	w.dynamic(make([]uint8, 257), make([]uint8, 1))
	f.Add(w.b)
	f.Add(deflate(flate.BestCompression, make([]byte, 3*windowSize)))
	f.Add(deflate(flate.BestCompression, bytes.Repeat([]byte("0123456789abcdef"), windowSize/5)))
	f.Fuzz(func(t *testing.T, data []byte) { inflateBoth(t, data) })
}
