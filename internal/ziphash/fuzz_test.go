package ziphash

import (
	"strings"
	"testing"
)

// FuzzStream holds the one promise: what passes here passes archive/zip, and
// has the same hash there.
func FuzzStream(f *testing.F) {
	for _, n := range []int{0, 12, 16, 20, 24} {
		f.Add(build(
			&member{name: "m@v1/go.mod", data: "module m\n", descriptor: n},
			&member{name: "m@v1/d/", store: true, descriptor: n},
			&member{name: "m@v1/a", data: strings.Repeat("ab", 300), descriptor: n},
		))
	}
	f.Add(build())
	f.Add(build(&member{name: "x", data: "PK\x01\x02", store: true}))
	f.Add(build(&member{name: "x", data: "y", store: true, descriptor: 16}))
	m := &member{name: "x", data: "y"}
	var a archive
	a.local(m)
	dir := a.Len()
	a.entry(m)
	a.end64(1, dir)
	f.Add(a.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) { never(t, data) })
}
