package tlsmgr

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

// causes are why handshakes fail, each with what crypto/tls or net/http then
// writes. The text is all there is: alerts have no exported type. The first
// that fits counts.
var causes = []struct {
	name  string
	texts []string
}{
	{"refused", []string{"remote error: tls: bad certificate", "remote error: tls: unknown certificate authority", "remote error: tls: unknown certificate", "remote error: tls: expired certificate", "remote error: tls: revoked certificate"}},
	{"version", []string{"unsupported versions", "protocol version not supported"}},
	{"cipher", []string{"no cipher suite supported", "handshake failure"}},
	{"protocol", []string{"unsupported application protocols", "no application protocol"}},
	{"no_certificate", []string{errNotYet.Error(), errNone.Error(), "no information found to solve challenge"}},
	{"client_certificate", []string{"client didn't provide a certificate", "failed to verify certificate", "certificate required"}},
	{"plain_http", []string{"client sent an HTTP request to an HTTPS server", "first record does not look like a TLS handshake"}},
	{"timeout", []string{"i/o timeout", "deadline exceeded"}},
	{"closed", []string{"EOF", "connection reset", "broken pipe", "use of closed"}},
	{"other", []string{""}},
}

func causeOf(text string) string {
	for _, c := range causes {
		for _, t := range c.texts {
			if strings.Contains(text, t) {
				return c.name
			}
		}
	}
	return "other"
}

// maxRefusals bounds how many clients are remembered.
const maxRefusals = 1000

// refusals remembers which clients do not trust our certificate, and which have
// failed for another reason.
type refusals struct {
	mu      sync.Mutex // guards all
	clients map[string]bool
	last    Refusal
	others  map[[2]string]bool // client and cause
}

// first reports whether a client fails for that cause for the first time.
func (r *refusals) first(client, cause string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := [2]string{client, cause}
	if len(r.others) >= maxRefusals || r.others[k] {
		return false
	}
	if r.others == nil {
		r.others = map[[2]string]bool{}
	}
	r.others[k] = true
	return true
}

// Refusal says which client refused our certificate last, and how many have.
type Refusal struct {
	// Clients is the number of different addresses, up to 1000.
	Clients int       `json:"clients"`
	Last    string    `json:"last_client,omitempty"`
	At      time.Time `json:"at,omitzero"`
	Error   string    `json:"error,omitempty"`
}

// add reports whether client is new.
func (r *refusals) add(client, text string) (isNew bool, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clients == nil {
		r.clients = map[string]bool{}
	}
	if len(r.clients) < maxRefusals && !r.clients[client] {
		r.clients[client], isNew = true, true
	}
	r.last = Refusal{len(r.clients), client, time.Now().UTC(), text}
	return isNew, len(r.clients)
}

// Refused returns what is known of clients that have refused our certificate.
func (m *Manager) Refused() Refusal {
	m.refused.mu.Lock()
	defer m.refused.mu.Unlock()
	return m.refused.last
}

// ErrorLog returns a handler for http.Server.ErrorLog. It counts failed
// handshakes by their cause and writes them at debug level: anybody who reaches
// the port can cause as many as they like. The first refusal of each client is
// a warning, because then somebody's builds fail; the first failure of a client
// for another reason that tells something is written at info level. code, which
// may be nil, returns what the documentation calls a cause; text is what
// crypto/tls says of it. All other lines go to next as they are.
func (m *Manager) ErrorLog(next slog.Handler, code func(cause, text string) string) slog.Handler {
	return &handshakeLog{next, m, code}
}

type handshakeLog struct {
	slog.Handler
	m    *Manager
	code func(cause, text string) string
}

// silent are the causes that scanners and health checks of load balancers have
// all day long.
func silent(cause string) bool { return cause == "closed" || cause == "timeout" || cause == "other" }

const handshakePrefix = "http: TLS handshake error from "

// prefacePrefix begins what net/http writes of a client that has agreed on
// HTTP/2 and then sends none (RFC 9113, 3.4): who only looks at the certificate,
// as health checks, scanners and doctor do, or who refuses it late.
const prefacePrefix = "http2: server: error reading preface from client "

// Handle counts r if it is about a handshake.
func (h *handshakeLog) Handle(ctx context.Context, r slog.Record) error {
	rest, ok := strings.CutPrefix(r.Message, handshakePrefix)
	if !ok {
		rest, ok = strings.CutPrefix(r.Message, prefacePrefix)
	}
	if !ok {
		return h.Handler.Handle(ctx, r)
	}
	address, text, _ := strings.Cut(rest, ": ")
	client, _, err := net.SplitHostPort(address)
	if err != nil {
		client = address
	}
	cause := causeOf(text)
	h.m.metrics.failures.WithLabelValues(cause).Inc()
	level, message := slog.LevelDebug, "handshake failed"
	if cause == "refused" {
		isNew, n := h.m.refused.add(client, text)
		h.m.metrics.clients.Set(float64(n))
		if isNew {
			level, message = slog.LevelWarn, "a client does not trust our certificate; modgate env says how it learns to"
		}
	} else if !silent(cause) && h.m.refused.first(client, cause) {
		level = slog.LevelInfo
	}
	if !h.Enabled(ctx, level) {
		return nil
	}
	line := slog.NewRecord(r.Time, level, message, r.PC)
	line.AddAttrs(slog.String("client", client), slog.String("cause", cause))
	if h.code != nil {
		line.AddAttrs(slog.String("code", h.code(cause, text)))
	}
	line.AddAttrs(slog.String("error", strings.TrimSpace(text)))
	return h.Handler.Handle(ctx, line)
}

// WithAttrs and WithGroup keep the wrapping.
func (h *handshakeLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handshakeLog{h.Handler.WithAttrs(attrs), h.m, h.code}
}

// WithGroup is as WithAttrs.
func (h *handshakeLog) WithGroup(name string) slog.Handler {
	return &handshakeLog{h.Handler.WithGroup(name), h.m, h.code}
}
