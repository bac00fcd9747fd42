//go:build !googleclouddns

package tlsmgr

// moreDNSProviders are those that only a build with their tag has.
func moreDNSProviders() map[string]dnsProvider { return nil }
