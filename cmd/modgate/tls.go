package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/internal/conn"
	"github.com/modgate/modgate/tlsmgr"
)

// storagePatience is how long the start waits for the storage of certificates.
// Without it we serve all the same, and refuse handshakes until it answers.
const storagePatience = 5 * time.Second

// newCertificates returns the keeper of the certificates that c asks for, or
// nil if it asks for none, and how it is closed. Challenges come to the address.
func newCertificates(c *Config, address string, log *slog.Logger) (*tlsmgr.Manager, func() error, error) {
	if !c.TLS.on() {
		return nil, func() error { return nil }, nil
	}
	pairs, err := c.TLS.pairs()
	if err != nil {
		return nil, nil, err
	}
	if _, err := poolOf(x509.NewCertPool(), c.TLS.AdminClients); err != nil {
		return nil, nil, fmt.Errorf("tls.admin_clients: %w", err)
	}
	roots, err := trustPool(c.TLS.Trust)
	if err != nil {
		return nil, nil, err
	}
	storage, closeStorage, err := c.openCertStorage(log)
	if err != nil {
		return nil, nil, err
	}
	cfg := tlsmgr.Config{
		Mode: tlsmgr.Mode(c.TLS.Mode), Files: pairs, Domains: c.TLS.domains(), Storage: storage,
		MinVersion: c.TLS.minVersion(), Roots: roots, Logger: log,
	}
	if cfg.Mode == tlsmgr.ACME {
		if cfg.ACME, err = c.TLS.acme(address, log); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("tls: %w", err), closeStorage())
		}
	}
	m, err := tlsmgr.New(cfg)
	if err != nil {
		return nil, nil, errors.Join(explainTLS(cfg.Mode, err), closeStorage())
	}
	return m, closeStorage, nil
}

// explainTLS says which key an error of tlsmgr.New is about, where that is one.
func explainTLS(mode tlsmgr.Mode, err error) error {
	if mode != tlsmgr.Files {
		return fmt.Errorf("tls: %w", err)
	}
	pairs := tlsmgr.PairErrors(err)
	if len(pairs) == 0 {
		return fmt.Errorf("tls.files: %w", err)
	}
	var all []error
	for _, p := range pairs {
		all = append(all, &pairMistake{p})
	}
	return errors.Join(all...)
}

// pairMistake is a tlsmgr.PairError as we tell mistakes.
type pairMistake struct{ *tlsmgr.PairError }

// Error implements error.
func (m *pairMistake) Error() string { return "tls.files: " + m.Reason() + "\n  → " + m.Remedy() }

// Unwrap returns what tlsmgr has said.
func (m *pairMistake) Unwrap() error { return m.PairError }

// checkCertificates reports what is wrong with the certificates themselves.
func checkCertificates(c *Config) error {
	_, done, err := newCertificates(c, c.challengeAddress(), nil)
	if err != nil {
		return err
	}
	return done()
}

// challengeAddress returns where challenges come to, as it is configured.
func (c *Config) challengeAddress() string {
	if c.TLS.Challenge == tlsmgr.HTTP01 {
		return c.TLS.HTTPListen
	}
	return c.Listen
}

// openTLS makes the servers of v speak TLS if the configuration says so. It
// comes after the listeners are open and before anybody serves them.
func (v *service) openTLS(ctx context.Context, registry *prometheus.Registry) error {
	s := v.settings
	if !s.TLS.on() {
		return nil
	}
	challenges := v.publicAddr.Addr().String()
	if s.TLS.HTTPListen != "" {
		var err error
		if v.plainAddr, err = listen(ctx, "tls.http_listen", s.TLS.HTTPListen); err != nil {
			return err
		}
		if s.TLS.Challenge == tlsmgr.HTTP01 {
			challenges = v.plainAddr.Addr().String()
		}
	}
	if err := s.makeCertDir(); err != nil {
		return err
	}
	m, done, err := newCertificates(&s.Config, challenges, v.log)
	if err != nil {
		return err
	}
	v.app.closers = append(v.app.closers, done)
	patience, cancel := context.WithTimeout(ctx, storagePatience)
	defer cancel()
	m.Load(patience)
	v.certificates, v.health.certificates = m, m
	v.health.caComes = s.TLS.Mode == "acme" && s.TLS.Challenge != tlsmgr.DNS01
	registry.MustRegister(m.Collectors()...)
	v.app.background = append(v.app.background, m.Run)
	return v.speakTLS()
}

