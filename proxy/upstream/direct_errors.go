package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
)

// reason says why a repository did not give a module. The set is closed: it is
// the label of a metric.
type reason string

const (
	notModule      reason = "not_a_module"
	unknownVersion reason = "unknown_version"
	noRepository   reason = "no_repository"
	unauthorized   reason = "unauthorized"
	unreachable    reason = "unreachable"
	hostKey        reason = "host_key"
	certificate    reason = "certificate"
	forbidden      reason = "forbidden_address"
	tooBig         reason = "too_large"
	timedOut       reason = "timeout"
	spoilt         reason = "spoilt"
	oldGo          reason = "old_go"
	misconfigured  reason = "misconfigured"
	stopped        reason = "stopped"
	broken         reason = "other"
)

// reasons are all of them, so that every series exists from the start.
func reasons() []reason {
	return []reason{notModule, unknownVersion, noRepository, unauthorized, unreachable, hostKey,
		certificate, forbidden, tooBig, timedOut, spoilt, oldGo, misconfigured, stopped, broken}
}

// DirectError is why a repository did not give what was asked for.
// errors.Is(err, fs.ErrNotExist) means that the module or version is absent,
// and Timeout reports that it took too long; everything else is trouble.
//
// Error() is for logs: it may quote go, git or a server. Public() is for
// clients: one line in words of our own. Neither holds credentials.
type DirectError struct {
	Reason string // one of a small set, as in metrics
	What   string // module path, with the version or query if there is one
	Err    error  // cause; nil if the text says it all

	text string
}

// Error describes the failure for a log.
func (e *DirectError) Error() string {
	if e.Err == nil || strings.Contains(e.text, e.Err.Error()) {
		return e.Public()
	}
	return e.Public() + ": " + oneLine(e.Err.Error(), 2000)
}

// Public describes the failure for a client in one line.
func (e *DirectError) Public() string {
	if e.What == "" {
		return e.text
	}
	return oneLine(e.What, 300) + ": " + e.text
}

// Unwrap returns the cause, which never counts as absence.
func (e *DirectError) Unwrap() error {
	if e.Err == nil {
		return nil
	}
	return opaque{e.Err}
}

// Is reports whether target is fs.ErrNotExist and the module or the version is
// absent.
func (e *DirectError) Is(target error) bool {
	if target != fs.ErrNotExist {
		return false
	}
	switch reason(e.Reason) {
	case notModule, unknownVersion, noRepository:
		return true
	}
	return false
}

// Timeout reports whether it took too long.
func (e *DirectError) Timeout() bool { return reason(e.Reason) == timedOut }

// trouble makes a DirectError. What it is about is filled in by about.
func troubled(r reason, err error, format string, args ...any) *DirectError {
	return &DirectError{Reason: string(r), Err: err, text: fmt.Sprintf(format, args...)}
}

// about returns err as a DirectError about what. The error of a flight has
// several readers, so it is copied.
func about(err error, what string) error {
	var e *DirectError
	if !errors.As(err, &e) {
		e = explained(err, "")
	}
	named := *e
	named.What = what
	return &named
}

// explained says in our words why a conversation with host failed.
func explained(err error, host string) *DirectError {
	var (
		known     *DirectError
		unknownCA x509.UnknownAuthorityError
		wrongName x509.HostnameError
		invalid   x509.CertificateInvalidError
		cert      *tls.CertificateVerificationError
		dns       *net.DNSError
		timeout   interface{ Timeout() bool }
	)
	if host == "" {
		host = "the repository"
	}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &unknownCA):
		return troubled(certificate, err, "the certificate of %s is signed by an authority that is not trusted here: name its CA file under tls.trust", host)
	case errors.As(err, &wrongName):
		return troubled(certificate, err, "the certificate of %s is for another name", host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return troubled(certificate, err, "the certificate of %s has expired, or a clock is wrong", host)
	case errors.As(err, &cert):
		return troubled(certificate, err, "the certificate of %s is not valid", host)
	case errors.As(err, &dns) && dns.IsNotFound:
		return troubled(unreachable, err, "the name %s does not resolve", host)
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return troubled(timedOut, err, "%s did not answer in time", host)
	case errors.Is(err, context.Canceled):
		return troubled(stopped, err, "the request was given up")
	}
	return troubled(unreachable, err, "%s cannot be reached", host)
}

// oneLine returns the beginning of text without anything that could disturb a
// log.
func oneLine(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
