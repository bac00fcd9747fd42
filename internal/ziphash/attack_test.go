package ziphash

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The attack that Check is for: good entries, then something that ends the
// front-to-back reading, then a whole evil archive.
func TestTwoFaced(t *testing.T) {
	t.Parallel()
	want, err := hashZip(build(small("package good\n")...))
	if err != nil {
		t.Fatal(err)
	}
	for name, between := range map[string]func(a *archive, good []*member){
		"signature only":   func(a *archive, _ []*member) { a.put(uint32(directorySig)) },
		"end signature":    func(a *archive, _ []*member) { a.put(uint32(endSig)) },
		"directory":        func(a *archive, good []*member) { entries(a, good) },
		"complete archive": func(a *archive, good []*member) { dir := a.Len(); entries(a, good); a.end(len(good), dir) },
		"nothing":          func(*archive, []*member) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a archive
			good, evil := small("package good\n"), small("package evil\n")
			for _, m := range good {
				a.local(m)
			}
			between(&a, good)
			for _, m := range evil {
				a.local(m)
			}
			dir := a.Len()
			entries(&a, evil)
			a.end(len(evil), dir)
			if h, err := hashZip(a.Bytes()); err != nil || h == want {
				t.Fatalf("the attack does not work: %s, %v", h, err)
			}
			if l, err := Stream(bytes.NewReader(a.Bytes())); name != "nothing" && name != "end signature" && (err != nil || l.H1() != want) {
				t.Fatalf("the attack does not work: %v", err)
			}
			refused(t, a.Bytes())
		})
	}
}

func entries(a *archive, members []*member) {
	for _, m := range members {
		a.entry(m)
	}
}

// refused checks that neither way accepts data, and that it is blamed.
func refused(t *testing.T, data []byte) {
	t.Helper()
	if _, err := stream(data); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrNotStreamable) {
		t.Errorf("stream: %v", err)
	}
	if _, err := file(data); !errors.Is(err, ErrFormat) {
		t.Errorf("File: %v", err)
	}
}

func TestBytesThatBelongNowhere(t *testing.T) {
	t.Parallel()
	good := small("package b\n")
	data := build(good...)
	dir := int(le.Uint32(data[len(data)-6:]))
	shift := func(d []byte, at, by int) []byte { // put right what lies behind an insertion
		d = bytes.Clone(d)
		if at <= dir {
			le.PutUint32(d[len(d)-6:], uint32(dir+by))
		}
		p := int(le.Uint32(d[len(d)-6:]))
		for range good {
			if off := le.Uint32(d[p+42:]); int(off) >= at {
				le.PutUint32(d[p+42:], off+uint32(by))
			}
			p += directoryLen + int(le.Uint16(d[p+28:]))
		}
		return d
	}
	for _, junk := range []string{"\x00", "junk", "PK\x03\x04", "PK\x01\x02", "PK\x05\x06", strings.Repeat("\x00", 98)} {
		for name, at := range map[string]int{
			"in front": 0, "between entries": good[1].offset, "before the directory": dir,
			"before the end record": len(data) - endLen, "behind": len(data),
		} {
			t.Run(fmt.Sprintf("%q %s", junk[:min(4, len(junk))], name), func(t *testing.T) {
				t.Parallel()
				d := slices.Concat(data[:at], []byte(junk), data[at:])
				refused(t, d)
				if at < len(data)-endLen {
					refused(t, shift(d, at, len(junk)))
				}
				never(t, d)
			})
		}
	}
	t.Run("comment", func(t *testing.T) {
		t.Parallel()
		d := append(bytes.Clone(data), "hello"...)
		le.PutUint16(d[len(data)-2:], 5)
		refused(t, d)
	})
	t.Run("behind the deflate stream", func(t *testing.T) {
		t.Parallel()
		m := &member{name: "x", data: "y"}
		d := build(m)
		at := localLen + 1 + len(m.packed())
		d = slices.Insert(d, at, 'J')
		le.PutUint32(d[18:], uint32(len(m.packed())+1))
		p := at + 1
		le.PutUint32(d[p+20:], uint32(len(m.packed())+1))
		le.PutUint32(d[len(d)-6:], uint32(p))
		if _, err := hashZip(d); err != nil {
			t.Fatal("archive/zip tolerated this once:", err)
		}
		refused(t, d)
	})
}