// speakTLS gives the servers the certificates.
func (v *service) speakTLS() error {
	m := v.certificates
	errorLog := slog.NewLogLogger(m.ErrorLog(v.log.Handler(), handshakeCode), slog.LevelWarn)
	v.public.TLSConfig, v.public.ErrorLog = m.TLSConfig(), errorLog
	v.public.Handler = withFingerprint(m, v.public.Handler)
	conn.BoundStreams(v.public, conn.Patience)
	if v.plainAddr != nil {
		_, port, err := net.SplitHostPort(v.publicAddr.Addr().String())
		if err != nil {
			return err
		}
		v.plain = newServer(m.HTTPHandler(v.health.front(tlsmgr.Redirect(port))), v.log)
	}
	if v.admin != nil {
		v.admin.certificates = m
	}
	if clients := v.settings.TLS.AdminClients; len(clients) > 0 && v.private != nil {
		pool, err := poolOf(x509.NewCertPool(), clients)
		if err != nil {
			return fmt.Errorf("tls.admin_clients: %w", err)
		}
		v.private.TLSConfig, v.private.ErrorLog = m.MutualTLSConfig(pool), errorLog
	}
	return nil
}

// clientAddress returns the URL under which clients reach a server that listens
// on address. Over TLS its host is one that the certificate has.
func (s *settings) clientAddress(address string, certificates *tlsmgr.Manager) string {
	if !s.TLS.on() {
		return localURL(address, s.BasePath)
	}
	plain := localURL(address, s.BasePath)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return plain
	}
	if name := s.hostName(certificates); name != "" {
		host = name
	} else if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	authority := net.JoinHostPort(host, port)
	if port == "443" {
		authority = strings.TrimSuffix(authority, ":443")
	}
	return "https://" + authority + strings.TrimSuffix(s.BasePath, "/")
}

// adminAddress returns the URL of the admin listener.
func (v *service) adminAddress() string {
	address := localURL(v.privateAddr.Addr().String(), "/")
	if v.private.TLSConfig != nil {
		address = "https" + strings.TrimPrefix(address, "http")
	}
	return address
}

// hostName returns the first name that is one host's: of those configured, else
// of the certificates; or "".
func (s *settings) hostName(certificates *tlsmgr.Manager) string {
	for _, word := range s.TLS.Domains {
		if name, err := tlsmgr.ParseDomain(word); err == nil && !strings.HasPrefix(name, "*.") {
			return name
		}
	}
	if certificates == nil {
		return ""
	}
	for _, st := range certificates.Status() {
		for _, name := range st.Names {
			if !strings.HasPrefix(name, "*.") {
				return name
			}
		}
	}
	return ""
}

// certifies reports whether address, a URL, is one that tls.domains stand for.
// Modes that get no certificate by them are not judged, nor is plain HTTP.
func (s *settings) certifies(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || !oneOf(s.TLS.Mode, []string{"acme", "internal"}) {
		return true
	}
	var names x509.Certificate
	for _, word := range s.TLS.domains() {
		name, err := tlsmgr.ParseDomain(word)
		if ip := net.ParseIP(name); ip != nil {
			names.IPAddresses = append(names.IPAddresses, ip)
		} else if err == nil {
			names.DNSNames = append(names.DNSNames, name)
		}
	}
	return names.VerifyHostname(u.Hostname()) == nil
}

// poolOf adds the certificates in files to pool.
func poolOf(pool *x509.CertPool, files []string) (*x509.CertPool, error) {
	var errs []error
	for _, name := range files {
		data, err := readBounded(name, maxConfigFile)
		if err != nil {
			err = remedied("cannot be read ("+err.Error()+")", "name files that the server may read")
		} else if !pool.AppendCertsFromPEM(data) {
			err = remedied("holds no certificate ("+name+")", "name a PEM file that begins with -----BEGIN CERTIFICATE-----")
		}
		errs = append(errs, err)
	}
	return pool, errors.Join(errs...)
}

// tlsStatus is what /-/status says of certificates.
type tlsStatus struct {
	Mode         string          `json:"mode"`
	Instance     string          `json:"instance"` // as at tlsmgr.InstancePath
	Certificates []tlsmgr.Status `json:"certificates"`
	Refused      tlsmgr.Refusal  `json:"refused"`
}

// tls returns the state of the certificates, or nil if there are none.
func (a *admin) tls() *tlsStatus {
	if a.certificates == nil {
		return nil
	}
	return &tlsStatus{a.settings.TLS.Mode, a.certificates.Instance(), a.certificates.Status(), a.certificates.Refused()}
}

// caPEM answers with the root of our own authority.
func (a *admin) caPEM(w http.ResponseWriter, _ *http.Request) {
	var root []byte
	if a.certificates != nil {
		root = a.certificates.RootPEM()
	}
	if root == nil {
		plain(w, http.StatusNotFound, "there is no authority of our own: tls.mode is "+a.settings.TLS.Mode+", or its storage has not answered yet\n")
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", `attachment; filename="modgate-root.pem"`)
	w.Write(root)
}
