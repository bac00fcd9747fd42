package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// checkDirectory asks for the ACME directory (RFC 8555, section 7.1.1).
func (s *Server) checkDirectory(ctx context.Context) bool {
	a := s.cfg.ACME
	d, err := s.toward("CA ", a.Directory)
	if err != nil {
		return false // a mistake of the configuration, which is told there
	}
	defer s.leave(d)
	if len(a.Roots) > 0 {
		d.roots, d.named = s.rootsOf(a.Roots)
	}
	there := false
	s.checkWay(func() { there = d.reach(ctx) }, Fail, func(step *Step, f Finding) {
		d.found(step, ACMEDown, f.Seen, "value", oneLine(f.Seen), "url", a.Directory)
	})
	if !there {
		return false
	}
	step := d.step("directory", a.Directory)
	answer := d.get(ctx, a.Directory, nil)
	if !d.good(ctx, step, answer) {
		return false
	}
	var directory struct {
		NewOrder string `json:"newOrder"`
		Meta     struct {
			Identities []string          `json:"caaIdentities"`
			Profiles   map[string]string `json:"profiles"`
		} `json:"meta"`
	}
	if err := json.Unmarshal(answer.body, &directory); answer.status != http.StatusOK || err != nil || directory.NewOrder == "" {
		d.found(step, ACMEDirectory, answer.text+", without newOrder", "value", answer.text, "url", a.Directory)
		return false
	}
	s.identities = directory.Meta.Identities
	if len(s.identities) > 0 {
		step.saw("in CAA records it is called %s", oneLine(strings.Join(s.identities, ", ")))
	}
	if answer.offset != nil {
		step.saw("its clock is %s", ahead(*answer.offset))
		if answer.offset.Abs() > tolerance {
			s.base.clockFound(step, *answer.offset)
		}
	}
	return true
}

// checkName looks where a name leads, and whether the CA would find us there.
func (s *Server) checkName(ctx context.Context, name string) {
	a := s.cfg.ACME
	if strings.HasPrefix(name, "*.") {
		return // it has no address of its own, and needs none
	}
	step := s.base.step(name, s.nameTried())
	addrs, _, err := s.base.lookup(ctx, name)
	if err != nil {
		var dns *net.DNSError
		switch {
		case a.Port == "":
			step.saw("%v", err)
		case errors.As(err, &dns) && !dns.IsNotFound:
			s.base.found(step, nameCause(dns), err.Error(), "host", name)
		default:
			s.base.found(step, ACMENoName, err.Error(), "host", name)
		}
		return
	}
	step.saw("%s", joined(addrs))
	elsewhere := slices.DeleteFunc(slices.Clone(addrs), func(addr netip.Addr) bool { return slices.Contains(a.Local, addr) })
	if len(elsewhere) > 0 {
		s.base.found(step, ACMEElsewhere, joined(addrs), "host", name, "value", joined(elsewhere))
	}
	if a.Port == "" {
		return
	}
	if open := s.knock(ctx, step, name, addrs); len(open) > 0 {
		s.checkAnswer(ctx, step, name, open)
	}
}

func (s *Server) nameTried() string {
	if s.cfg.ACME.Port == "" {
		return "its addresses"
	}
	return "its addresses, port " + s.cfg.ACME.Port + " of each, and who answers there"
}

func joined(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

// knock tries the port of challenges at each address of a name, and returns the
// addresses at which somebody listens.
func (s *Server) knock(ctx context.Context, step *Step, name string, addrs []netip.Addr) (open []netip.Addr) {
	port := s.cfg.ACME.Port
	var last error
	closed := map[netip.Addr]error{}
	addrs = addrs[:min(len(addrs), maxAddresses)]
	errs := each(addrs, func(addr netip.Addr) error {
		conn, err := s.dial(ctx, addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
	for i, addr := range addrs {
		switch err := errs[i]; {
		case err == nil:
			open = append(open, addr)
			step.saw("%s answers on port %s", addr, port)
		case failure(err) == noRoute:
			step.saw("%s cannot be tried from here: %s", addr, shortError(err))
			last = err
		default:
			step.saw("%s, port %s: %s", addr, port, shortError(err))
			closed[addr], last = err, err
		}
	}
	switch {
	case len(open) == 0 && failure(last) == refused && s.running.wait(ctx) && s.cfg.Down != nil:
		step.saw("nobody listens, as no server is running; --probe opens the port for a moment and tries")
	case len(open) == 0:
		s.base.found(step, ACMEPort, last.Error(), "host", name, "port", port)
	default:
		for addr, err := range closed {
			s.base.found(step, ACMEAddress, addr.String()+": "+shortError(err), "host", name, "port", port, "value", addr.String())
		}
	}
	return open
}

func (s *Server) dial(ctx context.Context, addr netip.Addr) (net.Conn, error) {
	ctx, cancel := s.base.within(ctx)
	defer cancel()
	return s.base.cfg.Dial(ctx, "tcp", net.JoinHostPort(addr.String(), s.cfg.ACME.Port))
}

// nameServers returns the servers that are asked for what only DNS knows.
func (s *Server) nameServers() []string {
	if len(s.cfg.ACME.Resolvers) > 0 {
		return s.cfg.ACME.Resolvers
	}
	var servers []string
	data, err := s.base.cfg.readFile(resolvConf)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "nameserver" {
			servers = append(servers, net.JoinHostPort(words[1], "53"))
		}
	}
	return servers
}

func (s *Server) dns() *dns { return &dns{s.base.cfg.Dial, s.base.cfg.Timeout / 2} }

// checkCAA looks whether the zone lets the CA sign for a name.
func (s *Server) checkCAA(ctx context.Context, name string) {
	host := strings.TrimPrefix(name, "*.")
	if _, err := netip.ParseAddr(host); err == nil {
		return
	}
	step := s.base.step(name, "CAA records, of it and of the names above it")
	at, records, err := s.dns().caaOf(ctx, s.nameServers(), host)
	if !s.directory.wait(ctx) {
		return // what the CA is called there
	}
	switch {
	case errors.Is(err, errNoServer):
		step.Verdict = Skip
		step.saw("%v: tls.dns_resolvers names some", err)
		return
	case err != nil && (len(s.identities) == 0 || at != host && errors.Is(err, errRefused)):
		step.saw("%v", err) // name servers of the zone alone know nothing of what is above it
		return
	case err != nil:
		s.base.found(step, CAAFails, err.Error(), "host", name, "value", at)
		return
	case len(records) == 0:
		step.saw("none: every CA may sign")
		return
	}
	for _, r := range records {
		step.saw("%s: %s", at, oneLine(r.String()))
	}
	if len(s.identities) == 0 {
		step.saw("the CA does not say what it is called in them, as one that does not look at them")
		return
	}
	asks := asker{s.identities, s.cfg.ACME.Challenge, s.account}
	if why := asks.forbids(records, host != name); why != "" {
		s.base.found(step, CAAForbids, fmt.Sprintf("at %s: %s", at, oneLine(why)), "host", name, "value", at, "url", s.identities[0])
	}
}
