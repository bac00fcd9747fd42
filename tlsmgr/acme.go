package tlsmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"golang.org/x/sync/errgroup"
)

// The challenges, by which an ACME server sees that a name is ours.
const (
	HTTP01    = "http-01"     // a file on port 80
	TLSALPN01 = "tls-alpn-01" // a certificate on port 443
	DNS01     = "dns-01"      // a record in the zone of the name
)

// ACMEConfig says where certificates of mode ACME come from, and how we show
// that the names are ours.
type ACMEConfig struct {
	// CA is the URL of the ACME directory. Required, https.
	CA string
	// Email is where the CA writes to. May be empty.
	Email string
	// Challenge is HTTP01, TLSALPN01 or DNS01. Exactly one: servers differ in
	// what they do when the first of two fails, down to nothing at all
	// (smallstep/certificates issue 2804).
	Challenge string
	// Listen is the address, host:port, of our listener that the challenge
	// reaches, by whatever way. Unused for DNS01.
	Listen string
	// DNS makes and removes the records of DNS01; see NewDNS.
	DNS acmez.Solver
	// AccountKeyID and AccountMAC (base64url) bind the account to one that the
	// CA knows already (RFC 8555, 7.3.4). Both or none.
	AccountKeyID, AccountMAC string
	// Profile names one of the CA's profiles. Empty: the CA's choice.
	Profile string
	// Patience is how long the CA may take to look at a challenge. Some never say
	// that they could not reach us. Default 60 s.
	Patience time.Duration
	// Roots are the authorities that may sign the certificate of the CA's own
	// server. Nil: those of the system.
	Roots *x509.CertPool
}

// check reports all mistakes that can be seen without asking the CA.
func (c *ACMEConfig) check(domains []string) error {
	var errs []error
	if u, err := url.Parse(c.CA); err != nil || u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("the CA %q is not an https:// URL of an ACME directory", c.CA))
	}
	if (c.AccountKeyID == "") != (c.AccountMAC == "") {
		errs = append(errs, errors.New("an external account needs both key id and MAC key"))
	}
	switch c.Challenge {
	case HTTP01, TLSALPN01:
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			errs = append(errs, fmt.Errorf("the challenge %s needs a listener: %w", c.Challenge, err))
		}
	case DNS01:
		if c.DNS == nil {
			errs = append(errs, errors.New("the challenge dns-01 needs a DNS provider"))
		}
		if hook, ok := c.DNS.(*execSolver); ok {
			errs = append(errs, hook.check())
		}
	default:
		errs = append(errs, fmt.Errorf("the challenge %q is not one of %s, %s, %s", c.Challenge, HTTP01, TLSALPN01, DNS01))
	}
	for _, name := range domains {
		errs = append(errs, CheckACMEName(c.CA, c.Challenge, c.Profile, name))
	}
	return errors.Join(errs...)
}

// CheckACMEName says why a name cannot have a certificate of the CA by the
// challenge, as far as that is known without asking.
func CheckACMEName(ca, challenge, profile, name string) error {
	ip := net.ParseIP(name) != nil
	public := isPublicCA(ca)
	switch {
	case strings.HasPrefix(name, "*.") && challenge != DNS01:
		return fmt.Errorf("the wildcard %s needs the challenge dns-01", name)
	case ip && challenge == DNS01:
		return fmt.Errorf("the IP address %s needs the challenge http-01 or tls-alpn-01", name)
	case public && !certmagic.SubjectQualifiesForPublicCert(name):
		return fmt.Errorf("%s is not a public name: a public CA does not sign it; use a CA of your own, or tls.mode internal", name)
	case ip && strings.Contains(ca, "letsencrypt.org") && profile != "shortlived":
		return fmt.Errorf("the IP address %s needs the profile shortlived at Let's Encrypt", name)
	case ip && strings.Contains(ca, "zerossl.com"):
		return fmt.Errorf("ZeroSSL signs no IP address (%s) by ACME", name)
	}
	return nil
}

// isPublicCA reports whether browsers trust what ca signs, so that it signs
// public names alone.
func isPublicCA(ca string) bool {
	u, err := url.Parse(ca)
	return err == nil && slices.ContainsFunc([]string{".letsencrypt.org", ".zerossl.com", ".pki.goog", ".buypass.com", ".ssl.com"}, func(domain string) bool {
		return strings.HasSuffix(u.Hostname(), domain)
	})
}

// attemptsAtOnce bounds how many names are obtained at one time by a process:
// a CA has limits, and so has certmagic (10 orders in 10 s).
const attemptsAtOnce = 8

// acmeSource is the source of mode ACME. Each name has a certificate of its own
// and a goroutine that looks after it.
type acmeSource struct {
	m       *Manager
	cfg     ACMEConfig
	storage certmagic.Storage
	issuer  *certmagic.ACMEIssuer
	magic   *certmagic.Config
	client  *acme.Client // asks the CA for what certmagic does not tell
	slots   chan struct{}
	names   []*managed
	answers map[string]bool // the names for which challenges are answered
}

