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
// there. A length and its distance have at most 48 bits.
func (f *inflater) steps(t *tables) (why int) {
	in, i := f.src.bytes(), 0
	out, pos := f.out, f.pos
	hold, held := f.hold, f.held
	for why == stepMore && len(in)-i >= inputStep && len(out)-pos >= longestStep {
		hold |= u64(in[i:]) << (held & 63)
		i += int((63 - held) >> 3)
		held |= 56
		e := t.lit[hold&(1<<litRoot-1)]
		for range 3 { // 3 * litRoot bits leave enough for none but literals
			if e&literal == 0 {
				break
			}
			out[pos] = byte(e >> 16)
			pos++
			hold >>= e & 63
			held -= uint(e & 0xff)
			e = t.lit[hold&(1<<litRoot-1)]
		}
		if e&literal != 0 {
			continue
		}
		hold |= u64(in[i:]) << (held & 63)
		i += int((63 - held) >> 3)
		held |= 56
		if e&special != 0 {
			if e&subtable != 0 {
				e = t.lit[uint64(e>>16)+hold>>litRoot&t.litSub]
			}
			if e&literal != 0 {
				out[pos] = byte(e >> 16)
				pos++
				hold >>= e & 63
				held -= uint(e & 0xff)
				continue
			}
			if e&special != 0 {
				if why = stepCode; e&blockEnd != 0 {
					why = stepEnd
					hold >>= e & 63
					held -= uint(e & 0xff)
				}
				break
			}
		}
		length := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&15))
		hold >>= e & 63
		held -= uint(e & 0xff)

		e = t.dist[hold&(1<<distRoot-1)]
		if e&special != 0 {
			if e&subtable != 0 {
				e = t.dist[uint64(e>>16)+hold>>distRoot&t.distSub]
			}
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
		match(out, pos, dist, length)
		pos += length
	}
	f.src.pos += i
	f.pos, f.hold, f.held = pos, hold, held
	return why
}

// match writes length bytes at pos that repeat those dist before. It may write
// up to seven more.
func match(out []byte, pos, dist, length int) {
	from, end := pos-dist, pos+length
	if dist >= 8 {
		for pos < end {
			le64(out[pos:], u64(out[from:]))
			pos += 8
			from += 8
		}
		return
	}
	for pos < end {
		out[pos] = out[from]
		pos++
		from++
	}
}
