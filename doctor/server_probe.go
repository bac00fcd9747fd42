package doctor

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/modgate/modgate/tlsmgr"
)

// rehearse does what is done on request alone: it answers a made-up challenge,
// and orders from a CA for trials.
func (s *Server) rehearse(ctx context.Context) {
	a := s.cfg.ACME
	if s.cfg.Keeper == nil || !a.Probe && a.Staging == "" {
		return
	}
	if s.foreign != "" {
		step := s.base.step("rehearsal", "what --probe and --staging ask for")
		step.Verdict = Skip
		step.saw("not done: what another user makes in the storage the server cannot read or replace; run doctor as %s", s.foreign)
		return
	}
	for _, name := range a.Names {
		if a.Probe && a.Challenge != tlsmgr.DNS01 {
			s.probe(ctx, name)
		}
		if a.Staging != "" {
			s.dryRun(ctx, name)
		}
	}
}

// probe answers a made-up challenge, and looks for the answer where a CA would.
func (s *Server) probe(ctx context.Context, name string) {
	a := s.cfg.ACME
	step := s.base.step(name, "the answer to a made-up challenge "+a.Challenge+", by name, on port "+a.Port)
	addrs, _, err := s.base.lookup(ctx, name)
	if err != nil {
		step.Verdict = Skip // found by checkName
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.base.cfg.Patience)
	defer cancel()
	trial, err := s.cfg.Keeper.Try(ctx, name)
	if err != nil {
		s.base.found(step, ProbeFails, err.Error(), "host", name, "port", a.Port, "value", oneLine(err.Error()))
		return
	}
	if trial.Listening {
		step.saw("no server listens there; doctor did, for a moment")
	}
	for _, addr := range addrs[:min(len(addrs), maxAddresses)] {
		start := time.Now()
		err := s.seen(ctx, name, addr, trial)
		switch {
		case err == nil:
			step.saw("%s: the answer arrives in %v", addr, since(start))
		case failure(err) == noRoute:
			step.saw("%s cannot be tried from here: %s", addr, shortError(err))
		default:
			s.base.found(step, ProbeFails, addr.String()+": "+shortError(err), "host", name, "port", a.Port, "value", oneLine(shortError(err)))
		}
	}
	s.takeBack(ctx, step, name, trial)
}

// takeBack ends a trial.
func (s *Server) takeBack(ctx context.Context, step *Step, name string, trial *tlsmgr.Trial) {
	if err := trial.Close(ctx); err != nil {
		s.base.found(step, ProbeLeft, err.Error(), "host", name, "value", oneLine(err.Error()))
		return
	}
	step.saw("taken back")
}

// seen looks for the answer of a trial at an address.
func (s *Server) seen(ctx context.Context, name string, addr netip.Addr, trial *tlsmgr.Trial) error {
	if s.cfg.ACME.Challenge == tlsmgr.HTTP01 {
		text, err := s.fetchChallenge(ctx, name, addr, "/.well-known/acme-challenge/"+trial.Token)
		if err == nil && text != trial.Answer {
			err = fmt.Errorf("another answer comes: %s", oneLine(text))
		}
		return err
	}
	state, err := s.handshake(ctx, trial.ServerName(), addr, alpnACME)
	switch {
	case err != nil:
		return err
	case state.NegotiatedProtocol != alpnACME:
		return errors.New("the handshake goes on without " + alpnACME)
	case !answers(state.PeerCertificates[0], trial.Answer):
		return errors.New("another certificate comes, for " + names(state.PeerCertificates[0]))
	}
	return nil
}

// answers reports whether a certificate is the answer of tls-alpn-01: it has the
// digest of the key authorization in the extension id-pe-acmeIdentifier (RFC
// 8737, 3).
func answers(c *x509.Certificate, authorization string) bool {
	digest := sha256.Sum256([]byte(authorization))
	for _, e := range c.Extensions {
		var value []byte
		if !e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &value); err == nil && string(value) == string(digest[:]) {
			return true
		}
	}
	return false
}

// dryRun orders from the CA for trials.
func (s *Server) dryRun(ctx context.Context, name string) {
	a := s.cfg.ACME
	step := s.base.step(name, "an order at "+a.Staging+", which is thrown away")
	start := time.Now()
	chain, err := s.cfg.Keeper.DryRun(ctx, a.Staging, name)
	var problem *tlsmgr.Problem
	switch {
	case errors.As(err, &problem):
		title, seen := problemText(problem)
		s.base.found(step, StagingFails, seen, "host", name, "value", title, "advice", oneLine(problem.Advice))
	case err != nil:
		s.base.found(step, StagingFails, err.Error(), "host", name, "value", oneLine(err.Error()))
	default:
		step.saw("a certificate came in %v, issued by %s; the account and the certificates of the server are as they were", since(start), chain[0].Issuer)
	}
}

