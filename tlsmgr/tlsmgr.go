// Package tlsmgr keeps the certificates of a listener: it reads them from files
// or issues them itself, renews them, and says in plain words what is wrong
// with them.
//
// All certificates are in memory. A handshake looks one up in a table that is
// replaced as a whole, so it never waits for a disk, a network or a lock.
package tlsmgr

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"golang.org/x/net/idna"
)

// Mode says where certificates come from.
type Mode string

// The modes. The empty one is not valid: without TLS there is no Manager.
const (
	Files    Mode = "files"    // PEM files that somebody else keeps up to date
	ACME     Mode = "acme"     // a CA that speaks ACME (RFC 8555), public or private
	Internal Mode = "internal" // our own authority
)

// Config of a Manager.
type Config struct {
	// Mode says where certificates come from. Required.
	Mode Mode
	// Files are the pairs of mode Files, in order of preference: the first is
	// for clients that name no host, or one that no certificate has.
	Files []Pair
	// Poll is how often files are read again. They are compared by content, so
	// replaced files, symbolic links that now lead elsewhere (as in Kubernetes)
	// and rewritten ones are all noticed. Default 5 s.
	Poll time.Duration
	// Domains are the names of modes ACME and Internal: host names, wildcards
	// and IP addresses.
	Domains []string
	// ACME is for mode ACME.
	ACME ACMEConfig
	// Storage keeps the certificates and the account of mode ACME and the
	// authority of mode Internal. All replicas that share it are one: what one
	// obtains all serve, and one alone orders. If it does not answer, it is
	// asked again until it does.
	Storage certmagic.Storage
	// MinVersion is tls.VersionTLS12 (the default) or tls.VersionTLS13.
	MinVersion uint16
	// Roots are the authorities that clients are taken to know. With them a
	// missing intermediate certificate is told from a private authority.
	// Default: those of the system.
	Roots *x509.CertPool
	// Logger may be nil.
	Logger *slog.Logger
}

// check reports all mistakes and fills in defaults.
func (c *Config) check() error {
	var errs []error
	switch c.Mode {
	case Files:
		if len(c.Files) == 0 {
			errs = append(errs, errors.New("mode files needs at least one pair of files"))
		}
	case ACME, Internal:
		if c.Storage == nil {
			errs = append(errs, fmt.Errorf("mode %s needs a storage", c.Mode))
		}
		errs = append(errs, c.checkDomains())
		if c.Mode == ACME {
			errs = append(errs, c.ACME.check(c.Domains))
		}
	default:
		errs = append(errs, fmt.Errorf("mode %q is unknown", c.Mode))
	}
	switch c.MinVersion {
	case 0:
		c.MinVersion = tls.VersionTLS12
	case tls.VersionTLS12, tls.VersionTLS13:
	default:
		errs = append(errs, fmt.Errorf("minimum version %s is not TLS 1.2 or TLS 1.3", tls.VersionName(c.MinVersion)))
	}
	if c.Poll <= 0 {
		c.Poll = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// checkDomains checks the names and brings them into one form: lower case, no
// dot behind, IP addresses as Go writes them, none twice.
func (c *Config) checkDomains() error {
	if len(c.Domains) == 0 {
		return fmt.Errorf("mode %s needs at least one domain", c.Mode)
	}
	var names []string
	var errs []error
	for _, word := range c.Domains {
		name, err := ParseDomain(word)
		if err == nil && slices.Contains(names, name) {
			err = fmt.Errorf("%q is there twice", name)
		}
		names, errs = append(names, name), append(errs, err)
	}
	c.Domains = names
	return errors.Join(errs...)
}

// ParseDomain returns the form in which a host name, a wildcard ("*.a.example")
// or an IP address is used, or what is wrong with it. A name with letters beyond
// ASCII is wrong: certificates have the form in which DNS has it (RFC 5890).
func ParseDomain(text string) (string, error) {
	if ip := net.ParseIP(strings.Trim(text, "[]")); ip != nil {
		return ip.String(), nil
	}
	name := strings.TrimSuffix(strings.ToLower(text), ".")
	plain := strings.TrimPrefix(name, "*.")
	for label := range strings.SplitSeq(plain, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return name, fmt.Errorf("%q is neither a host name nor an IP address%s", text, inASCII(name))
		}
	}
	if len(name) > 253 {
		return name, fmt.Errorf("%q is too long for a host name", text)
	}
	return name, nil
}

// inASCII returns a hint how DNS writes a name with letters beyond ASCII, or "".
func inASCII(name string) string {
	plain := strings.TrimPrefix(name, "*.")
	if ascii, err := idna.Lookup.ToASCII(plain); err == nil && ascii != plain {
		return " (in DNS it is " + strings.TrimSuffix(name, plain) + ascii + ")"
	}
	return ""
}

// source is where certificates come from. It puts them into the Manager's
// slots.
type source interface {
	// load serves what can be had without waiting for long.
	load(ctx context.Context)
	// run keeps the certificates up to date until ctx ends.
	run(ctx context.Context) error
	// renew replaces the certificate that the configuration calls name.
	renew(ctx context.Context, name string) error
}

// Manager keeps the certificates of a listener. Its methods may be called
// concurrently.
type Manager struct {
	cfg     Config
	source  source
	table   atomic.Pointer[table] // of the certificates in slots
	metrics *metrics
	refused refusals

	instance string           // see InstancePath
	now      func() time.Time // time.Now; tests of mode ACME set it before Load

	mu    sync.Mutex // guards slots and what is in them
	slots []*slot
}

// New returns a Manager. With mode Files it reads the pairs, and a pair that
// cannot be served is an error. Call Run to keep the certificates up to date.
func New(cfg Config) (*Manager, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, metrics: newMetrics(), instance: "modgate " + rand.Text(), now: time.Now}
	m.table.Store(new(table))
	switch cfg.Mode {
	case Files:
		f, err := newFiles(m, cfg.Files)
		if err != nil {
			return nil, err
		}
		m.source = f
	case ACME:
		m.source = newACME(m)
	case Internal:
		m.source = newInternal(m)
	}
	return m, nil
}

