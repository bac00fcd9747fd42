// Package conn gives the connections of a server what net/http leaves out: a
// deadline for progress instead of one for a whole answer, ways to the client that
// cost no more system calls and timers than they must, and an end that takes
// nothing away from who has asked.
package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// Patience is how long a client may take for LeastProgress bytes before its
	// connection is cut, or a quarter less. A laptop on a bad train link gets
	// through; a client that has stopped reading holds a file and a buffer no
	// longer than this.
	Patience      = 30 * time.Second
	LeastProgress = 32 << 10
)

// Listener gives its connections a deadline for progress in writing. It stands
// in for http.Server.WriteTimeout, which bounds a whole answer and so cannot be
// right for a go.mod and for a 500 MB zip. It can be closed without harm to those
// who have just connected, and to those who still read: see Quiesce, AwaitRequests
// and AwaitGone.
type Listener struct {
	net.Listener
	patience time.Duration
	buffers  sync.Pool // of *[mostGathered]byte

	leaving atomic.Int64 // connections of HTTP/2 that are closed and wait for their clients

	mu       sync.Mutex
	unasking map[*conn]struct{} // connections on which no request has come; guarded by mu
}

// NewListener returns a Listener on l whose connections may take patience for
// LeastProgress bytes.
func NewListener(l net.Listener, patience time.Duration) *Listener {
	return &Listener{
		Listener: l, patience: patience, unasking: make(map[*conn]struct{}),
		buffers: sync.Pool{New: func() any { return new([mostGathered]byte) }},
	}
}

// Accept returns the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	tcp, ok := accepted.(*net.TCPConn)
	if err != nil || !ok {
		return accepted, err
	}
	c, err := newConn(tcp, l.patience)
	if err != nil {
		return nil, err
	}
	c.listener = l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unasking[c] = struct{}{}
	return c, nil
}

type key struct{}

// Context is what http.Server.ConnContext must be for BodyFollows, Asked and streams
// of HTTP/2.
func Context(ctx context.Context, c net.Conn) context.Context {
	secure, isTLS := c.(*tls.Conn)
	if isTLS {
		c = secure.NetConn()
	}
	if c, ok := c.(*conn); ok {
		if c.secure = isTLS; isTLS {
			c.holdLess()
		}
		return context.WithValue(ctx, key{}, c)
	}
	return ctx
}

// of returns the connection of a request; nil if it is none of ours.
func of(ctx context.Context) *conn {
	c, _ := ctx.Value(key{}).(*conn)
	return c
}

// BodyFollows says that the next bytes to be written to the connection of a
// request are the header of its answer, and that a body which is not empty is
// written right after them. They leave together then, which spares the client a
// wake-up. ctx is that of the request; over TLS it changes nothing. Only the
// handler may call it.
func BodyFollows(ctx context.Context) {
	if c := of(ctx); c != nil && !c.secure {
		c.follows = true
	}
}

// tcpConn is what is used of a *net.TCPConn.
type tcpConn interface {
	net.Conn
	CloseWrite() error
	SyscallConn() (syscall.RawConn, error)
}

// conn is a TCP connection on which the peer must confirm LeastProgress bytes
// within patience while there are any for it. What the kernel has taken proves
// nothing: it takes megabytes at once, and then none until a third of them is
// gone. It has no SyscallConn, with which os.File.WriteTo would go past the
// deadline. One goroutine at a time may write.
type conn struct {
	net.Conn
	tcp      tcpConn // the same connection
	listener *Listener
	raw      syscall.RawConn
	patience time.Duration
	start    time.Time
	secure   bool         // there is TLS upon it; set before the first request
	follows  bool         // see BodyFollows
	unacked  func() int64 // bytes that the kernel has and the peer has not confirmed
	hurried  atomic.Bool  // a deadline is set that is not for progress
	asked    atomic.Bool  // a request has come, or the connection is closed
	gathers  atomic.Bool  // HTTP/2 is spoken: Write gathers

	gathering gathering
	reading   reading

	written   atomic.Int64 // bytes that the kernel has taken
	renewed   atomic.Int64 // when the deadline was last moved, since start
	confirmed atomic.Int64 // of written, by then
	waiting   atomic.Int64 // where it gathers: since when a write has been in progress, since start; 0: none is
}

func newConn(tcp tcpConn, patience time.Duration) (*conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	c := &conn{Conn: tcp, tcp: tcp, raw: raw, patience: patience, start: time.Now()}
	c.unacked = c.queued
	return c, nil
}

