package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/modgate/modgate/tlsmgr"
)

// TLS configures the certificates of our listeners, and trust for outgoing
// connections.
type TLS struct {
	Mode         string `key:"mode" default:"off" oneof:"off files acme internal" doc:"Where the certificates come from: off (plain HTTP, for a proxy in front), files, acme (Let's Encrypt or another CA that speaks ACME), or internal (an authority of our own, which clients have to trust)."`
	Domains      List   `key:"domains" doc:"For acme and internal: the host names, wildcards (*.corp.example) and IP addresses under which clients reach this server. Default for internal: the name of this machine, localhost and the loopback addresses."`
	Files        List   `key:"files" doc:"For files: CERT:KEY pairs of PEM files, or directories with tls.crt and tls.key. The certificate of the server comes first in its file, then the intermediate ones. Changes are noticed within seconds; a bad pair leaves the old one in place. The first pair is for clients that name no host."`
	Storage      string `key:"storage" secret:"url" doc:"For acme and internal: the directory in which certificates and keys are kept, or the Redis that all replicas share: redis://USER:PASSWORD@HOST:PORT/DB (docs/tls.md). Default: file, which is .modgate/tls in cache.dir."`
	StorageKey   string `key:"storage_key" secret:"hidden" doc:"For a Redis: what private keys are encrypted by there, 32 characters or more, the same for all replicas."`
	Email        string `key:"email" doc:"For acme: where the CA writes to when something is wrong. May be empty."`
	CA           string `key:"ca" default:"letsencrypt" doc:"For acme: letsencrypt, letsencrypt-staging, zerossl, or the URL of an ACME directory."`
	CARoots      List   `key:"ca_roots" doc:"For acme: PEM files of the authorities that sign the certificate of the CA's own server. With them only these are trusted for it; without them, the system's and those of tls.trust."`
	Challenge    string `key:"challenge" default:"tls-alpn-01" oneof:"http-01 tls-alpn-01 dns-01" doc:"For acme: how the CA sees that a name is ours. tls-alpn-01: it comes to port 443, which leads to listen. http-01: it comes to port 80, which leads to tls.http_listen. dns-01: it looks for a record in the zone of the name; the only way to wildcards, and the one that needs no way in."`
	DNSProvider  string `key:"dns_provider" doc:"For dns-01: who has the zone: acmedns, alidns, azure, cloudflare, digitalocean, exec, rfc2136, route53 or tencentcloud."`
	DNSSettings  List   `key:"dns_settings" secret:"hidden" doc:"For dns-01: the settings of the provider, NAME=VALUE; docs/tls.md lists them. A value may be a file: reference, too."`
	DNSResolvers List   `key:"dns_resolvers" doc:"For dns-01: name servers, host:port, that are asked for the zone, and whether the record can be seen. Default: those of the system and of the zone."`
	EABKeyID     string `key:"eab_key_id" doc:"For acme: the key id of the account that the CA knows already (external account binding)."`
	EABMACKey    string `key:"eab_mac_key" secret:"hidden" doc:"For acme: the MAC key of that account, base64url."`
	Profile      string `key:"profile" doc:"For acme: one of the profiles that the CA offers. Let's Encrypt signs IP addresses with shortlived alone."`
	MinVersion   string `key:"min_version" default:"1.2" oneof:"1.2 1.3" doc:"The least version of TLS: 1.2 or 1.3."`
	HTTPListen   string `key:"http_listen" doc:"A second address, :80 say, that sends clients of plain HTTP to HTTPS. Empty turns it off."`
	AdminClients List   `key:"admin_clients" doc:"PEM files of authorities. With them the admin listener speaks TLS too, with the same certificate, and only to clients with a certificate of one of these."`
	Trust        List   `key:"trust" doc:"Files with further CA certificates (PEM) for outgoing connections, added to those of the system."`
}

// on reports whether we speak TLS.
func (t *TLS) on() bool { return t.Mode != "off" }

