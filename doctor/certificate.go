package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// names returns what a certificate is for.
func names(c *x509.Certificate) string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no name"
	}
	if len(all) > 6 {
		all = append(all[:6], fmt.Sprintf("%d more", len(all)-6))
	}
	return strings.Join(all, ", ")
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// judge looks at every aspect of the certificate by itself: one mistake must
// not hide another, nor be taken for it. It reports whether Go would accept it.
func (d *Doctor) judge(ctx context.Context, state tls.ConnectionState) bool {
	chain := state.PeerCertificates
	s := d.step("certificate", "what "+d.target.Hostname()+" sends: "+counted(len(chain), "certificate"))
	for i, c := range chain {
		d.report.chain = append(d.report.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		s.saw("%d %s", i, c.Subject)
		s.saw("  issued by %s", c.Issuer)
		s.saw("  %s to %s", day(c.NotBefore), day(c.NotAfter))
		if i == 0 {
			s.saw("  for %s", names(c))
		}
	}
	p := d.peek(ctx)
	at := d.judgeTime(ctx, s, chain[0], p)
	d.judgeTrust(ctx, s, chain, p, at)
	d.judgeName(s, chain[0])
	d.judgeUsage(s, chain, at)
	if s.Verdict == OK && !p.silent { // else something else must be mended first
		d.judgeRevocation(ctx, s, chain, state.OCSPResponse)
	}
	return s.Verdict != Fail
}

func validAt(c *x509.Certificate, at time.Time) bool {
	return !at.Before(c.NotBefore) && !at.After(c.NotAfter)
}

// verify looks for a chain to a trusted root, whatever the name and the use.
// That the certificate itself is not valid at that time is no matter here: what
// it hangs on is judged at that time all the same, because an authority may be
// younger than a certificate of the same key that has expired.
func (d *Doctor) verify(chain []*x509.Certificate, at time.Time, more ...*x509.Certificate) error {
	return d.verifyFor(x509.ExtKeyUsageAny, chain, at, more...)
}

// verifyFor is verify for one use.
func (d *Doctor) verifyFor(use x509.ExtKeyUsage, chain []*x509.Certificate, at time.Time, more ...*x509.Certificate) error {
	between := x509.NewCertPool()
	for _, c := range append(chain[1:len(chain):len(chain)], more...) {
		between.AddCert(c)
	}
	first := *chain[0]
	if !validAt(&first, at) {
		first.NotBefore, first.NotAfter = at, at
	}
	_, err := first.Verify(x509.VerifyOptions{
		Roots: d.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use},
	})
	return err
}

// issuerIn returns where in the chain the issuer of c is; -1: nowhere.
func issuerIn(chain []*x509.Certificate, c *x509.Certificate) int {
	return slices.IndexFunc(chain, func(other *x509.Certificate) bool {
		return other != c && bytes.Equal(other.RawSubject, c.RawIssuer) &&
			other.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	})
}

func (d *Doctor) judgeTrust(ctx context.Context, s *Step, chain []*x509.Certificate, p peeked, at time.Time) {
	err := d.verify(chain, at)
	if err == nil {
		if p.differs(chain[0]) {
			s.saw("the server itself reports another certificate: TLS is opened on the way, by %s, whose root is trusted here", chain[0].Issuer)
		}
		return
	}
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert.Equal(chain[0]):
		return // judgeTime has told it; the stores of macOS and Windows read the dates from the bytes
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && at.After(invalid.Cert.NotAfter):
		d.found(s, IssuerExpired, err.Error(), "value", invalid.Cert.Subject.String()+", "+day(invalid.Cert.NotAfter))
	case errors.As(err, &unknown) && !badSignature(err):
		d.judgeUnknown(ctx, s, unknownChain{chain, at, err}, p)
	default:
		d.found(s, InvalidCertificate, err.Error(), "value", err.Error())
	}
}

// unknownChain is a chain that leads to no trusted root, says err.
type unknownChain struct {
	certs []*x509.Certificate
	at    time.Time
	err   error
}

