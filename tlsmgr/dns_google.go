//go:build googleclouddns

package tlsmgr

import (
	"github.com/caddyserver/certmagic"
	"github.com/libdns/googleclouddns"
)

// moreDNSProviders are those that only a build with their tag has: they bring
// as much with them as all else together.
func moreDNSProviders() map[string]dnsProvider {
	return map[string]dnsProvider{
		"googleclouddns": {[]string{"gcp_project"}, []string{"gcp_application_default"}, func(s map[string]string) certmagic.DNSProvider {
			return &googleclouddns.Provider{Project: s["gcp_project"], ServiceAccountJSON: s["gcp_application_default"]}
		}},
	}
}
