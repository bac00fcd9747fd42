package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// FingerprintPath is where a modgate server says which certificates it has, as
// a Fingerprint in JSON. It is public: so are certificates.
const FingerprintPath = "/-/fingerprint"

// Fingerprint is what a server says of its own certificates.
type Fingerprint struct {
	Certificates []Identity `json:"certificates"`
}

// Identity tells one certificate from all others.
type Identity struct {
	Issuer string `json:"issuer"` // as crypto/x509/pkix prints it
	Serial string `json:"serial"` // hexadecimal
}

// peeked is what the server says when its certificate is not looked at. It is
// asked for nothing else that way, and no credentials are sent.
type peeked struct {
	print  *Fingerprint
	offset *time.Duration // its clock against ours; nil if it says nothing
	silent bool           // it does not answer
}

func (d *Doctor) peek(ctx context.Context) peeked {
	var p peeked
	t := d.transport()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	defer t.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout/2)
	defer cancel()
	u := url.URL{Scheme: d.target.Scheme, Host: d.target.Host, Path: FingerprintPath}
	start := d.cfg.Now()
	resp, err := roundTrip(ctx, t, u.String())
	if err != nil {
		p.silent = isTimeout(err)
		return p
	}
	defer resp.Body.Close()
	p.offset = offsetOf(resp, start)
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode == http.StatusOK {
		var f Fingerprint
		if json.Unmarshal(data, &f) == nil && len(f.Certificates) > 0 {
			p.print = &f
		}
	}
	return p
}

// differs reports whether the server is known to have another certificate than
// the one that arrived here.
func (p peeked) differs(leaf *x509.Certificate) bool {
	if p.print == nil {
		return false
	}
	for _, c := range p.print.Certificates {
		if c.Issuer == leaf.Issuer.String() && c.Serial == fmt.Sprintf("%x", leaf.SerialNumber) {
			return false
		}
	}
	return true
}

func (p peeked) issuers() string {
	var all []string
	for _, c := range p.print.Certificates {
		all = append(all, oneLine(c.Issuer))
	}
	return strings.Join(all, "; ")
}

// knownProduct returns the product that signs with an authority in the chain,
// or "". The names are those that the products put into their own roots.
func knownProduct(chain []*x509.Certificate) string {
	products := []struct{ text, name string }{
		{"zscaler", "Zscaler"}, {"netskope", "Netskope"}, {"goskope", "Netskope"}, {"fortinet", "Fortinet FortiGate"}, {"fortigate", "Fortinet FortiGate"},
		{"palo alto", "Palo Alto Networks"}, {"blue coat", "Blue Coat ProxySG"}, {"bluecoat", "Blue Coat ProxySG"}, {"cisco umbrella", "Cisco Umbrella"},
		{"check point", "Check Point"}, {"forcepoint", "Forcepoint"}, {"websense", "Forcepoint"}, {"sophos", "Sophos"}, {"barracuda", "Barracuda"},
		{"mcafee", "Skyhigh (McAfee) Web Gateway"}, {"skyhigh", "Skyhigh Web Gateway"}, {"sonicwall", "SonicWall"}, {"watchguard", "WatchGuard"}, {"iboss", "iboss"},
		{"cato networks", "Cato Networks"}, {"menlo security", "Menlo Security"}, {"cloudflare gateway", "Cloudflare Gateway"}, {"gateway ca - cloudflare", "Cloudflare Gateway"},
		{"kaspersky", "Kaspersky"}, {"avast", "Avast"}, {"avg web", "AVG"}, {"eset ssl", "ESET"}, {"bitdefender", "Bitdefender"}, {"dr.web", "Dr.Web"},
		{"mitmproxy", "mitmproxy"}, {"charles proxy", "Charles"}, {"do_not_trust_fiddler", "Fiddler"}, {"portswigger", "Burp Suite"}, {"squid", "Squid"},
	}
	for _, c := range chain {
		name := strings.ToLower(c.Issuer.String())
		for _, p := range products {
			if strings.Contains(name, p.text) {
				return p.name
			}
		}
	}
	return ""
}

// transport makes connections to the target as the go command would.
func (d *Doctor) transport() *http.Transport {
	return &http.Transport{
		DialContext:            d.dial,
		Proxy:                  func(r *http.Request) (*url.URL, error) { return d.via(r.URL) },
		TLSClientConfig:        &tls.Config{RootCAs: d.roots, Time: d.cfg.Now},
		TLSHandshakeTimeout:    d.cfg.Timeout,
		ResponseHeaderTimeout:  d.cfg.Patience,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// agent names us to servers.
const agent = "modgate-doctor"

// roundTrip asks once, without following redirects.
func roundTrip(ctx context.Context, t *http.Transport, address string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	return t.RoundTrip(req)
}

// fetchSmall returns what is at a plain HTTP address, if it is small.
func (d *Doctor) fetchSmall(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" {
		return nil, errors.New("not an address with http://")
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	t := d.transport()
	defer t.CloseIdleConnections()
	resp, err := roundTrip(ctx, t, address)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 64<<10))
}