// judgeUnknown tells apart what the go command calls "signed by unknown
// authority" in all cases.
func (d *Doctor) judgeUnknown(ctx context.Context, s *Step, u unknownChain, p peeked) {
	chain, leaf, top := u.certs, u.certs[0], top(u.certs)
	if d.distrust(s, leaf, top, p) {
		return
	}
	if product := knownProduct(chain); p.differs(leaf) || product != "" {
		seen := "issued by " + leaf.Issuer.String()
		if p.differs(leaf) {
			seen += "; the server itself reports one issued by " + p.issuers()
		}
		if product == "" {
			product = leaf.Issuer.String()
		}
		d.found(s, Middlebox, seen, "value", product)
		return
	}
	if len(chain) == 1 && selfSigned(leaf) {
		d.found(s, SelfSigned, leaf.Subject.String()+" is issued by itself")
		return
	}
	seen, where := "the chain ends at "+top.Subject.String()+", issued by "+top.Issuer.String(), ""
	if !selfSigned(top) {
		issuers := d.fetchIssuers(ctx, s, top)
		if len(issuers) > 0 && d.verify(chain, u.at, issuers...) == nil {
			d.found(s, MissingIntermediate, "with "+issuers[0].Subject.String()+", fetched from where the certificate says it is, the chain is complete")
			return
		}
		if root := d.relative(top); root != nil && len(issuers) == 0 {
			d.found(s, MissingIntermediate, "nothing that is sent leads from "+top.Issuer.String()+" to "+root.Subject.String()+", which is trusted here and of the same house by its name; the certificate does not say where that of its issuer can be had, which would prove it")
			return
		}
		if len(chain) == 1 && len(issuers) == 0 {
			where = unproved
		}
	}
	if text := u.err.Error(); strings.Contains(text, "possibly because") {
		seen += "; this machine trusts an authority of that name, but with another key: " + text
	}
	d.found(s, UnknownAuthority, seen, "where", where, "value", top.Issuer.String())
}

// top follows the chain from the first certificate as far as it goes.
func top(chain []*x509.Certificate) *x509.Certificate {
	now := chain[0]
	for range chain {
		i := issuerIn(chain, now)
		if i < 0 || selfSigned(now) {
			break
		}
		now = chain[i]
	}
	return now
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// fetchIssuers follows the addresses of issuers (RFC 5280, section 4.2.2.1), as
// browsers do and Go does not, over plain HTTP as they say.
func (d *Doctor) fetchIssuers(ctx context.Context, s *Step, c *x509.Certificate) []*x509.Certificate {
	var found []*x509.Certificate
	for range 3 { // intermediates of intermediates are rare
		// Microsoft's authority names LDAP addresses first, which nobody outside can ask.
		i := slices.IndexFunc(c.IssuingCertificateURL, func(u string) bool { return strings.HasPrefix(u, "http://") })
		if i < 0 || selfSigned(c) {
			break
		}
		address := c.IssuingCertificateURL[i]
		data, err := d.fetchSmall(ctx, address)
		if err != nil {
			s.saw("the issuer at %s cannot be fetched: %s", oneLine(address), shortError(err))
			break
		}
		if block, _ := pem.Decode(data); block != nil {
			data = block.Bytes // not as it should be, but it is seen
		}
		issuer, err := x509.ParseCertificate(data)
		if err != nil || c.CheckSignatureFrom(issuer) != nil {
			s.saw("what is at %s is not the issuer", oneLine(address))
			break
		}
		found = append(found, issuer)
		c = issuer
	}
	return found
}

// judgeTime returns the time at which the rest is to be judged: that of this
// machine, unless its clock is found to be wrong.
func (d *Doctor) judgeTime(ctx context.Context, s *Step, leaf *x509.Certificate, p peeked) time.Time {
	now := d.cfg.Now()
	if validAt(leaf, now) {
		return now
	}
	if offset, sure := d.offset(ctx, s, p.offset); sure && validAt(leaf, now.Add(offset)) {
		d.clockFound(s, offset)
		return now.Add(offset)
	}
	if now.After(leaf.NotAfter) {
		d.found(s, Expired, "it is "+day(now)+" here", "value", day(leaf.NotAfter))
	} else {
		d.found(s, NotYetValid, "it is "+day(now)+" here", "value", day(leaf.NotBefore))
	}
	return now
}

func (d *Doctor) judgeName(s *Step, leaf *x509.Certificate) {
	host := d.target.Hostname()
	err := leaf.VerifyHostname(host)
	if err == nil && net.ParseIP(host) != nil {
		err = leaf.VerifyHostname("[" + host + "]")
	}
	if err == nil {
		return
	}
	switch code := hostCause(x509.HostnameError{Certificate: leaf, Host: host}); code {
	case NoNames:
		d.found(s, code, "common name "+leaf.Subject.CommonName)
	default:
		d.found(s, code, err.Error(), "value", names(leaf))
	}
}

func (d *Doctor) judgeUsage(s *Step, chain []*x509.Certificate, at time.Time) {
	leaf := chain[0]
	err := d.verifyFor(x509.ExtKeyUsageServerAuth, chain, at)
	var invalid x509.CertificateInvalidError
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 {
		if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
			d.found(s, KeyUsage, "an authority in the chain may not sign for servers")
		}
		return
	}
	if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage && slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		d.found(s, KeyUsage, "it has serverAuth, but an authority in the chain has an extended key usage without it, and so may not sign for servers")
		return
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		d.found(s, KeyUsage, fmt.Sprintf("extended key usage %v, without serverAuth (1)", leaf.ExtKeyUsage))
	}
}
