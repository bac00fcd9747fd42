package conn

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// paused is a client's end of a connection that reads nothing while gate is set.
type paused struct {
	net.Conn
	gate *atomic.Pointer[chan struct{}]
}

func (p paused) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b[:min(len(b), 1000)])
	if gate := p.gate.Load(); gate != nil {
		<-*gate
	}
	return n, err
}

// TestSlowClientAfterShutdown: a second after the last answer net/http closes a
// connection of HTTP/2, and a client that reads slowly has the end of it in the
// kernel of the server. What it says while it reads must not meet a connection that
// is gone: that would be answered by a reset, which takes the rest away.
func TestSlowClientAfterShutdown(t *testing.T) {
	var gate atomic.Pointer[chan struct{}]
	var listener *Listener
	answered := make(chan struct{}, 2)
	s, client := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		serveBody(w, r)
		listener = of(r.Context()).listener
		answered <- struct{}{}
	}, func(address string) (net.Conn, error) {
		c, err := dialTCP(address)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(8 << 10)
		}
		return paused{c, &gate}, err
	})
	if err := ask(client, 1); err != nil {
		t.Fatal(err)
	}
	<-answered
	shut := make(chan struct{})
	gate.Store(&shut)
	got := make(chan error, 1)
	go func() { got <- ask(client, 100_000) }()
	<-answered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	close(shut)
	listener.AwaitGone(ctx)
	if err := <-got; err != nil {
		t.Error(err)
	}
	if listener.leaving.Load() != 0 || ctx.Err() != nil {
		t.Error("the connection stays when the client has everything")
	}
}

// TestVanishedClients: one that has not confirmed the end of an answer is waited for
// as long as any other that takes nothing, and one that only was to hear goodbye is
// not.
func TestVanishedClients(t *testing.T) {
	for name, row := range map[string]struct {
		unacked int64
		waits   bool
	}{"idle": {farewell, false}, "reading": {100_000, true}} {
		t.Run(name, func(t *testing.T) {
			server, _ := gatherers(t)
			server.patience = 100 * time.Millisecond
			server.unacked = func() int64 { return row.unacked }
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
			if waits := server.listener.leaving.Load() > 0; waits != row.waits {
				t.Errorf("is waited for: %t, want %t", waits, row.waits)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if server.listener.AwaitGone(ctx); ctx.Err() != nil {
				t.Error("is waited for without end")
			}
			if _, err := server.tcp.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the connection is open: %v", err)
			}
		})
	}
}
