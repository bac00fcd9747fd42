package conn

import (
	"runtime"
	"sync"
	"time"
)

const (
	// mostGathered is how many bytes a connection gathers at most. A record of TLS
	// is no longer, and one of that size is not worth being copied.
	mostGathered = 16 << 10
	// lastWords is how long a connection that is closed may take for what was
	// written before, with the alert of TLS that says that no more comes.
	lastWords = time.Second
)

// gathering collects what is written to a connection of HTTP/2, and sends it when
// this processor has nothing else to do. net/http sends the header of an answer and
// its body apart, each in a record of TLS with a system call and a wake-up of the
// client, and does so for each of the answers that are under way at a time: that is
// half of what a hit costs.
type gathering struct {
	turn sync.Mutex // held by whoever sends; taken before mu

	mu      sync.Mutex
	pending *[mostGathered]byte // nil if nothing is; guarded by mu, as all that follows
	n       int                 // bytes of it
	coming  bool                // a goroutine is about to send them
	err     error               // of what was sent before
	behind  bool                // the client has not confirmed much: nothing is taken

	unseen int // bytes sent since behind was found out; of whose turn it is
}

// take adds p to what is pending, and reports whether it has. coming is whether
// somebody will send it without being told. For a client that is behind nothing is
// taken: net/http, which closes a connection soon after its last write, would
// believe that the end of an answer has left which waits for the kernel.
func (g *gathering) take(p []byte, buffers *sync.Pool) (taken, coming bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil || g.behind || g.n+len(p) > mostGathered {
		return false, false, g.err
	}
	if g.pending == nil {
		g.pending = buffers.Get().(*[mostGathered]byte)
	}
	g.n += copy(g.pending[g.n:], p)
	coming, g.coming = g.coming, true
	return true, coming, nil
}

// gather takes p to be sent soon, or sends it if it is large or much is pending.
// An error may be that of what was taken before.
func (c *conn) gather(p []byte) (int, error) {
	switch taken, coming, err := c.gathering.take(p, &c.listener.buffers); {
	case err != nil:
		return 0, err
	case taken && !coming:
		go c.sendSoon()
	case !taken:
		c.gathering.turn.Lock()
		defer c.gathering.turn.Unlock()
		if err := c.send(p); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// sendSoon sends what is pending after everybody who can run has run.
func (c *conn) sendSoon() {
	runtime.Gosched()
	c.gathering.turn.Lock()
	defer c.gathering.turn.Unlock()
	_ = c.send(nil) // whoever writes next gets it
}

// send sends what is pending and then p. It is called by whose turn it is. A
// connection that has failed is closed, for nobody may write to it again.
func (c *conn) send(p []byte) error {
	g := &c.gathering
	g.mu.Lock()
	pending, n, err := g.pending, g.n, g.err
	g.pending, g.n, g.coming = nil, 0, false
	g.mu.Unlock()
	c.begin()
	defer c.end()
	if pending != nil {
		if err == nil {
			_, err = c.write(pending[:n], false)
		}
		c.listener.buffers.Put(pending)
	}
	if len(p) > 0 && err == nil {
		_, err = c.write(p, false)
	}
	if err != nil {
		_ = c.tcp.Close()
	}
	g.unseen += n + len(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err = err; g.behind || g.unseen >= mostGathered {
		g.behind, g.unseen = c.unacked() > LeastProgress, 0
	}
	return err
}

// finish sends what is pending and leaves the connection. It does so in the
// background where somebody is sending: http.Server closes one connection after
// the other.
func (c *conn) finish() error {
	c.listener.leaving.Add(1)
	_ = c.SetReadDeadline(time.Unix(1, 0))
	end := func() error {
		defer c.gathering.turn.Unlock()
		if c.send(nil) != nil { // the client has left
			c.listener.leaving.Add(-1)
			return nil
		}
		return c.leave()
	}
	if c.gathering.turn.TryLock() {
		return end()
	}
	cut := time.AfterFunc(lastWords, func() { _ = c.tcp.Close() })
	go func() {
		c.gathering.turn.Lock()
		defer cut.Stop()
		_ = end()
	}()
	return nil
}