// Every field of the directory that means something is compared.
func TestDirectoryLies(t *testing.T) {
	t.Parallel()
	data := build(small("package b\n")...)
	dir := int(le.Uint32(data[len(data)-6:]))
	end := len(data) - endLen
	for name, at := range map[string]int{
		"flags": dir + 8, "method": dir + 10, "crc": dir + 16, "packed size": dir + 20, "unpacked size": dir + 24,
		"name length": dir + 28, "extra length": dir + 30, "comment length": dir + 32, "disk": dir + 34,
		"offset": dir + 42, "name": dir + directoryLen + 9,
		"number of disk": end + 4, "disk of directory": end + 6, "entries here": end + 8, "entries": end + 10,
		"size of directory": end + 12, "offset of directory": end + 16, "comment of archive": end + 20,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := bytes.Clone(data)
			d[at]++
			refused(t, d)
			never(t, d)
		})
	}
	t.Run("swapped names", func(t *testing.T) {
		t.Parallel()
		m := []*member{{name: "a", data: "1"}, {name: "b", data: "2"}}
		d := build(m...)
		dir := int(le.Uint32(d[len(d)-6:]))
		d[dir+directoryLen], d[dir+2*directoryLen+1] = 'b', 'a'
		refused(t, d)
	})
	t.Run("one entry twice, one never", func(t *testing.T) {
		t.Parallel()
		m := small("package b\n")
		var a archive
		for _, m := range m {
			a.local(m)
		}
		dir := a.Len()
		entries(&a, []*member{m[0], m[1], m[1]})
		a.end(3, dir)
		refused(t, a.Bytes())
	})
	t.Run("one entry more, one fewer", func(t *testing.T) {
		t.Parallel()
		for n := range 5 {
			m := small("package b\n")
			var a archive
			for _, m := range m {
				a.local(m)
			}
			dir := a.Len()
			entries(&a, append(slices.Clone(m), m[0])[:min(n, 4)])
			a.end(n, dir)
			if n != 3 {
				refused(t, a.Bytes())
			}
		}
	})
	t.Run("overlap", func(t *testing.T) {
		t.Parallel()
		inner := &member{name: "inner", data: "i", store: true}
		var in archive
		in.local(inner)
		outer := &member{name: "outer", data: in.String(), store: true}
		var a archive
		a.local(outer)
		inner.offset = localLen + len("outer")
		dir := a.Len()
		entries(&a, []*member{outer, inner})
		a.end(2, dir)
		if _, err := hashZip(a.Bytes()); err != nil {
			t.Fatal(err)
		}
		refused(t, a.Bytes())
	})
	t.Run("other file than the one streamed", func(t *testing.T) {
		t.Parallel()
		l, err := Stream(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		other := build(small("package c\n")...)
		if err := l.Check(bytes.NewReader(other), int64(len(other))); !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
		for _, d := range [][]byte{data[:len(data)-1], append(bytes.Clone(data), 0)} {
			if err := l.Check(bytes.NewReader(d), int64(len(d))); !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
		}
		if err := l.Check(bytes.NewReader(data[:len(data)-1]), int64(len(data))); !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	})
}

