package tlsmgr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// Problem says why no certificate was obtained, for people and machines. It is
// an error.
type Problem struct {
	// Type is that of the ACME problem, without its prefix: "connection",
	// "rateLimited". Empty if the CA has told none.
	Type string `json:"type,omitempty"`
	// Status is the CA's HTTP status, or 0.
	Status int `json:"status,omitempty"`
	// Detail is what the CA says, else the error.
	Detail string `json:"detail"`
	// Identifier is the name that a part of a problem is about.
	Identifier string `json:"identifier,omitempty"`
	// Subproblems are the parts (RFC 8555, 6.7.1).
	Subproblems []Problem `json:"subproblems,omitempty"`
	// Challenges are what the CA has recorded of each challenge.
	Challenges []ChallengeState `json:"challenges,omitempty"`
	// Advice says what to do. Empty if there is nothing to say.
	Advice string `json:"advice,omitempty"`
}

// ChallengeState is one challenge as the CA sees it.
type ChallengeState struct {
	Type   string `json:"type"`
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// String returns the problem in a line, with the advice.
func (p *Problem) String() string {
	if p == nil {
		return ""
	}
	if p.Advice == "" {
		return p.Told()
	}
	return p.Told() + " → " + p.Advice
}

// Told returns the problem in a line, without the advice.
func (p *Problem) Told() string {
	var b strings.Builder
	if p.Type != "" {
		fmt.Fprintf(&b, "%s: ", p.Type)
	}
	b.WriteString(p.Detail)
	for _, sub := range p.Subproblems {
		fmt.Fprintf(&b, "; %s: %s: %s", sub.Identifier, sub.Type, sub.Detail)
	}
	for _, c := range p.Challenges {
		if c.Error != "" && !strings.Contains(p.Detail, c.Error) {
			fmt.Fprintf(&b, "; %s %s: %s", c.Type, c.Status, c.Error)
		}
	}
	return b.String()
}

// Error is String.
func (p *Problem) Error() string { return p.String() }

// newProblem reads what err tells.
func newProblem(err error) *Problem {
	p := &Problem{Detail: firstLine(withoutContact(err.Error()))}
	var told acme.Problem
	if !errors.As(err, &told) {
		return p
	}
	*p = fromACME(told)
	if authz, ok := told.Resource.(acme.Authorization); ok {
		p.Challenges = challengeStates(authz)
	}
	return p
}

// withoutContact takes out the list of contacts that certmagic puts into its
// errors; ours is empty unless tls.email is set.
func withoutContact(text string) string {
	return strings.ReplaceAll(text, "registering account [] with server", "registering an account")
}

func fromACME(told acme.Problem) Problem {
	p := Problem{Type: strings.TrimPrefix(told.Type, acme.ProblemTypeNamespace), Status: told.Status, Detail: firstLine(told.Detail)}
	for _, sub := range told.Subproblems {
		one := fromACME(sub.Problem)
		one.Identifier = sub.Identifier.Value
		p.Subproblems = append(p.Subproblems, one)
	}
	return p
}

// challengeStates returns the challenges of which the CA tells more than that
// they exist, or of which it is about.
func challengeStates(authz acme.Authorization) []ChallengeState {
	var states []ChallengeState
	for _, c := range authz.Challenges {
		s := ChallengeState{Type: c.Type, Status: c.Status}
		if c.Error != nil {
			s.Error = firstLine(c.Error.Detail)
			states = append(states, s)
		}
	}
	return states
}

// firstLine keeps what others have written to one line of bearable length.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > 1000 {
		s = strings.ToValidUTF8(s[:1000], "") + "…"
	}
	return s
}

var retryAfterText = regexp.MustCompile(`retry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)`)

// rateLimitPause is how long we stay away from a CA that has had enough of us
// and does not say until when.
const rateLimitPause = time.Hour

// retryAfter returns when the CA lets us try again, or the zero time. Let's
// Encrypt says it in the text alone.
func (p *Problem) retryAfter(now time.Time) time.Time {
	if p.Type != "rateLimited" && p.Status != http.StatusTooManyRequests {
		return time.Time{}
	}
	if m := retryAfterText.FindStringSubmatch(p.Detail); m != nil {
		if at, err := time.Parse(time.DateTime, m[1]+" "+m[2]); err == nil && at.Before(now.Add(30*24*time.Hour)) {
			return at
		}
	}
	if p.Status == http.StatusTooManyRequests {
		return now.Add(rateLimitPause)
	}
	return time.Time{}
}

