package main

import (
	"io"
	"net/http"
	"sync/atomic"

	"github.com/modgate/modgate/tlsmgr"
)

// health knows whether this process should get requests.
type health struct {
	draining     atomic.Bool
	certificates *tlsmgr.Manager // nil without TLS; set before anything is served
}

// unready says why this process should get no requests; "" if it should.
func (h *health) unready() string {
	switch {
	case h.draining.Load():
		return "draining: this process is about to end"
	case h.certificates != nil && !h.certificates.Serves():
		return "no certificate yet for any name, so every handshake fails: modgate tls status says why"
	}
	return ""
}

// front answers /healthz and /readyz by itself and leaves the rest to next.
// Probes come every few seconds for ever: they are neither logged nor counted.
// While draining, every answer asks the client to connect anew, elsewhere.
func (h *health) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		switch r.URL.Path {
		case "/healthz":
			plain(w, http.StatusOK, "ok\n")
		case "/readyz":
			h.ready(w)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (h *health) ready(w http.ResponseWriter) {
	if why := h.unready(); why != "" {
		plain(w, http.StatusServiceUnavailable, why+"\n")
		return
	}
	plain(w, http.StatusOK, "ready\n")
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text)
}
