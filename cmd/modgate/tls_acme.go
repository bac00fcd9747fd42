package main

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"net/url"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/modgate/modgate/tlsmgr"
)

// directories are the ACME directories that have a name.
func directories() map[string]string {
	return map[string]string{
		"letsencrypt":         certmagic.LetsEncryptProductionCA,
		"letsencrypt-staging": certmagic.LetsEncryptStagingCA,
		"zerossl":             certmagic.ZeroSSLProductionCA,
	}
}

// directory returns the URL of the ACME directory.
func (t *TLS) directory() string {
	if u, ok := directories()[t.CA]; ok {
		return u
	}
	return t.CA
}

// acmeRules are the checks of the keys of mode acme.
func (s *settings) acmeRules() []rule {
	t := &s.TLS
	only := func(isSet bool) func() error { return func() error { return s.onlyFor(isSet, "acme") } }
	rules := []rule{
		{"tls.email", only(t.Email != "")}, {"tls.ca_roots", only(len(t.CARoots) > 0)}, {"tls.profile", only(t.Profile != "")},
		{"tls.eab_key_id", only(t.EABKeyID != "")}, {"tls.eab_mac_key", only(t.EABMACKey != "")},
		{"tls.dns_provider", only(t.DNSProvider != "")}, {"tls.dns_settings", only(len(t.DNSSettings) > 0)}, {"tls.dns_resolvers", only(len(t.DNSResolvers) > 0)},
	}
	if t.Mode != "acme" {
		return rules
	}
	elsewhere := func(isSet bool) func() error { return func() error { return s.onlyForDNS(isSet) } }
	return append(rules,
		rule{"tls.dns_settings", elsewhere(len(t.DNSSettings) > 0)}, rule{"tls.dns_resolvers", elsewhere(len(t.DNSResolvers) > 0)},
		rule{"tls.domains", s.checkACMEDomains}, rule{"tls.ca", s.checkCA}, rule{"tls.challenge", s.checkChallenge},
		rule{"tls.email", s.checkEmail}, rule{"tls.eab_key_id", s.checkEAB}, rule{"tls.dns_provider", s.checkDNS},
		rule{"tls.ca_roots", func() error { _, err := poolOf(x509.NewCertPool(), t.CARoots); return err }})
}

func (s *settings) checkACMEDomains() error {
	if len(s.TLS.Domains) == 0 {
		return remedied("names nothing, and tls.mode is acme", "write the host names under which clients reach this server: go.corp.example")
	}
	var errs []error
	for _, word := range s.TLS.Domains {
		name, err := tlsmgr.ParseDomain(word)
		if err != nil {
			continue // told by the check of all modes
		}
		if err := tlsmgr.CheckACMEName(s.TLS.directory(), s.TLS.Challenge, s.TLS.Profile, name); err != nil {
			problem, advice, _ := strings.Cut(err.Error(), ": ")
			switch {
			case advice == "" && strings.HasPrefix(name, "*."):
				advice = "set tls.challenge to dns-01, or name each host"
			case advice == "" && strings.HasSuffix(problem, "at Let's Encrypt"):
				advice = "set tls.profile to shortlived, or leave the address out"
			case advice == "":
				advice = "change the name, or what does not go with it"
			}
			errs = append(errs, remedied("does not go with the other keys: "+problem, advice))
		}
	}
	return errors.Join(errs...)
}

func (s *settings) checkCA() error {
	u, err := url.Parse(s.TLS.directory())
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return remedied("is not an ACME directory", "write letsencrypt, letsencrypt-staging, zerossl or the https:// URL of a directory")
	}
	return nil
}

func (s *settings) checkChallenge() error {
	if s.TLS.Challenge == tlsmgr.HTTP01 && s.TLS.HTTPListen == "" {
		return remedied("needs a listener for plain HTTP", "set tls.http_listen to :80, or to where port 80 is forwarded to")
	}
	return nil
}

