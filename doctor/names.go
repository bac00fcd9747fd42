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

const resolvConf = "/etc/resolv.conf"

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
		d.nameFailed(s, servers, err)
		return false
	}
	d.addrs = addrs
	for _, network := range []string{"IPv4", "IPv6"} {
		var of []string
		for _, a := range addrs {
			if a.Is4() == (network == "IPv4") {
				of = append(of, a.String())
			}
		}
		if len(of) > 0 {
			s.saw("%s: %s", network, strings.Join(of, ", "))
		}
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
	addrs, err := d.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	took := since(start)
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	return addrs, took, err
}

// describeResolver says who is asked, and returns the name servers. Elsewhere
// than on Linux the system answers, and there are none to see: nil.
func (d *Doctor) describeResolver(s *Step) []string {
	if d.cfg.OS == "darwin" || d.cfg.OS == "windows" {
		s.saw("the system's resolver answers")
		return nil
	}
	how := "Go's own resolver: the go command was built without cgo"
	switch mode := netdns(d.cfg.env("GODEBUG")); {
	case mode == "cgo" && d.settings.cgo:
		how = "the C library, by GODEBUG=netdns=cgo"
	case mode != "":
		how = "Go's own resolver, GODEBUG=netdns=" + mode
	case d.settings.cgo:
		how = "Go's own resolver, or the C library where nsswitch.conf or resolv.conf ask for what Go does not know"
	case d.settings.goroot == "":
		how = "Go's own resolver"
	}
	s.saw("%s", how)
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

// netdns returns the value of that setting of GODEBUG.
func netdns(debug string) string {
	for entry := range strings.SplitSeq(debug, ",") {
		if value, ok := strings.CutPrefix(entry, "netdns="); ok {
			return value
		}
	}
	return ""
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