// Load serves what is stored, so that the first handshake finds it. What goes
// wrong is told in Status and tried again by Run. Call it once, before Run.
func (m *Manager) Load(ctx context.Context) { m.source.load(ctx) }

// Renew gets a new certificate for the name now, and returns when it is served
// or has failed. The old one is served until then. Run must be running. The
// error may be a *Problem; ErrUnknownName if there is no such name.
func (m *Manager) Renew(ctx context.Context, name string) error { return m.source.renew(ctx, name) }

// HTTPHandler answers the challenges http-01, and leaves all else to next.
func (m *Manager) HTTPHandler(next http.Handler) http.Handler {
	s, ok := m.source.(*acmeSource)
	if !ok {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.answerHTTP(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// RootPEM returns the root certificate of mode Internal, or nil if there is none
// (yet).
func (m *Manager) RootPEM() []byte {
	if i, ok := m.source.(*internal); ok {
		return i.rootPEM()
	}
	return nil
}

// Run keeps the certificates up to date until ctx ends, and then returns nil.
func (m *Manager) Run(ctx context.Context) error { return m.source.run(ctx) }

// TLSConfig returns the configuration of a server that offers HTTP/2 and
// HTTP/1.1. The caller owns it.
func (m *Manager) TLSConfig() *tls.Config {
	c := &tls.Config{
		MinVersion:     m.cfg.MinVersion,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: m.certificate,
	}
	if s, ok := m.source.(*acmeSource); ok && s.cfg.Challenge == TLSALPN01 {
		c.NextProtos = append(c.NextProtos, acmez.ACMETLS1Protocol)
	}
	return c
}

// MutualTLSConfig is TLSConfig for a listener whose clients must show a
// certificate that one of the authorities has signed for them.
func (m *Manager) MutualTLSConfig(authorities *x509.CertPool) *tls.Config {
	c := m.TLSConfig()
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, authorities
	c.NextProtos = []string{"h2", "http/1.1"} // no challenges: they come to the other listener, without a client certificate
	return c
}

func (m *Manager) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s, ok := m.source.(*acmeSource); ok {
		if cert, ok, err := s.challenge(hello); ok {
			return cert, err
		}
	}
	return m.table.Load().find(hello)
}

// slot is the place of one certificate: a pair of files, or a name. All fields
// but key are guarded by Manager.mu.
type slot struct {
	key    string           // what the configuration calls it
	names  []string         // for which it is meant; empty: those in the certificate
	cert   *tls.Certificate // nil until there is one
	status Status           // without what is read off cert
}

// addSlot adds an empty slot.
func (m *Manager) addSlot(key string, names ...string) *slot {
	s := &slot{key: key, names: names, status: Status{Name: key}}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots = append(m.slots, s)
	m.table.Store(newTable(m.slots))
	m.metrics.expiry.WithLabelValues(key).Set(0)
	return s
}

// install puts cert into s, from where handshakes take it at once. The caller
// does not change it afterwards.
func (m *Manager) install(s *slot, cert *tls.Certificate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.cert = cert
	m.table.Store(newTable(m.slots))
	m.metrics.expiry.WithLabelValues(s.key).Set(float64(cert.Leaf.NotAfter.Unix()))
}

// served returns the certificate in s, or nil.
func (m *Manager) served(s *slot) *tls.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return s.cert
}

// update changes the status of s.
func (m *Manager) update(s *slot, change func(*Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := s.status.Alarm
	change(&s.status)
	if before != "" && s.status.Alarm == "" {
		m.cfg.Logger.Info("the alarm about a certificate is over", "name", s.key, "was", before)
	}
	alarms := 0
	for _, s := range m.slots {
		if s.status.Alarm != "" {
			alarms++
		}
	}
	m.metrics.alarms.Set(float64(alarms))
}

// Serves reports whether there is a certificate for any name. Without one every
// handshake fails.
func (m *Manager) Serves() bool { return m.table.Load().fallback != nil }

// Status returns the state of every certificate, in the order of the
// configuration.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Status, 0, len(m.slots))
	for _, s := range m.slots {
		st := s.status
		st.describe(s.cert)
		st.Names = slices.Clone(st.Names)
		all = append(all, st)
	}
	return all
}
