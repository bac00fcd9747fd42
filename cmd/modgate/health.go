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
	// A CA comes here before it gives a certificate: a balancer that leads nothing
	// to what is not ready would keep it away for ever.
	caComes bool
}

// unready says why this process should get no requests; "" if it should.
func (h *health) unready() string {
	switch {
	case h.draining.Load():
		return "draining: this process is about to end"
	case h.bare() && !h.caComes:
		return noCertificate
	}
	return ""
}

// noCertificate is what whoever asks reads while every handshake fails.
const noCertificate = "no certificate yet for any name, so every handshake fails: modgate tls status says why"

// bare reports whether there is no certificate where there should be one.
func (h *health) bare() bool { return h.certificates != nil && !h.certificates.Serves() }

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
	if h.bare() {
		plain(w, http.StatusOK, "ready for the CA; "+noCertificate+"\n")
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
