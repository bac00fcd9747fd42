package gittest

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
)

// Forward is an HTTP proxy as companies have one, for programs that cannot be
// given a Dial: with HTTPS_PROXY set to its URL they find the server's hosts.
// Nothing else is reached by it, but it remembers who was asked for. Programs
// connect to loopback without a proxy.
type Forward struct {
	URL string

	mu    sync.Mutex
	asked []string
	conns sync.WaitGroup
}

// Proxy starts a proxy in front of the server that ends with the test.
func (s *Server) Proxy(tb TB) *Forward {
	tb.Helper()
	f := &Forward{}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.Host)
		f.mu.Unlock()
		if r.Method != http.MethodConnect {
			http.Error(w, "nothing is forwarded but CONNECT", http.StatusForbidden)
			return
		}
		far, err := s.Dial(r.Context(), "tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		near, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			_ = far.Close()
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
		f.conns.Go(func() {
			defer near.Close()
			_, _ = io.Copy(far, buffered)
			closeWrite(far)
		})
		f.conns.Go(func() {
			defer far.Close()
			_, _ = io.Copy(near, far)
			closeWrite(near)
			_ = near.Close() // a client that keeps its side open is not waited for
		})
	}))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Start()
	f.URL = front.URL
	tb.Cleanup(func() {
		s.http.CloseClientConnections()
		front.Close()
		f.conns.Wait()
	})
	return f
}

// Asked returns the host:port of each connection that was wanted.
func (f *Forward) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func closeWrite(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