// tlsRules are the checks of the keys tls.* but for what only files on the disk
// can tell: other commands than serve may be run by users who cannot read them.
func (s *settings) tlsRules() []rule {
	return append([]rule{
		{"tls.domains", s.checkDomains},
		{"tls.files", s.checkTLSFiles},
		{"tls.storage", s.checkTLSStorage},
		{"tls.storage_key", s.checkStorageKey},
		{"tls.http_listen", s.checkHTTPListen},
		{"tls.admin_clients", func() error {
			if len(s.TLS.AdminClients) > 0 && s.Admin.Listen == "" {
				return remedied("has no meaning while admin.listen is empty", "set admin.listen, or remove this")
			}
			if len(s.TLS.AdminClients) > 0 {
				return s.needsTLS()
			}
			return nil
		}},
	}, s.acmeRules()...)
}

func (s *settings) needsTLS() error {
	if !s.TLS.on() {
		return remedied("has no meaning while tls.mode is off", "set tls.mode, or remove this")
	}
	return nil
}

// onlyFor reports that a key is set that has no meaning in the mode.
func (s *settings) onlyFor(isSet bool, modes ...string) error {
	if isSet && !oneOf(s.TLS.Mode, modes) {
		return remedied("has no meaning while tls.mode is "+s.TLS.Mode, "set tls.mode to "+strings.Join(modes, " or ")+", or remove this")
	}
	return nil
}

func (s *settings) checkDomains() error {
	if err := s.onlyFor(len(s.TLS.Domains) > 0, "acme", "internal"); err != nil {
		return err
	}
	var errs []error
	seen := map[string]bool{}
	for _, word := range s.TLS.Domains {
		name, err := tlsmgr.ParseDomain(word)
		if err != nil {
			errs = append(errs, remedied("is not a list of names: "+err.Error(), "write host names and IP addresses, without https:// and without a port"))
		} else if seen[name] {
			errs = append(errs, remedied("names "+name+" twice", "leave one out: letters may be large or small"))
		}
		seen[name] = true
	}
	return errors.Join(errs...)
}

func (s *settings) checkTLSFiles() error {
	if s.TLS.Mode == "files" && len(s.TLS.Files) == 0 {
		return remedied("names no certificate, and tls.mode is files", "name pairs of files: /etc/tls/server.crt:/etc/tls/server.key")
	}
	if err := s.onlyFor(len(s.TLS.Files) > 0, "files"); err != nil {
		return err
	}
	_, err := s.TLS.pairs()
	return err
}

func (s *settings) checkHTTPListen() error {
	if s.TLS.HTTPListen == "" {
		return nil
	}
	if err := s.needsTLS(); err != nil {
		return err
	}
	for _, other := range []struct{ key, address string }{{"listen", s.Listen}, {"admin.listen", s.Admin.Listen}} {
		if s.TLS.HTTPListen == other.address && !strings.HasSuffix(other.address, ":0") {
			return remedied("is taken by "+other.key, "choose another port")
		}
	}
	return checkAddress(s.TLS.HTTPListen)
}

// pairs returns the pairs of files.
func (t *TLS) pairs() ([]tlsmgr.Pair, error) {
	var pairs []tlsmgr.Pair
	var errs []error
	for _, word := range t.Files {
		p, err := tlsmgr.ParsePair(word)
		if err != nil {
			err = remedied(fmt.Sprintf("has an entry that is no pair (%s)", word), "write CERT:KEY, or a directory with tls.crt and tls.key")
		}
		pairs, errs = append(pairs, p), append(errs, err)
	}
	return pairs, errors.Join(errs...)
}

// domains returns the names of the mode internal, which works without any.
func (t *TLS) domains() []string {
	if len(t.Domains) > 0 || t.Mode != "internal" {
		return t.Domains
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		if name, err := tlsmgr.ParseDomain(host); err == nil {
			names = append([]string{name}, names...)
		}
	}
	return names
}

func (t *TLS) minVersion() uint16 {
	if t.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}
