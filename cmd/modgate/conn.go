package main

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// writePatience is how long a client may take for leastProgress before its
	// connection is cut. A laptop on a bad train link gets through; a client
	// that has stopped reading holds a file and a buffer no longer than this.
	writePatience = 30 * time.Second
	leastProgress = 32 << 10
)

// progressListener gives its connections a deadline for progress in writing.
// It stands in for http.Server.WriteTimeout, which bounds a whole answer and
// so cannot be right for a go.mod and for a 500 MB zip.
type progressListener struct {
	net.Listener
	patience time.Duration
}

// Accept returns the next connection.
func (l progressListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		return &progressConn{Conn: tcp, tcp: tcp, patience: l.patience, start: time.Now()}, nil
	}
	return c, err
}

// tcpConn is what is used of a *net.TCPConn.
type tcpConn interface {
	net.Conn
	io.ReaderFrom
	CloseWrite() error
}

// progressConn is a TCP connection on which every leastProgress bytes must
// leave within patience. It keeps ReadFrom, and with it sendfile, but not
// SyscallConn, with which os.File.WriteTo would go past the deadline.
type progressConn struct {
	net.Conn
	tcp      tcpConn // the same connection
	patience time.Duration
	start    time.Time
	renewed  atomic.Int64 // when the deadline was last set, since start
}

// renew moves the deadline if the last time is a while ago: small answers on
// one connection share a deadline, which has at least three quarters left.
func (c *progressConn) renew() error {
	now, last := time.Since(c.start), time.Duration(c.renewed.Load())
	if last != 0 && now-last < c.patience/4 {
		return nil
	}
	c.renewed.Store(int64(now))
	return c.tcp.SetWriteDeadline(c.start.Add(now + c.patience))
}

// CloseWrite lets net/http end a connection without a reset.
func (c *progressConn) CloseWrite() error { return c.tcp.CloseWrite() }

// Write writes p in pieces of leastProgress.
func (c *progressConn) Write(p []byte) (n int, err error) {
	for {
		if err := c.renew(); err != nil {
			return n, err
		}
		piece := p[n:min(n+leastProgress, len(p))]
		m, err := c.tcp.Write(piece)
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// file is what sendfile can send.
type file interface {
	io.ReadSeeker
	syscall.Conn
}

// ReadFrom sends src, by sendfile if it is a file, alone or in an
// *io.LimitedReader.
func (c *progressConn) ReadFrom(src io.Reader) (n int64, err error) {
	f, ok := src.(file)
	if lr, limited := src.(*io.LimitedReader); limited {
		f, ok = lr.R.(file)
	}
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	begin, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	for {
		if err := c.renew(); err != nil {
			return n, err
		}
		m, err := c.tcp.ReadFrom(src)
		n += m
		if m < leastProgress || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		// sendfile has moved the offset by what it sent. Where something else
		// did the copying, bytes that were read may not have been sent.
		if at, serr := f.Seek(0, io.SeekCurrent); serr != nil || at != begin+n {
			return n, err
		}
	}
}
