package doctor

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
)

// distrust reports whether it cannot be told whom this machine trusts, because the
// file that says it is not there or has nothing: that is the cause then, and not the
// authority of a server. Something on the way is told all the same.
func (d *Doctor) distrust(s *Step, leaf, top *x509.Certificate, p peeked) bool {
	i := slices.IndexFunc(d.report.Findings, func(f Finding) bool {
		return f.Code == CertFileUnreadable || f.Code == CertFileEmpty || f.Code == TrustEmpty
	})
	if i < 0 || p.differs(leaf) {
		return false
	}
	s.saw("the chain ends at %s, issued by %s, which is not among what is left", top.Subject, top.Issuer)
	s.mark(d.report.Findings[i])
	return true
}

// relative returns a trusted root that is of the same house as the issuer of c by
// its name, and is not that issuer; nil if there is none. Only roots that somebody
// has named or put there by hand are looked at: a house of its own seldom says in its
// certificates where those of its intermediate authorities are.
func (d *Doctor) relative(c *x509.Certificate) *x509.Certificate {
	if slices.ContainsFunc(d.named, func(root *x509.Certificate) bool { return bytes.Equal(root.RawSubject, c.RawIssuer) }) {
		return nil
	}
	i := slices.IndexFunc(d.named, func(root *x509.Certificate) bool {
		for _, o := range root.Subject.Organization {
			if o != "" && slices.Contains(c.Issuer.Organization, o) {
				return true
			}
		}
		ours := ownWords(c.Issuer.CommonName)
		return slices.ContainsFunc(ownWords(root.Subject.CommonName), func(word string) bool { return slices.Contains(ours, word) })
	})
	if i < 0 {
		return nil
	}
	return d.named[i]
}

// ownWords returns the words of the name of an authority that any other would not
// have as well.
func ownWords(name string) []string {
	common := strings.Fields("ca root intermediate issuing issuer sub subordinate authority certificate certification trust ssl tls server internal private the and of for rsa ecc ecdsa global")
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !(r >= 'a' && r <= 'z' || r > 0x7f) })
	return slices.DeleteFunc(words, func(w string) bool { return len(w) < 3 || slices.Contains(common, w) })
}
