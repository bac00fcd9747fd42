package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/modgate/modgate/tlsmgr"
)

// alpnACME is the protocol of the challenge tls-alpn-01 (RFC 8737).
const alpnACME = "acme-tls/1"

// checkAnswer looks who answers where the CA comes to. Nothing is placed there
// for it: the server tells by itself who it is.
func (s *Server) checkAnswer(ctx context.Context, step *Step, name string, addrs []netip.Addr) {
	if s.cfg.ACME.Challenge == tlsmgr.TLSALPN01 {
		answers := each(addrs, func(addr netip.Addr) alpnAnswer { return s.askALPN(ctx, name, addr) })
		for i, addr := range addrs {
			if s.certificates.wait(ctx) { // what is compared
				s.checkALPN(step, name, addr, answers[i])
			}
		}
		return
	}
	answers := each(addrs, func(addr netip.Addr) httpAnswer {
		text, err := s.fetchChallenge(ctx, name, addr, tlsmgr.InstancePath)
		return httpAnswer{text, err}
	})
	for i, addr := range addrs {
		if s.running.wait(ctx) { // who it is
			s.checkHTTP(step, name, addr, answers[i])
		}
	}
}

// httpAnswer is what came where a challenge http-01 would be.
type httpAnswer struct {
	text string
	err  error
}

// checkHTTP judges what a server with http-01 says of itself.
func (s *Server) checkHTTP(step *Step, name string, addr netip.Addr, a httpAnswer) {
	text, err := a.text, a.err
	instance := s.cfg.ACME.Instance
	switch {
	case err != nil:
		s.stranger(step, name, addr, shortError(err))
	case !strings.HasPrefix(text, "modgate "):
		s.stranger(step, name, addr, oneLine(text))
	case instance == "":
		step.saw("%s: a modgate answers there", addr)
	case text == instance:
		step.saw("%s: this server answers there", addr)
	default:
		step.saw("%s: another process of modgate answers there, which is right if it has the same tls.storage", addr)
	}
}

// stranger notes that something else than modgate answers.
func (s *Server) stranger(step *Step, name string, addr netip.Addr, seen string) {
	s.base.found(step, ACMEStranger, fmt.Sprintf("%s, port %s: %s", addr, s.cfg.ACME.Port, seen), "host", name, "port", s.cfg.ACME.Port, "value", seen)
}

// fetchChallenge fetches a path from an address as a CA does: by plain HTTP. It
// follows no redirects: from modgate there are none there.
func (s *Server) fetchChallenge(ctx context.Context, name string, addr netip.Addr, path string) (string, error) {
	ctx, cancel := s.base.within(ctx)
	defer cancel()
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, addr) }}
	defer t.CloseIdleConnections()
	host := name
	if s.cfg.ACME.Port != "80" {
		host = net.JoinHostPort(name, s.cfg.ACME.Port)
	} else if strings.Contains(name, ":") {
		host = "[" + name + "]"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", agent)
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		text := resp.Status
		if to := resp.Header.Get("Location"); to != "" {
			text += ", to " + hidePasswords(to)
		}
		return "", errors.New(oneLine(text))
	}
	return strings.TrimSpace(string(body)), nil
}

// alpnAnswer is what came of two handshakes: as a client does it, and as a CA
// with tls-alpn-01.
type alpnAnswer struct {
	leaf     *x509.Certificate // nil: the first has failed
	protocol string
	err      error // of the second
}

func (s *Server) askALPN(ctx context.Context, name string, addr netip.Addr) alpnAnswer {
	var a alpnAnswer
	if state, err := s.handshake(ctx, name, addr, "h2", "http/1.1"); err == nil {
		a.leaf = state.PeerCertificates[0]
	} else if isTimeout(err) {
		a.err = err // it would be no other
		return a
	}
	state, err := s.handshake(ctx, askedBy(name), addr, alpnACME)
	a.protocol, a.err = state.NegotiatedProtocol, err
	return a
}

// checkALPN compares the certificate that is sent with those that we know, and
// looks whether TLS ends at somebody who knows the challenge.
func (s *Server) checkALPN(step *Step, name string, addr netip.Addr, a alpnAnswer) {
	if leaf := a.leaf; leaf != nil {
		if s.stored == nil && len(s.cfg.Certificates) == 0 {
			step.saw("%s: a certificate issued by %s comes; whether it is ours cannot be told", addr, leaf.Issuer)
			return
		}
		known := slices.ContainsFunc(s.cfg.Certificates, func(c tlsmgr.Status) bool { return c.Serial == fmt.Sprintf("%x", leaf.SerialNumber) })
		if !known {
			s.stranger(step, name, addr, "a certificate for "+names(leaf)+", issued by "+leaf.Issuer.String())
			return
		}
		step.saw("%s: the certificate of this server comes", addr)
	}
	err := a.err
	alert := func(text string) bool { return err != nil && strings.Contains(err.Error(), "remote error: tls: "+text) } // alerts of the other side have no type
	switch {
	case err == nil && a.protocol == alpnACME:
		step.saw("%s: %s is spoken there", addr, alpnACME)
	case err == nil:
		s.base.found(step, ACMEALPN, fmt.Sprintf("%s, port %s: the handshake goes on without %s", addr, s.cfg.ACME.Port, alpnACME), "host", name, "port", s.cfg.ACME.Port)
	case alert("no application protocol"):
		s.base.found(step, ACMEALPN, fmt.Sprintf("%s, port %s: %v", addr, s.cfg.ACME.Port, err), "host", name, "port", s.cfg.ACME.Port)
	case alert(""):
		// A server that knows the protocol and has no challenge to answer.
		step.saw("%s: %s is known there", addr, alpnACME)
	default:
		s.stranger(step, name, addr, shortError(err))
	}
}

// askedBy returns by what name a CA asks for the answer of tls-alpn-01.
func askedBy(name string) string { return (&tlsmgr.Trial{Host: name}).ServerName() }

// handshake does one with an address by name, offering the protocols. Nothing is
// verified.
func (s *Server) handshake(ctx context.Context, name string, addr netip.Addr, protocols ...string) (tls.ConnectionState, error) {
	raw, err := s.dial(ctx, addr)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer raw.Close()
	ctx, cancel := s.base.within(ctx)
	defer cancel()
	c := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protocols})
	err = c.HandshakeContext(ctx)
	return c.ConnectionState(), err
}