// SetWriteDeadline sets a deadline that ends sooner than that for progress, and
// takes it back at zero. Others change nothing: net/http sets one for each answer
// and takes it away behind it, and the next answer would have none. Where it
// gathers, one that is over changes nothing either: tls.Conn sets it behind its
// last alert, which may not have left yet; see finish.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.gathers.Load() && !t.IsZero() && !t.After(time.Now()) {
		return nil
	}
	inForce := c.start.Add(time.Duration(c.renewed.Load()) + c.patience)
	switch {
	case t.IsZero() && c.hurried.CompareAndSwap(true, false):
		c.renewed.Store(0)
	case t.IsZero() || !t.Before(inForce):
		return nil
	default:
		c.hurried.Store(true)
	}
	return c.tcp.SetWriteDeadline(t)
}

// renew moves the deadline if the last time is a while ago and the peer has
// deserved it: small answers on one connection share a deadline, which has at
// least three quarters left.
func (c *conn) renew() error {
	if c.hurried.Load() {
		return nil
	}
	now, last := time.Since(c.start), time.Duration(c.renewed.Load())
	if last != 0 && (now-last < c.patience/4 || !c.progressed()) {
		return nil
	}
	return c.move(now)
}

func (c *conn) move(now time.Duration) error {
	c.renewed.Store(int64(now))
	return c.tcp.SetWriteDeadline(c.start.Add(now + c.patience))
}

// progressed reports whether the peer has confirmed enough since it was last so,
// or all there was.
func (c *conn) progressed() bool {
	unacked := c.unacked()
	confirmed := c.written.Load() - unacked
	if unacked > 0 && confirmed-c.confirmed.Load() < LeastProgress {
		return false
	}
	c.confirmed.Store(confirmed)
	return true
}

// excused reports whether a write that has failed may go on: its deadline was
// over, and yet the peer has made progress.
func (c *conn) excused(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !c.hurried.Load() && c.progressed() && c.move(time.Since(c.start)) == nil
}

// begin and end enclose what may wait for the peer.
func (c *conn) begin() { c.waiting.Store(int64(max(1, time.Since(c.start)))) }
func (c *conn) end()   { c.waiting.Store(0) }

// stuck reports whether a write has been waiting for the peer for d.
func (c *conn) stuck(d time.Duration) bool {
	since := c.waiting.Load()
	return since != 0 && time.Since(c.start)-time.Duration(since) >= d
}

// CloseWrite lets net/http end a connection without a reset.
func (c *conn) CloseWrite() error { return c.tcp.CloseWrite() }

// Write writes p.
func (c *conn) Write(p []byte) (n int, err error) {
	if c.gathers.Load() {
		return c.gather(p)
	}
	follows := c.follows
	c.follows = false
	return c.write(p, follows)
}

// write writes p in pieces of LeastProgress. More follows, or does not.
func (c *conn) write(p []byte, more bool) (n int, err error) {
	for {
		if err := c.renew(); err != nil {
			return n, err
		}
		piece := p[n:min(n+LeastProgress, len(p))]
		var m int
		if more {
			m, err = c.writeMore(piece)
		} else {
			m, err = c.tcp.Write(piece)
		}
		n += m
		c.written.Add(int64(m))
		if err != nil && !c.excused(err) {
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
	}
}

// A Sender is a file that the kernel can move to a socket by itself.
type Sender interface {
	io.Reader
	// Sendfile sends at most n bytes from the offset of the file on, once, and
	// moves it by what was sent. It returns syscall.EAGAIN where the socket
	// takes nothing now, 0 without an error at the end of the file, and
	// errors.ErrUnsupported where there is no such way.
	Sendfile(socket uintptr, n int64) (int64, error)
}

// ReadFrom sends src, by the kernel if it is a Sender in an *io.LimitedReader,
// as io.CopyN makes it.
func (c *conn) ReadFrom(src io.Reader) (n int64, err error) {
	if lr, ok := src.(*io.LimitedReader); ok {
		if f, ok := lr.R.(Sender); ok {
			if n, err = c.sendfile(f, lr); !errors.Is(err, errors.ErrUnsupported) {
				return n, err
			}
		}
	}
	m, err := io.Copy(struct{ io.Writer }{c}, src)
	return n + m, err
}

// sendfile sends what lr leaves of f. Where the file is at its end before that,
// it returns what was there.
func (c *conn) sendfile(f Sender, lr *io.LimitedReader) (n int64, err error) {
	for lr.N > 0 {
		if err := c.renew(); err != nil {
			return n, err
		}
		var m int64
		var serr error
		werr := c.raw.Write(func(socket uintptr) bool {
			m, serr = f.Sendfile(socket, lr.N)
			return !errors.Is(serr, syscall.EAGAIN)
		})
		n, lr.N = n+m, lr.N-m
		c.written.Add(m)
		switch {
		case werr != nil:
			if !c.excused(werr) {
				return n, werr
			}
		case errors.Is(serr, syscall.EINTR):
		case serr != nil:
			return n, serr
		case m == 0:
			return n, nil
		}
	}
	return n, nil
}