func (s *settings) checkEmail() error {
	if s.TLS.Email == "" {
		return nil
	}
	if a, err := mail.ParseAddress(s.TLS.Email); err != nil || a.Address != s.TLS.Email {
		return remedied("is not a mail address", "write it without a name: ops@corp.example")
	}
	return nil
}

func (s *settings) checkEAB() error {
	switch {
	case s.TLS.EABKeyID == "" && s.TLS.EABMACKey != "":
		return remedied("is empty, and tls.eab_mac_key is set", "set both as the CA gave them out, or none")
	case s.TLS.EABKeyID != "" && s.TLS.EABMACKey == "":
		return remedied("and tls.eab_mac_key go together", "set both as the CA gave them out, or none")
	case !isBase64URL(s.TLS.EABMACKey):
		return remedied("goes with a tls.eab_mac_key that is not base64url", "set that as the CA gave it out, without = at its end")
	case s.TLS.EABKeyID == "" && s.TLS.CA == "zerossl":
		return remedied("is empty, and ZeroSSL wants an account that it knows", "make EAB credentials in its console and set tls.eab_key_id and tls.eab_mac_key")
	}
	return nil
}

func isBase64URL(text string) bool {
	_, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil
}

func (s *settings) checkDNS() error {
	if s.TLS.Challenge != tlsmgr.DNS01 {
		return s.onlyForDNS(s.TLS.DNSProvider != "")
	}
	if s.TLS.DNSProvider == "" {
		return remedied("is empty, and tls.challenge is dns-01", "name who has the zone; docs/tls.md lists the providers")
	}
	if _, err := s.TLS.dns(nil); err != nil {
		return remedied("and tls.dns_settings do not go together: "+strings.ReplaceAll(err.Error(), "\n", "; "), "docs/tls.md lists the settings of each provider")
	}
	return nil
}

// onlyForDNS reports that a key is set that has no meaning with the challenge.
func (s *settings) onlyForDNS(isSet bool) error {
	if isSet && s.TLS.Challenge != tlsmgr.DNS01 {
		return remedied("has no meaning while tls.challenge is "+s.TLS.Challenge, "set tls.challenge to dns-01, or remove this")
	}
	return nil
}

// dns returns the configuration of the DNS provider, checked.
func (t *TLS) dns(log *slog.Logger) (tlsmgr.DNSConfig, error) {
	c := tlsmgr.DNSConfig{Provider: t.DNSProvider, Settings: map[string]string{}, Resolvers: t.DNSResolvers, Logger: log}
	for _, pair := range t.DNSSettings {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return c, fmt.Errorf("an entry of tls.dns_settings is not NAME=VALUE")
		}
		value, err := dereference(value)
		if err != nil {
			return c, fmt.Errorf("setting %s: %w", name, err)
		}
		if _, twice := c.Settings[name]; twice {
			return c, fmt.Errorf("setting %s is there twice", name)
		}
		c.Settings[name] = value
	}
	_, err := tlsmgr.NewDNS(c)
	return c, err
}

// acme returns the configuration of mode acme, for a challenge that comes to
// the address.
func (t *TLS) acme(address string, log *slog.Logger) (tlsmgr.ACMEConfig, error) {
	c := tlsmgr.ACMEConfig{
		CA: t.directory(), Email: t.Email, Challenge: t.Challenge, Listen: address, Profile: t.Profile,
		AccountKeyID: t.EABKeyID, AccountMAC: t.EABMACKey,
	}
	var err error
	if len(t.CARoots) > 0 {
		c.Roots, err = poolOf(x509.NewCertPool(), t.CARoots)
	} else {
		c.Roots, err = trustPool(t.Trust)
	}
	if err != nil || t.Challenge != tlsmgr.DNS01 {
		return c, err
	}
	d, err := t.dns(log)
	if err != nil {
		return c, err
	}
	c.DNS, err = tlsmgr.NewDNS(d)
	return c, err
}
