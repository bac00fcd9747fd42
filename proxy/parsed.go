package proxy

import (
	"hash/maphash"
	"sync/atomic"
)

// parsed remembers what paths mean. The rules for module paths cost more than
// the look into the memory that follows, and builds ask for the same few
// thousand files. It is a table without locks: a path that lands on the place
// of another takes it.
type parsed struct {
	seed  maphash.Seed
	table [4096]atomic.Pointer[parsedPath]
}

type parsedPath struct {
	path string
	req  request
}

// maxParsed is the length up to which a path is worth remembering, in bytes.
const maxParsed = 256

func newParsed() *parsed { return &parsed{seed: maphash.MakeSeed()} }

// parse is the function parse.
func (p *parsed) parse(path string) (request, error) {
	if len(path) > maxParsed {
		return parse(path)
	}
	place := &p.table[maphash.String(p.seed, path)%uint64(len(p.table))]
	if known := place.Load(); known != nil && known.path == path {
		return known.req, nil
	}
	req, err := parse(path)
	if err == nil {
		place.Store(&parsedPath{path, req})
	}
	return req, err
}