func newACME(m *Manager) *acmeSource {
	cfg := m.cfg.ACME
	if cfg.Patience <= 0 {
		cfg.Patience = time.Minute
	}
	s := &acmeSource{m: m, cfg: cfg, storage: m.cfg.Storage, slots: make(chan struct{}, attemptsAtOnce), answers: map[string]bool{}}
	logger := zapLogger(m.cfg.Logger)
	s.magic = &certmagic.Config{Storage: s.storage, Logger: logger, DisableARI: true}
	template := certmagic.ACMEIssuer{
		CA: cfg.CA,
		// Never another CA for a retry: the replica that answers the challenge
		// would look for it under the first.
		TestCA: cfg.CA,
		Email:  cfg.Email, Agreed: true, Profile: cfg.Profile, TrustedRoots: cfg.Roots, Logger: logger,
		CertObtainTimeout:       cfg.Patience,
		DisableHTTPChallenge:    cfg.Challenge != HTTP01,
		DisableTLSALPNChallenge: cfg.Challenge != TLSALPN01,
	}
	if cfg.AccountKeyID != "" {
		template.ExternalAccount = &acme.EAB{KeyID: cfg.AccountKeyID, MACKey: cfg.AccountMAC}
	}
	host, port, _ := net.SplitHostPort(cfg.Listen)
	template.ListenHost = host
	switch number, _ := strconv.Atoi(port); cfg.Challenge {
	case HTTP01:
		template.AltHTTPPort = number
	case TLSALPN01:
		template.AltTLSALPNPort = number
	case DNS01:
		template.DNS01Solver = cfg.DNS
	}
	s.issuer = certmagic.NewACMEIssuer(s.magic, template)
	s.magic.Issuers = []certmagic.Issuer{s.issuer}
	s.client = &acme.Client{Directory: cfg.CA, Logger: slog.New(slog.DiscardHandler), HTTPClient: &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
		},
	}}
	for _, name := range m.cfg.Domains {
		s.names = append(s.names, &managed{acmeSource: s, name: name, slot: m.addSlot(name, name), forced: make(chan chan error)})
		s.answers[name] = true
		if ip, err := netip.ParseAddr(name); err == nil {
			s.answers[reverseName(ip)] = true
		}
	}
	return s
}

// load serves what is stored for the names.
func (s *acmeSource) load(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(attemptsAtOnce)
	for _, n := range s.names {
		g.Go(func() error { n.reload(ctx); return nil })
	}
	g.Wait()
}

// run looks after all names until ctx ends, and the attempts in progress with
// it.
func (s *acmeSource) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range s.names {
		g.Go(func() error { return n.run(ctx) })
	}
	return g.Wait()
}

// renew replaces the certificate of name now.
func (s *acmeSource) renew(ctx context.Context, word string) error {
	name, _ := ParseDomain(word)
	for _, n := range s.names {
		if n.name == name {
			return n.renewNow(ctx)
		}
	}
	return unknownName(word, s.m.cfg.Domains)
}

// challenge returns the certificate that answers a challenge; ok is false if
// hello is about none. It may ask the storage, which other replicas share, but
// only for the names of the configuration.
func (s *acmeSource) challenge(hello *tls.ClientHelloInfo) (cert *tls.Certificate, ok bool, err error) {
	if s.cfg.Challenge != TLSALPN01 || !slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) || !s.answers[strings.ToLower(hello.ServerName)] {
		return nil, false, nil
	}
	cert, err = s.magic.GetCertificate(hello)
	return cert, true, err
}

// answerHTTP answers a challenge and reports whether r was one.
func (s *acmeSource) answerHTTP(w http.ResponseWriter, r *http.Request) bool {
	if s.cfg.Challenge != HTTP01 || !certmagic.LooksLikeHTTPChallenge(r) {
		return false
	}
	if s.answerInstance(w, r) {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return s.answers[strings.ToLower(strings.Trim(host, "[]"))] && s.issuer.HandleHTTPChallenge(w, r)
}

// reverseName returns the name by which a CA asks for the challenge of an
// address (RFC 8738, 6): 1.0.0.127.in-addr.arpa.
func reverseName(ip netip.Addr) string {
	var b strings.Builder
	if ip.Is4() {
		for _, octet := range slices.Backward(ip.AsSlice()) {
			fmt.Fprintf(&b, "%d.", octet)
		}
		return b.String() + "in-addr.arpa"
	}
	for _, octet := range slices.Backward(ip.AsSlice()) {
		fmt.Fprintf(&b, "%x.%x.", octet&0xf, octet>>4)
	}
	return b.String() + "ip6.arpa"
}
