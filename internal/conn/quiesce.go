package conn

import (
	"context"
	"net"
	"net/http"
	"time"
)

const (
	// crossing is how long a client's side of a handshake may still be on its way:
	// a round trip to the other end of the world.
	crossing = 250 * time.Millisecond
	// queuePoll is how often the queue of the kernel is looked at.
	queuePoll = 2 * time.Millisecond
	// introduction is how long a new connection is waited for that brings no
	// request, as net/http does (Go issue 22682).
	introduction = 5 * time.Second
)

// Quiesce returns when the listener can be closed without harm, while somebody
// goes on to call Accept. A client whose handshake is done believes that it is
// served, and Linux resets it if the listener is closed before Accept has returned
// its connection: it has sent a request by then, and the go command does not
// repeat one that fails on a fresh connection. Quiesce lets no more connections
// begin, so that clients try again a second later and are refused, and waits for
// those that have begun. Elsewhere than on Linux it returns at once, as it does
// with what is no listener of plain TCP (net.ListenConfig.SetMultipathTCP); ctx
// bounds it.
func (l *Listener) Quiesce(ctx context.Context) {
	tcp, ok := l.Listener.(*net.TCPListener)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil || !refuseNew(raw) {
		return
	}
	for wait := crossing; ; wait = queuePoll {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if queueLength(raw) == 0 {
			return
		}
	}
}

// Asked returns a handler that notes that a request has come on the connection
// before it calls next. AwaitRequests needs it.
func Asked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := of(r.Context()); c != nil {
			c.hasAsked()
		}
		next.ServeHTTP(w, r)
	})
}

// hasAsked notes that a request has come, or that none will.
func (c *conn) hasAsked() {
	if c.listener == nil || c.asked.Load() || c.asked.Swap(true) {
		return
	}
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	delete(c.listener.unasking, c)
}

// Close closes the connection.
func (c *conn) Close() error {
	c.hasAsked()
	if c.gathers.Load() {
		return c.finish()
	}
	return c.tcp.Close()
}

// AwaitRequests returns when on each connection that is not older than five
// seconds a first request has come, or ctx has ended. http.Server.Shutdown waits
// for it as well, reads it then and closes the connection without an answer; on a
// connection that was used before, clients repeat what meets that.
func (l *Listener) AwaitRequests(ctx context.Context) {
	waitWhile(ctx, l.awaitsRequests)
}

// waitWhile returns when pending reports false, or ctx has ended.
func waitWhile(ctx context.Context, pending func() bool) {
	for pending() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(queuePoll):
		}
	}
}

func (l *Listener) awaitsRequests() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.unasking {
		if time.Since(c.start) < introduction {
			return true
		}
	}
	return false
}
