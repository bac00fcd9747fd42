package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/modgate/modgate/internal/conn"
)

// newServer returns the HTTP server for h. Answers have no total timeout: see
// conn.Listener.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:     boundBody(bodyPatience, h),
		ConnContext: conn.Context,
		// A request is a line and a few headers. Whoever sends them a byte at a
		// time to hold the connection is cut; no real client needs this long.
		ReadHeaderTimeout: 10 * time.Second,
		// The go command keeps connections over its phases. Load balancers
		// drop idle ones after 60 s (AWS) to 75 s (nginx) and must be the first
		// to do so, or they send a request into a closed connection.
		IdleTimeout: 3 * time.Minute,
		// Tokens may be long, but not this long. The default is 1 MiB.
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// bodyPatience is how long the body of a request may take. No request that we
// answer needs one, but net/http reads it to its end, however slow it comes.
const bodyPatience = 10 * time.Second

// boundBody keeps a request with a body from holding its connection longer
// than patience.
func boundBody(patience time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience))
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// listen opens address for the key that it was configured by.
func listen(ctx context.Context, key, address string) (*conn.Listener, error) {
	var cfg net.ListenConfig
	cfg.SetMultipathTCP(false) // see conn.Listener.Quiesce
	l, err := cfg.Listen(ctx, "tcp", address)
	if err == nil {
		return conn.NewListener(l, conn.Patience), nil
	}
	advice := "set " + key + " to an address of this machine"
	flag := "--" + find(key).flag()
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		advice = fmt.Sprintf("another program has that port, maybe another modgate: stop it, or choose a port with %s", flag)
	case errors.Is(err, syscall.EACCES):
		advice = fmt.Sprintf("ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): grant it, or choose a port with %s", flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		advice = fmt.Sprintf("no interface of this machine has that address: choose one with %s", flag)
	}
	return nil, fmt.Errorf("%s: %w\n  → %s", key, err, advice)
}

// serveOn serves on l until the server is shut down or l closed.
func serveOn(s *http.Server, l net.Listener) error {
	s.Handler = conn.Asked(s.Handler)
	serve := s.Serve
	if s.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}
