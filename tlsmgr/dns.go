package tlsmgr

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/acmedns"
	"github.com/libdns/alidns"
	"github.com/libdns/azure"
	"github.com/libdns/cloudflare"
	"github.com/libdns/digitalocean"
	"github.com/libdns/rfc2136"
	"github.com/libdns/route53"
	"github.com/libdns/tencentcloud"
	"github.com/mholt/acmez/v3"
)

// DNSConfig says who makes the records of the challenge dns-01.
type DNSConfig struct {
	// Provider is a name of DNSProviders.
	Provider string
	// Settings are those of the provider. For all but exec there is also
	// override_domain: make the record there, because a CNAME leads from
	// _acme-challenge to it.
	Settings map[string]string
	// Resolvers (host:port) are asked for the zone and whether the record can
	// be seen. Default: those of the system, and the zone's own servers. Name
	// them where the zone is seen inside the house alone.
	Resolvers []string
	// Logger may be nil.
	Logger *slog.Logger
}

// dnsProvider is how one kind of DNS server is spoken to.
type dnsProvider struct {
	required, optional []string // names of settings
	make               func(settings map[string]string) certmagic.DNSProvider
}

// execProvider is a program of the user instead of a provider.
const execProvider = "exec"

func dnsProviders() map[string]dnsProvider {
	type settings = map[string]string
	all := map[string]dnsProvider{
		"rfc2136": {[]string{"server", "key_name", "key"}, []string{"key_alg"}, func(s settings) certmagic.DNSProvider {
			if s["key_alg"] == "" {
				s["key_alg"] = "hmac-sha256"
			}
			return &rfc2136.Provider{Server: s["server"], KeyName: s["key_name"], Key: s["key"], KeyAlg: s["key_alg"]}
		}},
		"cloudflare": {[]string{"api_token"}, []string{"zone_token"}, func(s settings) certmagic.DNSProvider {
			return &cloudflare.Provider{APIToken: s["api_token"], ZoneToken: s["zone_token"]}
		}},
		"route53": {nil, []string{"access_key_id", "secret_access_key", "session_token", "region", "profile", "hosted_zone_id"}, func(s settings) certmagic.DNSProvider {
			return &route53.Provider{AccessKeyId: s["access_key_id"], SecretAccessKey: s["secret_access_key"], SessionToken: s["session_token"], Region: s["region"], Profile: s["profile"], HostedZoneID: s["hosted_zone_id"]}
		}},
		"acmedns": {[]string{"server_url", "username", "password", "subdomain"}, nil, func(s settings) certmagic.DNSProvider {
			return &acmedns.Provider{ServerURL: s["server_url"], Username: s["username"], Password: s["password"], Subdomain: s["subdomain"]}
		}},
		"alidns": {[]string{"access_key_id", "access_key_secret"}, []string{"region_id", "security_token"}, func(s settings) certmagic.DNSProvider {
			return &alidns.Provider{CredentialInfo: alidns.CredentialInfo{AccessKeyID: s["access_key_id"], AccessKeySecret: s["access_key_secret"], RegionID: s["region_id"], SecurityToken: s["security_token"]}}
		}},
		"tencentcloud": {[]string{"secret_id", "secret_key"}, []string{"session_token", "region"}, func(s settings) certmagic.DNSProvider {
			return &tencentcloud.Provider{SecretId: s["secret_id"], SecretKey: s["secret_key"], SessionToken: s["session_token"], Region: s["region"]}
		}},
		"digitalocean": {[]string{"auth_token"}, nil, func(s settings) certmagic.DNSProvider {
			return &digitalocean.Provider{APIToken: s["auth_token"]}
		}},
		"azure": {[]string{"subscription_id", "resource_group_name"}, []string{"tenant_id", "client_id", "client_secret"}, func(s settings) certmagic.DNSProvider {
			return &azure.Provider{SubscriptionId: s["subscription_id"], ResourceGroupName: s["resource_group_name"], TenantId: s["tenant_id"], ClientId: s["client_id"], ClientSecret: s["client_secret"]}
		}},
		execProvider: {[]string{"command"}, nil, nil},
	}
	maps.Copy(all, moreDNSProviders())
	return all
}

// DNSProviders returns the names of the providers that this program has.
func DNSProviders() []string { return slices.Sorted(maps.Keys(dnsProviders())) }

// tsigAlgorithms are those that the library can sign with.
func tsigAlgorithms() []string {
	return []string{"hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"}
}

// checkRFC2136 looks at what the library would find out in the middle of an
// order alone. Its errors show no key.
func checkRFC2136(settings map[string]string) error {
	var errs []error
	if host, port, err := net.SplitHostPort(settings["server"]); err != nil || host == "" || port == "" {
		errs = append(errs, fmt.Errorf("the setting server of rfc2136 is %q, and not host:port", settings["server"]))
	}
	if _, err := base64.StdEncoding.DecodeString(settings["key"]); err != nil {
		errs = append(errs, errors.New("the setting key of rfc2136 is not base64, as tsig-keygen prints it"))
	}
	if a := settings["key_alg"]; a != "" && !slices.Contains(tsigAlgorithms(), strings.ToLower(strings.TrimSuffix(a, "."))) {
		errs = append(errs, fmt.Errorf("the setting key_alg of rfc2136 is %q, and not one of %s", a, strings.Join(tsigAlgorithms(), ", ")))
	}
	return errors.Join(errs...)
}

// NewDNS returns what makes the records of the challenge dns-01. It checks the
// names of the settings, and asks nobody.
func NewDNS(c DNSConfig) (acmez.Solver, error) {
	p, ok := dnsProviders()[c.Provider]
	if !ok && c.Provider == "googleclouddns" {
		return nil, errors.New("the DNS provider googleclouddns is in programs built with its tag alone (go build -tags googleclouddns)")
	}
	if !ok {
		return nil, fmt.Errorf("the DNS provider %q is not one of %s", c.Provider, strings.Join(DNSProviders(), ", "))
	}
	known := append(slices.Clone(p.required), p.optional...)
	if c.Provider != execProvider {
		known = append(known, "override_domain")
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Settings)) {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("the DNS provider %s has no setting %q, but %s", c.Provider, name, strings.Join(known, ", ")))
		}
	}
	for _, name := range p.required {
		if c.Settings[name] == "" {
			errs = append(errs, fmt.Errorf("the DNS provider %s needs the setting %s", c.Provider, name))
		}
	}
	if c.Provider == "rfc2136" && len(errs) == 0 {
		errs = append(errs, checkRFC2136(c.Settings))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if c.Provider == execProvider {
		return &execSolver{c.Settings["command"], execPatience, execCleanup}, nil
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
		DNSProvider: p.make(maps.Clone(c.Settings)), Resolvers: c.Resolvers, OverrideDomain: c.Settings["override_domain"], Logger: zapLogger(c.Logger),
	}}, nil
}
