package ziphash

// decode unpacks a block. What the inner loop uses is kept in locals; it comes
// out when input or room get short.
func (f *inflater) decode(t *tables) error {
	for {
		f.giveBack()
		if !f.src.need(inputStep) {
			return f.src.truncated("deflate data")
		}
		if len(f.out)-f.pos < longestStep {
			if err := f.flush(); err != nil {
				return err
			}
		}
		switch f.steps(t) {
		case stepEnd:
			return nil
		case stepCode:
			return f.corrupt("unknown code")
		case stepFar:
			return f.corrupt("match before the beginning")
		}
	}
}

// Why steps came out.
const (
	stepMore = iota // input or room are short
	stepEnd         // end of block
	stepCode        // error: code that does not exist
	stepFar         // error: match that reaches too far back
)

// steps decodes while inputStep bytes of input and longestStep of room are
// there. A length and its distance have at most 48 bits. That no place is
// outside of the buffers follows from the condition of the loop; the masks, which
// change nothing, say so to the compiler.
func (f *inflater) steps(t *tables) (why int) {
	in, i, last := (*input)(f.src.buf[:sourceSize+slack]), f.src.pos, f.src.end-inputStep
	out, pos, room := (*output)(f.out[:outputSize+slack]), f.pos, len(f.out)-longestStep
	hold, held := f.hold, f.held
	for why == stepMore && i <= last && pos <= room {
		hold |= in.word(i) << (held & 63)
		i += int((63 - held) >> 3)
		held |= 56
		e := t.lit[hold&(1<<litRoot-1)]
		if e&literal != 0 { // what is left is enough for one more, and no match
			out[pos&(outputSize-1)] = byte(e >> 16)
			pos++
			hold >>= e & 63
			held -= uint(e & 0xff)
			e = t.lit[hold&(1<<litRoot-1)]
			if e&literal != 0 {
				out[pos&(outputSize-1)] = byte(e >> 16)
				pos++
				hold >>= e & 63
				held -= uint(e & 0xff)
				continue
			}
			hold |= in.word(i) << (held & 63)
			i += int((63 - held) >> 3)
			held |= 56
		}
		if e&special != 0 {
			e = t.longLit(e, hold)
			if e&literal != 0 {
				out[pos&(outputSize-1)] = byte(e >> 16)
				pos++
				hold >>= e & 63
				held -= uint(e & 0xff)
				continue
			}
			if e&special != 0 {
				if why = stepCode; e&blockEnd != 0 {
					why, hold, held = stepEnd, hold>>(e&63), held-uint(e&0xff)
				}
				break
			}
		}
		length := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&15))
		hold >>= e & 63
		held -= uint(e & 0xff)

		e = t.dist[hold&(1<<distRoot-1)]
		if e&special != 0 {
			e = t.longDist(e, hold)
			if e&special != 0 {
				why = stepCode
				break
			}
		}
		dist := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&15))
		hold >>= e & 63
		held -= uint(e & 0xff)
		if dist > pos {
			why = stepFar
			break
		}
		end := pos + length
		if dist < 16 {
			out.near(pos, dist, end)
			pos = end
		}
		for ; pos < end; pos += 16 {
			src, dst := out.at(pos-dist), out.at(pos)
			v, w := u64(src), u64(src[8:])
			le64(dst, v)
			le64(dst[8:], w)
		}
		pos = end
	}
	f.src.pos = i
	f.pos, f.hold, f.held = pos, hold, held
	return why
}

// longLit resolves an entry that points to a second table, if e does.
func (t *tables) longLit(e uint32, hold uint64) uint32 {
	if e&subtable != 0 {
		e = t.lit[uint64(e>>16)+hold>>litRoot&t.litSub]
	}
	return e
}

// longDist is longLit for distances.
func (t *tables) longDist(e uint32, hold uint64) uint32 {
	if e&subtable != 0 {
		e = t.dist[uint64(e>>16)+hold>>distRoot&t.distSub]
	}
	return e
}

type (
	input  [sourceSize + slack]byte
	output [outputSize + slack]byte
)

// word returns the eight bytes from i on.
func (b *input) word(i int) uint64 {
	i &= sourceSize - 1
	return u64(b[i : i+8])
}

// near writes from pos to end, and up to seven bytes more, what repeats the
// bytes that are less than sixteen before.
func (b *output) near(pos, dist, end int) {
	from := pos - dist
	if dist >= 8 {
		for pos < end {
			le64(b.at(pos), u64(b.at(from)))
			pos += 8
			from += 8
		}
		return
	}
	for pos < end {
		b[pos&(outputSize-1)] = b[from&(outputSize-1)]
		pos++
		from++
	}
}

// at returns the sixteen bytes from i on.
func (b *output) at(i int) []byte {
	i &= outputSize - 1
	return b[i : i+16]
}
