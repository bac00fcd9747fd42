package ziphash

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestTampered edits good archives where it matters: values of fields are set
// to those of other fields, records are dropped, doubled, moved and mixed with
// those of another archive. However it ends, what is accepted has the hash that
// dirhash sees.
func TestTampered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := randomArchive(t, "good"), randomArchive(t, "evil")
		values := []uint64{0, 1, 8, max16, max32, 1 << 63, localSig, directorySig, endSig, descriptorSig}
		for i := range a {
			for k := 0; k+4 <= len(a[i]) && k < directoryLen; k += 2 {
				values = append(values, uint64(u32(a[i][k:])))
			}
			values = append(values, uint64(len(slices.Concat(a[:i]...))))
		}
		for range rapid.IntRange(1, 4).Draw(t, "edits") {
			a = edit(t, a, b, values)
		}
		data := bytes.Join(a, nil)
		want, derr := hashZip(data)
		for name, f := range map[string]func([]byte) (string, error){"stream": stream, "File": file} {
			if got, err := f(data); err == nil && (derr != nil || got != want) {
				t.Fatalf("%s accepts %q as %s; dirhash: %s, %v", name, data, got, want, derr)
			}
		}
	})
}

// edit makes one change to the records of an archive.
func edit(t *rapid.T, a, b [][]byte, values []uint64) [][]byte {
	if len(a) == 0 {
		return a
	}
	i := rapid.IntRange(0, len(a)-1).Draw(t, "record")
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return slices.Delete(a, i, i+1)
	case 1:
		return slices.Insert(a, i, rapid.SampledFrom(append(slices.Clone(a), b...)).Draw(t, "other"))
	case 2:
		return slices.Insert(a, i, b...)
	}
	r := bytes.Clone(a[i])
	a[i] = r
	size := rapid.SampledFrom([]int{2, 4, 4, 4, 8}).Draw(t, "size")
	if len(r) < size {
		return a
	}
	at := rapid.IntRange(0, len(r)-size).Draw(t, "at")
	v := le.AppendUint64(nil, rapid.SampledFrom(values).Draw(t, "value"))
	copy(r[at:at+size], v)
	return a
}

// randomArchive returns the records of an archive: local headers, contents and
// descriptors, directory entries, end records.
func randomArchive(t *rapid.T, text string) [][]byte {
	var members []*member
	for i := range rapid.IntRange(1, 3).Draw(t, "members") {
		m := &member{
			name:       fmt.Sprint(rapid.SampledFrom([]string{"m@v1/", "", "PK"}).Draw(t, "prefix"), i),
			data:       strings.Repeat(text, rapid.IntRange(0, 3).Draw(t, "length")),
			descriptor: rapid.SampledFrom([]int{0, 12, 16, 20, 24}).Draw(t, "descriptor"),
		}
		m.store = rapid.Bool().Draw(t, "store")
		members = append(members, m)
	}
	var a archive
	var cuts []int
	for _, m := range members {
		a.local(m)
		cuts = append(cuts, m.offset+localLen+len(m.name), a.Len()-m.descriptor, a.Len())
	}
	dir := a.Len()
	for _, m := range members {
		a.entry(m)
		cuts = append(cuts, a.Len())
	}
	if rapid.Bool().Draw(t, "zip64") {
		a.end64(len(members), dir)
		cuts = append(cuts, a.Len()-endLen-locatorLen, a.Len()-endLen)
	} else {
		a.end(len(members), dir)
	}
	var records [][]byte
	from := 0
	for _, to := range append(cuts, a.Len()) {
		if to > from {
			records = append(records, bytes.Clone(a.Bytes()[from:to]))
			from = to
		}
	}
	return records
}
