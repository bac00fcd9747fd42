package tlsmgr

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"
)

// Status is the state of one certificate, for people and machines.
type Status struct {
	// Name is what the configuration calls it: a host name, an IP address or
	// a file.
	Name string `json:"name"`
	// Names are those in the certificate that is served. Empty, with all that
	// follows up to NotAfter, if there is none.
	Names     []string  `json:"names,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	Serial    string    `json:"serial,omitempty"` // hexadecimal
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	// LastAttempt is when a new certificate was last tried for; NextAttempt
	// when it will be. For files: when one was last read, and zero.
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	// Failures is how many attempts have failed since the last good one.
	Failures int `json:"failures,omitempty"`
	// Problem is why the last attempt failed.
	Problem *Problem `json:"problem,omitempty"`
	// RenewalReason is a page on which the CA explains why it wants the
	// certificate renewed when it does.
	RenewalReason string `json:"renewal_reason,omitempty"`
	// Alarm says what is wrong and what to do about it. Empty: nothing.
	Alarm string `json:"alarm,omitempty"`
	// Defect is of which kind the trouble is that Alarm tells.
	Defect Defect `json:"defect,omitempty"`
	// KeyFile is the file of the key, in mode Files.
	KeyFile string `json:"key_file,omitempty"`
}

// describe fills in what is read off the certificate.
func (s *Status) describe(cert *tls.Certificate) {
	if cert == nil {
		return
	}
	leaf := cert.Leaf
	s.Names = certNames(cert)
	s.Issuer = leaf.Issuer.String()
	s.Serial = fmt.Sprintf("%x", leaf.SerialNumber)
	s.NotBefore, s.NotAfter = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	expired := expiredText(leaf)
	switch {
	case !time.Now().After(leaf.NotAfter), strings.Contains(s.Alarm, expired):
	case s.Alarm == "":
		s.Alarm, s.Defect = expired, Expired
	default: // what was wrong before is no reason to be silent on this
		s.Alarm = expired + "; " + s.Alarm
	}
}
