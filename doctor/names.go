package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// resolve finds the addresses of the target.
func (d *Doctor) resolve(ctx context.Context) bool {
	host := d.target.Hostname()
	s := d.step("name", "the addresses of "+host)
	if addr, err := netip.ParseAddr(host); err == nil {
		d.addrs = []netip.Addr{addr}
		s.saw("it is an address")
		return true
	}
	servers := d.describeResolver(s)
	addrs, took, err := d.lookup(ctx, host)
	d.speed.name = took
	if err != nil {
		if !d.systemFinds(ctx, s, host) {
			d.nameFailed(s, servers, err)
		}
		return false
	}
	d.addrs = addrs
	for _, network := range []string{"IPv4", "IPv6"} {
		var of []string
		for _, a := range addrs {
			if family(a) == network {
				of = append(of, a.String())
			}
		}
		if len(of) > 0 {
			s.saw("%s: %s", network, strings.Join(of, ", "))
		}
	}
	if len(addrs) > 1 && addrs[0].Is4() != addrs[len(addrs)-1].Is4() {
		s.saw("the go command tries %s first, and the others 300 ms later", family(addrs[0])) // RFC 8305, as net.Dialer does it
	}
	if took > time.Second {
		d.found(s, DNSSlow, fmt.Sprintf("%v for %s", took, host), "value", took.String())
	}
	return true
}

// lookup asks for the addresses of host.
func (d *Doctor) lookup(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, 0, nil
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	start := time.Now()
	asked := d.cfg.Resolver
	if d.bySystem {
		asked = d.cfg.System
	}
	addrs, err := asked.LookupNetIP(ctx, "ip", host)
	took := since(start)
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	return addrs, took, err
}

// describeResolver says who is asked, and returns the name servers. Where the
// system answers there may be none to see: nil.
func (d *Doctor) describeResolver(s *Step) []string {
	r := d.chooseResolver(d.target.Hostname())
	d.bySystem = r.system && d.cfg.System != nil
	who := "Go's own resolver"
	if r.system {
		who = "the system's resolver"
	}
	s.saw("%s answers the go command: %s", who, r.why)
	if r.system && !d.bySystem {
		s.saw("this program cannot ask it, and asks Go's own")
	}
	if len(r.unasked) > 0 {
		s.saw("not asked: %s (%s)", strings.Join(r.unasked, ", "), nsswitchConf)
	}
	if d.cfg.OS == "darwin" || d.cfg.OS == "windows" {
		return nil
	}
	servers := []string{}
	data, err := d.cfg.readFile(resolvConf)
	if err != nil {
		s.saw("%s cannot be read", resolvConf)
		return servers
	}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case words[0] == "nameserver":
			servers = append(servers, words[1])
		case words[0] == "search" || words[0] == "domain":
			s.saw("search domains: %s", strings.Join(words[1:], " "))
		}
	}
	s.saw("name servers: %s", strings.Join(servers, ", "))
	return servers
}

// family names the family of an address.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// systemFinds reports whether the system knows a name that Go's own resolver
// does not, and notes it.
func (d *Doctor) systemFinds(ctx context.Context, s *Step, host string) bool {
	if d.bySystem || d.cfg.System == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout/2)
	defer cancel()
	addrs, err := d.cfg.System.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return false
	}
	d.found(s, DNSSystemOnly, "the system says "+addrs[0].Unmap().String()+"; sources in "+nsswitchConf+": "+strings.Join(d.nsswitch(), ", "))
	return true
}

// nameFailed finds out why there are no addresses.
func (d *Doctor) nameFailed(s *Step, servers []string, err error) {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		dns = &net.DNSError{Err: err.Error(), IsTimeout: errors.Is(err, context.DeadlineExceeded)}
	}
	if servers != nil && len(servers) == 0 && !dns.IsNotFound {
		d.found(s, DNSNoServer, err.Error(), "file", resolvConf)
		return
	}
	d.found(s, nameCause(dns), err.Error())
}

// first puts addr at the front of the addresses.
func (d *Doctor) first(addr netip.Addr) {
	d.addrs = append([]netip.Addr{addr}, slices.DeleteFunc(d.addrs, func(a netip.Addr) bool { return a == addr })...)
}
