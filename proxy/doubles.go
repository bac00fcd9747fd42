package proxy

import (
	"hash/maphash"
	"net"
	"net/http"
	"sync"
	"time"
)

// doubles finds the second of two equal requests: over TLS the go command asks
// again for everything that was answered with 4xx, at once and whether or not it
// has credentials to add (measured with go1.26). A refusal is one all the same.
type doubles struct {
	seed maphash.Seed
	mu   sync.Mutex
	seen map[uint64]time.Time // bounded by maxDoubles
}

const (
	maxDoubles = 10_000
	// doubleWithin is longer than a round trip and shorter than a person needs
	// to try again.
	doubleWithin = 2 * time.Second
)

func newDoubles() *doubles {
	return &doubles{seed: maphash.MakeSeed(), seen: make(map[uint64]time.Time)}
}

// first reports whether the refusal of a file of kind by the decision id, the
// answer that the caller called name gets to r, is not the second of a pair.
// Without TLS there are no pairs.
func (d *doubles) first(id, kind, name string, r *http.Request) bool {
	if !overTLS(r) {
		return true
	}
	key := maphash.String(d.seed, id+" "+kind+" "+name+" "+asker(r))
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.seen[key]
	if ok && now.Sub(at) < doubleWithin {
		delete(d.seen, key) // the third begins a new pair
		return false
	}
	if len(d.seen) >= maxDoubles {
		clear(d.seen)
	}
	d.seen[key] = now
	return true
}

// asker tells the programs that send requests apart, as far as can be told, because
// many may have one address. Over HTTP/2 the two requests of a pair come by the same
// connection, which is that of one process. Over HTTP/1.1 they come by two: the go
// command does not read the first answer to its end. What a server in front says of
// the address is believed, because nothing but a count depends on it.
func asker(r *http.Request) string {
	if r.TLS != nil && r.ProtoMajor >= 2 {
		return r.RemoteAddr
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return host + " " + r.Header.Get("X-Forwarded-For") + " " + r.UserAgent()
}

// overTLS reports whether the client speaks TLS, to this server or to what
// stands before it.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}
