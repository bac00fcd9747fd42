package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

// prefixes of addresses that embed an IPv4 address in their last or middle
// bytes: the embedded one is judged, too.
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
)

// internal are the ranges, besides those that net/netip knows, which a name
// from outside must not lead to.
var internal = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT, RFC 6598
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks, RFC 2544
	netip.MustParsePrefix("192.0.0.0/24"),    // IETF protocols, RFC 6890
	netip.MustParsePrefix("64:ff9b:1::/48"),  // local NAT64
	netip.MustParsePrefix("fec0::/10"),       // site-local, RFC 3879
	netip.MustParsePrefix("2001:db8::/32"),   // documentation, RFC 3849
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation, RFC 5737
	netip.MustParsePrefix("198.51.100.0/24"), // documentation, RFC 5737
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation, RFC 5737
}

// never are addresses that no configuration makes a good target.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("240.0.0.0/4"), // reserved and broadcast
}

// embedded returns the address that a gateway would really connect to.
func embedded(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	b := a.As16()
	switch {
	case !a.Is6():
	case nat64.Contains(a), nat64Local.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7]|b[8]|b[9]|b[10]|b[11] == 0 && !a.IsLoopback() && !a.IsUnspecified():
		return netip.AddrFrom4([4]byte(b[12:16])) // IPv4-compatible, RFC 4291 2.5.5.1
	}
	return a
}

// addressRules say which addresses a host name may lead to.
type addressRules struct {
	named    []string       // patterns of hosts that the configuration names: private ranges are theirs
	networks []netip.Prefix // ranges that the configuration opens to every host
}

// allow says why host must not be reached at a; nil if it may. Ranges of a
// company belong to hosts that the configuration names; those of this machine
// and its link only to who names the network, because a name can be made to
// resolve to anything.
func (r *addressRules) allow(host string, a netip.Addr) error {
	outer := a.Unmap().WithZone("")
	for _, a := range []netip.Addr{outer, embedded(a)} {
		in := func(p netip.Prefix) bool { return p.Contains(a) }
		switch {
		case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), slices.ContainsFunc(never, in):
			return fmt.Errorf("address %v: nothing is fetched from there", a)
		case slices.ContainsFunc(r.networks, in):
		case a.IsLoopback(), a.IsLinkLocalUnicast():
			return fmt.Errorf("address %v is of this machine or its link; to allow it, add it under networks in the file of direct.file (docs/private.md)", a)
		case (a.IsPrivate() || slices.ContainsFunc(internal, in)) && !r.names(host):
			return fmt.Errorf("address %v is internal, and neither a private pattern nor a rule names the host %s; to allow it, add the address under networks in the file of direct.file (docs/private.md)", a, host)
		}
	}
	return nil
}

// codeHosts are public hosts of repositories, whose names resolve to nothing
// inside wherever they are resolved.
var codeHosts = []string{"github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "git.sr.ht", "gitea.com", "go.googlesource.com"}

// allowUnresolved says why host must not be reached through an HTTP proxy,
// which resolves it where nothing can be judged: only hosts that are known are
// sent there, and none whose name means an address or the proxy's machine.
func (r *addressRules) allowUnresolved(host string) error {
	known := r.names(host)
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if a, err := netip.ParseAddr(host); err == nil {
		if err := r.allow(host, a); err != nil {
			return err
		}
		known = known || slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	} else if isNumber(last) {
		return errors.New("it is an address in a form that only some programs understand") // inet_aton(3)
	}
	switch {
	case last == "localhost", host == "ip6-localhost", host == "ip6-loopback":
		return errors.New("it means the machine of the HTTP proxy")
	case !known && !slices.Contains(codeHosts, host):
		return errors.New("the HTTP proxy would resolve it, so its address cannot be judged; to allow it, name the host in a private pattern, or under repositories or credentials in the file of direct.file (docs/private.md)")
	}
	return nil
}

// isNumber reports whether the last label of a name makes the whole an IPv4
// address (https://url.spec.whatwg.org/#ends-in-a-number-checker).
func isNumber(label string) bool {
	hex, ok := strings.CutPrefix(label, "0x")
	if ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// names reports whether the configuration names host.
func (r *addressRules) names(host string) bool {
	host = strings.ToLower(host)
	return slices.ContainsFunc(r.named, func(pattern string) bool {
		ok, err := path.Match(pattern, host)
		return ok && err == nil
	})
}

// dial connects to address if the rules allow it. The name is resolved here
// and the connection goes to what was judged, so that a second answer of the
// resolver changes nothing.
func (d *Direct) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, tooSlow("no connection in time"))
	defer cancel()
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = d.cfg.Lookup(ctx, host); err != nil {
		return nil, err
	}
	rules := d.current().addresses
	refused := fmt.Errorf("no address of %s", host)
	var failed error
	for _, a := range addrs {
		if err := rules.allow(host, a); err != nil {
			refused = err
			continue
		}
		// One address that swallows packets must not use up the time of the rest.
		ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout/time.Duration(len(addrs)), tooSlow("no connection in time"))
		c, err := d.cfg.Dial(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		cancel()
		if err == nil {
			return c, nil
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return nil, failed
	}
	return nil, troubled(forbidden, nil, "%s is refused: %v", host, refused)
}
