package ziphash

import (
	"encoding/binary"
	"fmt"
)

// Record lengths and signatures of the zip format (PKWARE APPNOTE 6.3.10 §4.3).
const (
	localLen      = 30
	directoryLen  = 46
	endLen        = 22
	end64Len      = 56
	locatorLen    = 20
	localSig      = 0x04034b50
	directorySig  = 0x02014b50
	endSig        = 0x06054b50
	end64Sig      = 0x06064b50
	locatorSig    = 0x07064b50
	descriptorSig = 0x08074b50

	methodStore   = 0
	methodDeflate = 8

	flagDescriptor = 1 << 3
	// flagsForeign change what the data means: encryption (0, 6, 13) and
	// patches (5). archive/zip ignores them and reads the data as it is.
	flagsForeign = 1<<0 | 1<<5 | 1<<6 | 1<<13

	extraZip64 = 1
	max16      = 1<<16 - 1
	max32      = 1<<32 - 1
)

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func le64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }

// header is what a local header or a directory entry says of a file.
type header struct {
	flags, method     uint16
	crc               uint32
	packed, unpacked  uint64
	offset            uint64 // directory only
	name, extra, note int    // lengths in bytes
}

// parseLocal reads the fixed part of a local header.
func parseLocal(b []byte) header {
	return header{
		flags:    u16(b[6:]),
		method:   u16(b[8:]),
		crc:      u32(b[14:]),
		packed:   uint64(u32(b[18:])),
		unpacked: uint64(u32(b[22:])),
		name:     int(u16(b[26:])),
		extra:    int(u16(b[28:])),
	}
}

// parseDirectory reads the fixed part of a directory entry.
func parseDirectory(b []byte) header {
	return header{
		flags:    u16(b[8:]),
		method:   u16(b[10:]),
		crc:      u32(b[16:]),
		packed:   uint64(u32(b[20:])),
		unpacked: uint64(u32(b[24:])),
		name:     int(u16(b[28:])),
		extra:    int(u16(b[30:])),
		note:     int(u16(b[32:])),
		offset:   uint64(u32(b[42:])),
	}
}

// widen takes the fields that did not fit 32 bits from the zip64 field among
// the extra fields of a directory entry. Like archive/zip it looks at the first
// such field only where something is missing.
func (h *header) widen(extra []byte) error {
	if h.unpacked != max32 && h.packed != max32 && h.offset != max32 {
		return nil
	}
	wide := zip64Field(extra)
	for _, p := range []*uint64{&h.unpacked, &h.packed, &h.offset} {
		if *p != max32 {
			continue
		}
		if len(wide) < 8 {
			return fmt.Errorf("%w: zip64 field missing or too short", ErrFormat)
		}
		*p = u64(wide)
		wide = wide[8:]
	}
	return nil
}

// zip64Field returns the content of the first zip64 field in extra.
func zip64Field(extra []byte) []byte {
	for len(extra) >= 4 {
		tag, size := u16(extra), int(u16(extra[2:]))
		if extra = extra[4:]; size > len(extra) {
			return nil
		}
		if tag == extraZip64 {
			return extra[:size]
		}
		extra = extra[size:]
	}
	return nil
}

// descriptorLen returns the length of the data descriptor that b starts with,
// for a file of this content, or 0 if there is none. Its signature is optional
// and its sizes have 32 or 64 bits; nothing announces either. As archive/zip
// does, what looks like a signature is taken for one. Sizes of 32 bits that can
// be read as 64 are followed by zeros and so by no other record.
func descriptorLen(b []byte, crc uint32, packed, unpacked uint64) int {
	n := 0
	if len(b) >= 4 && u32(b) == descriptorSig {
		n, b = 4, b[4:]
	}
	switch {
	case len(b) < 12 || u32(b) != crc:
		return 0
	case len(b) >= 20 && u64(b[4:]) == packed && u64(b[12:]) == unpacked:
		return n + 20
	case uint64(u32(b[4:])) == packed && uint64(u32(b[8:])) == unpacked:
		return n + 12
	}
	return 0
}

// descriptorMax is the length of the longest descriptor.
const descriptorMax = 4 + 20
