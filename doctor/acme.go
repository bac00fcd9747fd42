package doctor

import (
	"net/netip"
)

// ACME is where certificates come from, and how a CA finds us.
type ACME struct {
	Directory string
	Roots     []string // files of authorities that alone are trusted for the CA
	Names     []string // as they are configured, wildcards too
	// Challenge is tlsmgr.HTTP01, TLSALPN01 or DNS01.
	Challenge string
	Port      string // to which the CA comes: 80 or 443; "" with dns-01
	// Local are the addresses of this machine.
	Local []netip.Addr
	// Resolvers (host:port) are asked for CAA, SOA and TXT records. Default:
	// those of resolv.conf.
	Resolvers []string
	// Instance is what the running server answers at tlsmgr.InstancePath. Empty:
	// not known.
	Instance string
	// Probe allows to answer a made-up challenge for a moment: a file, a
	// certificate or a DNS record, which is taken back.
	Probe bool
	// Staging is the URL of the directory of a CA for trials, from which a
	// certificate for each name is ordered and thrown away. Empty: none is.
	Staging string
}