// propagation is how long a record may take until all servers have it, in units
// of Config.Patience.
const propagation = 4

// checkRecord looks whether a record for dns-01 can be made and seen.
func (s *Server) checkRecord(ctx context.Context, name string) {
	a := s.cfg.ACME
	host := strings.TrimPrefix(name, "*.")
	if a.Challenge != tlsmgr.DNS01 {
		return
	}
	step := s.base.step(name, "the zone of _acme-challenge."+host+", and its name servers")
	servers, err := s.authorities(ctx, step, "_acme-challenge."+host)
	switch {
	case errors.Is(err, errNoServer):
		step.Verdict = Skip
		step.saw("%v: tls.dns_resolvers names some", err)
		return
	case err != nil:
		s.base.found(step, ZoneMissing, err.Error(), "host", name, "value", oneLine(err.Error()))
		return
	}
	if !a.Probe || s.cfg.Keeper == nil || s.foreign != "" {
		step.saw("--probe makes a record there, looks for it and removes it")
		return
	}
	step = s.base.step(name, "a TXT record at _acme-challenge."+host+", made by the provider")
	start := time.Now()
	trial, err := s.cfg.Keeper.Try(ctx, name)
	if err != nil {
		s.base.found(step, RecordRefused, err.Error(), "host", name, "value", oneLine(err.Error()))
		return
	}
	step.saw("made in %v", since(start))
	s.awaitRecord(ctx, step, trial, servers, true)
	s.takeBack(ctx, step, name, trial)
	s.awaitRecord(ctx, step, trial, servers, false)
}

// authorities returns the servers, host:port, that have the record: those of its
// zone, or the configured resolvers where the zone is seen by them alone.
func (s *Server) authorities(ctx context.Context, step *Step, record string) ([]string, error) {
	q, resolvers := s.dns(), s.nameServers()
	at, err := q.alias(ctx, resolvers, record)
	if err != nil {
		return nil, err
	}
	if at != record {
		step.saw("an alias (CNAME) leads to %s", at)
	}
	zone, names, err := q.zone(ctx, resolvers, at)
	if err != nil {
		return nil, err
	}
	step.saw("zone %s, name servers %s", zone, strings.Join(names, ", "))
	if len(s.cfg.ACME.Resolvers) > 0 {
		return resolvers, nil
	}
	var servers []string
	type found struct {
		addrs []netip.Addr
		err   error
	}
	for i, f := range each(names, func(name string) found {
		addrs, _, err := s.base.lookup(ctx, name)
		return found{addrs, err}
	}) {
		if f.err != nil {
			step.saw("%s: %s", names[i], shortError(f.err))
			continue
		}
		servers = append(servers, netip.AddrPortFrom(f.addrs[0], 53).String())
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("no name server of %s has an address", zone)
	}
	return servers, nil
}

// awaitRecord waits until all servers have the record of a trial, or none.
func (s *Server) awaitRecord(ctx context.Context, step *Step, trial *tlsmgr.Trial, servers []string, there bool) {
	start := time.Now()
	word := map[bool]string{true: "has it", false: "has it no more"}[there]
	for _, server := range servers {
		err := s.awaitAt(ctx, trial, server, there, start.Add(propagation*s.base.cfg.Patience))
		switch {
		case err == nil:
			step.saw("%s %s after %v", server, word, since(start))
		case there:
			s.base.found(step, RecordUnseen, err.Error(), "host", trial.Host, "value", server)
		default:
			s.base.found(step, ProbeLeft, err.Error(), "host", trial.Host, "value", "the record is still at "+server)
		}
	}
}

func (s *Server) awaitAt(ctx context.Context, trial *tlsmgr.Trial, server string, there bool, until time.Time) error {
	q := s.dns()
	for {
		found, err := q.hasText(ctx, server, trial.Record, trial.Value)
		if err == nil && found == there {
			return nil
		}
		if time.Now().After(until) {
			if err == nil {
				err = fmt.Errorf("%s: the record is not as it was made after %v", server, propagation*s.base.cfg.Patience)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.base.cfg.Patience / 30):
		}
	}
}