// advise says what to do about p, which err has led to.
func (p *Problem) advise(err error, cfg ACMEConfig, name string) string {
	if a := adviseNetwork(err, cfg); a != "" {
		return a
	}
	text := p.Detail
	for _, c := range p.Challenges {
		text += " " + c.Error
	}
	switch {
	case p.Type == "rateLimited":
		return "wait; more attempts make it last longer"
	case p.Type == "externalAccountRequired":
		return "the CA wants an account that it knows: set tls.eab_key_id and tls.eab_mac_key"
	case p.Type == "invalidContact" || p.Type == "unsupportedContact":
		return "set tls.email to an address that the CA accepts, or leave it empty"
	case p.Type == "rejectedIdentifier":
		return "the CA does not sign " + name + ": ask it why, or choose another"
	case p.Type == "caa":
		return "the CAA record of " + name + " or of a parent forbids this CA: change the record or the CA"
	case p.Type == "badNonce":
		return "the CA loses its nonces: something between us and it may answer from a cache, or its replicas share none"
	case len(p.Challenges) == 0 && p.Type == "unauthorized" && strings.Contains(text, "deactivated"):
		return "the CA has closed our account: delete acme/ in the storage (tls.storage), and another is registered"
	case len(p.Challenges) == 0 && p.Type == "malformed" && strings.Contains(text, "JWS verification error"):
		return "the stored account is not that of its key: delete acme/ in the storage (tls.storage), and another is registered"
	case strings.Contains(text, "tls.dns_settings command"):
		return "the program of tls.dns_settings has failed: call it by hand as it was called here, as the user of the server"
	case strings.Contains(text, "external account binding") || strings.Contains(text, "'kid'"):
		return "tls.eab_key_id and tls.eab_mac_key must be as the CA gave them out"
	case strings.Contains(text, "base64-decoding MAC key"):
		return "tls.eab_mac_key must be base64url, as the CA gave it out"
	case strings.Contains(text, "unknown profile name") || strings.Contains(text, "does not advertise support for profiles"):
		return "set tls.profile to one that the CA offers, or leave it empty"
	case strings.Contains(text, "provisioning client: HTTP 4"):
		return "tls.ca must be the URL of the ACME directory itself"
	case strings.Contains(text, "could not save account"):
		return "the account could not be written to the storage (tls.storage): make that writable, and room in it"
	case strings.Contains(text, "dns: bad authentication"):
		return "the name server does not accept the TSIG key: compare key_name, key and key_alg of tls.dns_settings with its configuration"
	case strings.Contains(text, "adding temporary record"):
		return "the DNS provider refused the record _acme-challenge: check the rights of its credentials"
	case strings.Contains(text, "to fully propagate"):
		return "the record _acme-challenge was made, but cannot be seen: set tls.dns_resolvers to name servers that see the zone"
	case strings.Contains(text, "checking DNS propagation"):
		return "the record _acme-challenge was made, but no name server says so: set tls.dns_resolvers to some that answer, and that see the zone"
	case strings.Contains(text, "could not determine zone"):
		return "no resolver knows the zone of " + name + ": set tls.dns_resolvers to name servers that do"
	}
	if a := p.adviseChallenge(cfg, name, text); a != "" || p.Type != "" || !errors.Is(err, context.DeadlineExceeded) {
		return a
	}
	return "the CA does not answer in time: see whether it is well, and whether something on the way drops what is sent"
}

// adviseNetwork is about the way from us to the CA.
func adviseNetwork(err error, cfg ACMEConfig) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var dnsError *net.DNSError
	var opError *net.OpError
	var told acme.Problem
	// With dns-01 it may be a name server that cannot be reached. The first thing
	// that is done with a CA is to fetch its directory.
	toCA := cfg.Challenge != DNS01 || strings.Contains(err.Error(), "provisioning client: ")
	switch {
	case errors.As(err, &told):
		return ""
	case errors.As(err, &unknown):
		return "the CA's own server has a certificate of an authority that we do not know: name its root under tls.ca_roots"
	case errors.As(err, &host):
		return "the CA's own server has a certificate for another name than that in tls.ca"
	case errors.As(err, &dnsError) && toCA:
		return "the host name of the CA cannot be resolved from here: check tls.ca and the resolver"
	case errors.As(err, &opError) && toCA:
		return "the CA cannot be reached from here: check tls.ca, the firewall and HTTPS_PROXY"
	}
	return ""
}

// adviseChallenge is about the way from the CA to us.
func (p *Problem) adviseChallenge(cfg ACMEConfig, name, text string) string {
	if p.Type == "unauthorized" && len(p.Challenges) == 0 {
		return "" // it is not about a challenge
	}
	switch {
	case p.Type == "dns" || strings.Contains(text, "SERVFAIL") || strings.Contains(text, "NXDOMAIN") || strings.Contains(text, "could not resolve"):
		return "the CA cannot resolve " + name + ": make a record for it that the CA's resolvers see"
	case cfg.Challenge == HTTP01 && (p.Type == "connection" || p.Type == "unauthorized" || p.Type == "" && len(p.Challenges) > 0):
		return "the CA must reach http://" + name + " on port 80, and that must lead to " + cfg.Listen + " (tls.http_listen) here: check DNS, firewall and forwarding"
	case cfg.Challenge == TLSALPN01 && (p.Type == "connection" || p.Type == "unauthorized" || p.Type == "tls" || p.Type == "" && len(p.Challenges) > 0):
		return "the CA must reach " + name + " on port 443, and that must lead to " + cfg.Listen + " (listen) here, without a proxy that ends TLS: check DNS, firewall and forwarding"
	case cfg.Challenge == DNS01 && p.Type == "unauthorized":
		return "the CA does not see the record _acme-challenge." + strings.TrimPrefix(name, "*.") + " that was made: check that the zone is the public one"
	}
	return ""
}