// archive/zip looks at no value of a local header but two lengths; others do.
func TestLocalLies(t *testing.T) {
	t.Parallel()
	for _, store := range []bool{true, false} {
		data := build(&member{name: "x", data: "hello", store: store}, &member{name: "y", data: "hello", store: store})
		for name, at := range map[string]int{"crc": 14, "packed size": 18, "unpacked size": 22, "name": localLen} {
			d := bytes.Clone(data)
			d[at]++
			refused(t, d)
			if _, err := hashZip(d); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestZip64Lies(t *testing.T) {
	t.Parallel()
	honest := func() ([]byte, int) {
		m := &member{name: "x", data: "y"}
		var a archive
		a.local(m)
		dir := a.Len()
		a.entry(m)
		a.end64(1, dir)
		return a.Bytes(), a.Len() - end64Len - locatorLen - endLen
	}
	data, at := honest()
	for i := at; i < len(data); i++ {
		if i >= at+12 && i < at+16 {
			continue // versions mean nothing
		}
		d := bytes.Clone(data)
		d[i] ^= 1
		never(t, d)
		if _, err := stream(d); !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d after the directory: %v", i-at, err)
		}
	}
	t.Run("nothing asks for it", func(t *testing.T) {
		t.Parallel()
		d := bytes.Clone(data)
		end := len(d) - endLen
		copy(d[end+8:], []byte{1, 0, 1, 0, byte(directoryLen + 1), 0, 0, 0, byte(at - directoryLen - 1), 0, 0, 0})
		refused(t, d)
		never(t, d)
	})
	t.Run("entry that is wide in the directory", func(t *testing.T) {
		t.Parallel()
		wide := func(values ...uint64) []byte {
			var a archive
			a.put(uint16(1), uint16(8*len(values)))
			for _, v := range values {
				a.put(v)
			}
			return a.Bytes()
		}
		for _, c := range []struct {
			extra []byte
			ok    bool
		}{
			{wide(1, 1, 0), true},
			{append([]byte{7, 7, 2, 0, 0, 0}, wide(1, 1, 0)...), true},
			{wide(1, 1), false},
			{wide(), false},
			{append(wide(), wide(1, 1, 0)...), false},
			{wide(2, 1, 0), false},
			{wide(1, 2, 0), false},
			{wide(1, 1, 1), false},
			{wide(1, 1, 1<<63), false},
			{wide(1, 1, 0)[:20], false},
			{nil, false},
		} {
			d := build(&member{name: "x", data: "y", store: true, extra: c.extra})
			dir := int(le.Uint32(d[len(d)-6:]))
			for _, f := range []int{20, 24, 42} {
				le.PutUint32(d[dir+f:], max32)
			}
			_, err := stream(d)
			if (err == nil) != c.ok {
				t.Errorf("extra %x: %v", c.extra, err)
			}
			never(t, d)
		}
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, names := range map[string][]string{
		"newline":                 {"a\nb"},
		"duplicates in a row":     {"a", "a"},
		"duplicates apart":        {"m@v1/a", "b", "m@v1/a"},
		"duplicates, bare":        {"m@v1/a", "b", "a", "b"},
		"directory with content":  {"a/"},
		"directory with contents": {"m@v1/a/"},
	} {
		var members []*member
		for _, n := range names {
			members = append(members, &member{name: n, data: "x", descriptor: 16})
		}
		data := build(members...)
		if _, err := stream(data); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := file(data); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: File: %v", name, err)
		}
	}
	same(t, build(&member{name: strings.Repeat("n", 65535), data: "x"}, &member{name: strings.Repeat("m", 65535), data: "x"}))
}

// A descriptor in any form with any wrong value is refused, and so is a CRC
// that looks like a signature unless the signature stands before it.
func TestDescriptorLies(t *testing.T) {
	t.Parallel()
	for _, n := range []int{12, 16, 20, 24} {
		m := &member{name: "x", data: "hello", descriptor: n}
		data := build(m)
		at := localLen + 1 + len(m.packed())
		for i := range n {
			for bit := range 8 {
				d := bytes.Clone(data)
				d[at+i] ^= 1 << bit
				if _, err := stream(d); !errors.Is(err, ErrFormat) {
					t.Errorf("length %d, byte %d: %v", n, i, err)
				}
				never(t, d)
			}
		}
	}
	plain := le.AppendUint32(nil, descriptorSig)
	plain = le.AppendUint32(plain, 5)
	plain = le.AppendUint32(plain, 5)
	signed := slices.Concat([]byte("PK\x07\x08"), plain)
	if n := descriptorLen(plain, descriptorSig, 5, 5); n != 0 {
		t.Errorf("unsigned descriptor whose crc is the signature: %d", n)
	}
	if n := descriptorLen(signed, descriptorSig, 5, 5); n != 16 {
		t.Errorf("signed descriptor whose crc is the signature: %d", n)
	}
}

// Truncated anywhere, an archive is refused; with any bit flipped it is refused
// or has the hash that dirhash sees.
func TestTornAndFlipped(t *testing.T) {
	t.Parallel()
	data := build(
		&member{name: "m@v1/go.mod", data: "module m\n", descriptor: 16},
		&member{name: "m@v1/d/", store: true},
		&member{name: "m@v1/a", data: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"},
		&member{name: "m@v1/b", data: "b", descriptor: 20},
		&member{name: "m@v1/c", data: "c", store: true},
	)
	for i := range data {
		refused(t, data[:i])
		for bit := range 8 {
			d := bytes.Clone(data)
			d[i] ^= 1 << bit
			never(t, d)
		}
	}
}
