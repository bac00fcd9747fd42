package conn

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

const (
	// lastLook is how often a connection that is being left is looked at, and how
	// long a client that has everything may take to close its side.
	lastLook = time.Second
	// farewell is more than what HTTP/2 and TLS say at the end, in bytes: GOAWAY
	// twice, and an alert. A client that is gone is not waited for to hear that.
	farewell = 256
)

// leave closes the connection in the background when the client has what was
// written. Whoever closes at once answers what the client says meanwhile by a reset
// (RFC 2525, section 2.17), which takes away what it has not received: a client of
// HTTP/2 reports all the time what it has read.
func (c *conn) leave() error {
	if err := c.tcp.CloseWrite(); err != nil || c.unacked() <= farewell {
		c.listener.leaving.Add(-1)
		return errors.Join(err, c.tcp.Close())
	}
	go func() {
		defer c.listener.leaving.Add(-1)
		defer c.tcp.Close()
		for since := time.Now(); c.isRead() && c.unacked() > 0; {
			if time.Since(since) < c.patience {
				continue
			}
			if since = time.Now(); !c.progressed() {
				return
			}
		}
	}()
	return nil
}

// isRead takes what the client says for a while, and reports whether it may say
// more.
func (c *conn) isRead() bool {
	if err := c.tcp.SetReadDeadline(time.Now().Add(min(lastLook, c.patience))); err != nil {
		return false
	}
	_, err := io.Copy(io.Discard, c.tcp)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// AwaitGone returns when the clients of all connections that were closed have what
// was written to them or take no more of it, or when ctx has ended.
func (l *Listener) AwaitGone(ctx context.Context) {
	waitWhile(ctx, func() bool { return l.leaving.Load() > 0 })
}
