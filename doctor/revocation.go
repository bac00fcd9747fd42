package doctor

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// maxRevocationList bounds a list that is fetched. Those of public authorities
// are cut into parts far smaller than that.
const maxRevocationList = 16 << 20

// errNoLocation says that a certificate does not name where to ask.
var errNoLocation = errors.New("no place is named")

// revocation is what is known of a certificate having been taken back.
type revocation struct {
	at     time.Time // zero: it was not
	reason int       // RFC 5280, section 5.3.1
	source string
}

// answered is a revocation, or why it is not known.
type answered struct {
	revocation
	err error
}

// judgeRevocation asks whether the authority has taken the certificate back:
// what the server has stapled, else the list, else the responder that the
// certificate names. The go command does none of that, but other clients and
// security products do.
func (d *Doctor) judgeRevocation(ctx context.Context, s *Step, chain []*x509.Certificate, stapled []byte) {
	issuer := d.issuerOf(chain)
	if issuer == nil {
		return
	}
	leaf := chain[0]
	said := func(found revocation, err error) answered { return answered{found, err} }
	answers := []answered{said(readStaple(stapled, leaf, issuer))}
	if answers[0].err != nil {
		answers = append(answers, each([]bool{true, false}, func(list bool) answered {
			if list {
				return said(d.askList(ctx, leaf, issuer))
			}
			return said(d.askResponder(ctx, leaf, issuer))
		})...)
	}
	var errs []error
	for _, a := range answers {
		found, err := a.revocation, a.err
		switch {
		case errors.Is(err, errNoLocation):
		case err != nil:
			errs = append(errs, err)
		case found.at.IsZero():
			s.saw("not revoked, says %s", found.source)
			return
		default:
			d.found(s, Revoked, fmt.Sprintf("%s says so; reason: %s", found.source, reasonText(found.reason)), "value", day(found.at))
			return
		}
	}
	if err := errors.Join(errs...); err != nil {
		d.found(s, RevokedUnknown, err.Error(), "value", oneLine(err.Error()))
	}
}

// issuerOf returns the authority that has signed the first certificate, from
// the chain or from those that this machine trusts; nil if it is not known.
func (d *Doctor) issuerOf(chain []*x509.Certificate) *x509.Certificate {
	leaf := chain[0]
	if selfSigned(leaf) {
		return nil
	}
	for _, c := range chain[1:] {
		if leaf.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	paths, err := leaf.Verify(x509.VerifyOptions{Roots: d.roots, CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil || len(paths[0]) < 2 {
		return nil
	}
	return paths[0][1]
}

// readStaple reads the answer of a responder that the server has sent along
// (RFC 6066, section 8).
func readStaple(stapled []byte, leaf, issuer *x509.Certificate) (revocation, error) {
	if len(stapled) == 0 {
		return revocation{}, errNoLocation
	}
	return readOCSP(stapled, leaf, issuer, "the server itself (OCSP, stapled)")
}

// readOCSP reads an answer of a responder (RFC 6960).
func readOCSP(data []byte, leaf, issuer *x509.Certificate, source string) (revocation, error) {
	answer, err := ocsp.ParseResponseForCert(data, leaf, issuer)
	switch {
	case err != nil:
		return revocation{}, fmt.Errorf("%s: %w", source, err)
	case answer.Status == ocsp.Revoked:
		return revocation{answer.RevokedAt, answer.RevocationReason, source}, nil
	case answer.Status == ocsp.Good:
		return revocation{source: source}, nil
	}
	return revocation{}, fmt.Errorf("%s: it does not know this certificate", source)
}

// askResponder asks the responder that the certificate names.
func (d *Doctor) askResponder(ctx context.Context, leaf, issuer *x509.Certificate) (revocation, error) {
	address := firstPlain(leaf.OCSPServer)
	if address == "" {
		return revocation{}, errNoLocation
	}
	question, err := ocsp.CreateRequest(leaf, issuer, nil)
	if err != nil {
		return revocation{}, err
	}
	source := "the OCSP responder " + oneLine(address)
	data, err := d.exchange(ctx, http.MethodPost, address, question)
	if err != nil {
		return revocation{}, fmt.Errorf("%s: %s", source, shortError(err))
	}
	return readOCSP(data, leaf, issuer, source)
}

// askList fetches the list that the certificate names (RFC 5280, section 5).
func (d *Doctor) askList(ctx context.Context, leaf, issuer *x509.Certificate) (revocation, error) {
	address := firstPlain(leaf.CRLDistributionPoints)
	if address == "" {
		return revocation{}, errNoLocation
	}
	source := "the list at " + oneLine(address)
	data, err := d.exchange(ctx, http.MethodGet, address, nil)
	if err != nil {
		return revocation{}, fmt.Errorf("%s: %s", source, shortError(err))
	}
	list, err := x509.ParseRevocationList(data)
	if err == nil {
		err = list.CheckSignatureFrom(issuer)
	}
	if err != nil {
		return revocation{}, fmt.Errorf("%s: %w", source, err)
	}
	i := slices.IndexFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(leaf.SerialNumber) == 0 })
	if i < 0 {
		return revocation{source: source}, nil
	}
	entry := list.RevokedCertificateEntries[i]
	return revocation{entry.RevocationTime, entry.ReasonCode, source}, nil
}

// firstPlain returns the first address with http://, which is what authorities
// use: what is there is signed.
func firstPlain(addresses []string) string {
	if i := slices.IndexFunc(addresses, func(a string) bool { return strings.HasPrefix(a, "http://") }); i >= 0 {
		return addresses[i]
	}
	return ""
}

// exchange sends a request to an authority and returns the body of its answer.
func (d *Doctor) exchange(ctx context.Context, method, address string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout/2)
	defer cancel()
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/ocsp-request")
	}
	t := d.transport()
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxRevocationList))
}

// reasonText says why a certificate was taken back.
func reasonText(code int) string {
	reasons := []string{"not given", "the key is known to others", "the authority's key is known to others", "the name or the organisation has changed", "it was replaced", "it is no longer used", "it is on hold"}
	if code >= 0 && code < len(reasons) {
		return reasons[code]
	}
	return fmt.Sprintf("code %d", code)
}
