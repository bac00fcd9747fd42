package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
)

// CauseOf returns the code for the failure of a request that this machine has
// sent, by the errors of the standard library in err; "" if they tell nothing
// that is in the table. It asks nobody: where several findings have the same
// error, as an unknown authority and a missing intermediate do, it returns the
// one that modgate doctor begins with.
func CauseOf(err error) Code {
	var (
		certificate *tls.CertificateVerificationError
		name        *net.DNSError
		dial        *net.OpError
		record      tls.RecordHeaderError
		proxy       interface{ ProxyStatus() int }
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &dial) && dial.Op == "proxyconnect":
		return proxyFailure(dial.Err)
	case errors.As(err, &certificate):
		return certificateCause(certificate)
	case errors.As(err, &proxy):
		return proxyCause(proxy.ProxyStatus())
	case errors.As(err, &name):
		return nameCause(name)
	case errors.Is(err, http.ErrSchemeMismatch):
		return PlainHTTP
	case errors.As(err, &record):
		return recordCause(record)
	case errors.As(err, &dial) && dial.Op == "dial":
		return dialCause(err)
	case errors.Is(err, syscall.ENOSPC):
		return DiskLow
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return DirUnwritable
	}
	return answerCause(err)
}

// certificateCause says why Go has not accepted a certificate.
func certificateCause(err *tls.CertificateVerificationError) Code {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	chain := err.UnverifiedCertificates
	switch {
	case errors.As(err.Err, &host) && host.Certificate != nil:
		return hostCause(host)
	case errors.As(err.Err, &invalid) && invalid.Reason == x509.Expired:
		switch {
		case len(chain) > 0 && !chain[0].Equal(invalid.Cert):
			return IssuerExpired
		case strings.Contains(invalid.Detail, " is before "):
			return NotYetValid
		}
		return Expired
	case errors.As(err.Err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return KeyUsage
	case !errors.As(err.Err, &unknown) || badSignature(err.Err):
		return InvalidCertificate
	case knownProduct(chain) != "":
		return Middlebox
	case len(chain) == 1 && selfSigned(chain[0]):
		return SelfSigned
	}
	return UnknownAuthority
}

// badSignature reports whether an authority is "unknown" only because its
// signature is of a kind that Go no longer takes, or because it may not sign. The
// text is all there is.
func badSignature(err error) bool {
	text := err.Error()
	return strings.Contains(text, "insecure algorithm") || strings.Contains(text, "parent certificate cannot sign")
}

// hostCause says how a certificate is not for a host.
func hostCause(err x509.HostnameError) Code {
	c := err.Certificate
	switch {
	case net.ParseIP(err.Host) != nil && len(c.IPAddresses) == 0:
		return NoAddress
	case len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses)+len(c.URIs) == 0:
		return NoNames
	}
	return WrongName
}

// recordCause says what it is that answers, and is not TLS.
func recordCause(err tls.RecordHeaderError) Code {
	if string(err.RecordHeader[:]) == "HTTP/" {
		return PlainHTTP
	}
	return HandshakeRefused
}

// nameCause says why a name has no address.
func nameCause(err *net.DNSError) Code {
	switch {
	case err.IsNotFound:
		return DNSNotFound
	case err.IsTimeout || strings.Contains(err.Err, "connection refused") || strings.Contains(err.Err, "unreachable"):
		return DNSSilent
	}
	return DNSFailure
}

// dialCause says why there is no connection.
func dialCause(err error) Code {
	switch failure(err) {
	case refused:
		return TCPRefused
	case filtered:
		return TCPFiltered
	}
	return TCPNoRoute
}

// proxyCause says what the status with which an HTTP proxy answers CONNECT
// means.
func proxyCause(status int) Code {
	switch {
	case status == http.StatusProxyAuthRequired:
		return ProxyAuth
	case status >= 500:
		return ProxyCannot
	}
	return ProxyDenied
}

// proxyFailure says why there is no talking to an HTTP proxy.
func proxyFailure(err error) Code {
	var (
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		name        *net.DNSError
		dial        *net.OpError
	)
	switch {
	case errors.As(err, &certificate):
		return ProxyCertificate
	case errors.As(err, &record):
		return ProxyPlain
	case errors.As(err, &name):
		return ProxyDown
	}
	for errors.As(err, &dial) { // that of SOCKS has one inside
		if dial.Op == "dial" {
			return ProxyDown
		}
		err = dial.Err
	}
	return ProxyCut
}

// answerCause says why there is no answer over a connection, or half of one.
func answerCause(err error) Code {
	text := err.Error()
	switch code := alertCause(text); {
	case code != "":
		return code
	case strings.Contains(text, unparsable):
		return MalformedCertificate
	case strings.Contains(text, "TLS handshake timeout"):
		return HandshakeSilent
	case isTimeout(err) && !errors.Is(err, context.Canceled), strings.Contains(text, "timeout awaiting response headers"):
		return AnswerSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		strings.Contains(text, "stream error"), strings.Contains(text, "server sent GOAWAY"):
		return AnswerCut
	}
	return ""
}

// unparsable is how crypto/tls begins to say that it cannot read a certificate.
const unparsable = "tls: failed to parse certificate from server: "

// alertCause returns the code for an alert of TLS in the text of an error. The
// text is all there is: crypto/tls does not export alerts (RFC 8446, section
// 6.2) outside of QUIC.
func alertCause(text string) Code {
	for _, alert := range []struct {
		text string
		code Code
	}{
		{"protocol version not supported", OldVersion},
		{"unsupported protocol version", OldVersion},
		{"no application protocol", NoProtocol},
		{"certificate required", ClientCertificate},
		{"tls: internal error", NoCertificate},
		{"unrecognized name", NoCertificate},
		{"handshake failure", NoCipher},
		{"remote error: tls: ", HandshakeRefused},
	} {
		if strings.Contains(text, alert.text) {
			return alert.code
		}
	}
	return ""
}

// FileCause returns the code for a file of the cache that fails for a reason
// that CauseOf knows no code for; "" if err is about no file.
func FileCause(err error) Code {
	var file *fs.PathError
	if errors.As(err, &file) {
		return CacheBroken
	}
	return ""
}

// OwnCause returns the code for an error that a server has made itself, by the word
// that it says of its cause: busy, undecided, redirect, content.
func OwnCause(word string) Code {
	switch word {
	case "busy":
		return ServerBusy
	case "undecided":
		return Undecided
	case "redirect":
		return RedirectRefused
	case "content":
		return BadAnswer
	}
	return ServerTrouble
}

// OfTheWay reports whether a trouble with that code is one of the way to a host, or of
// all of the host: that it answers shows that it is mended.
func OfTheWay(code Code) bool {
	of := func(e Entry) bool { return e.Code == code }
	switch code {
	case ServerError, TooMany, Unauthorized, AnswerSilent, HTTPToTLS, HTML:
		return true
	}
	return slices.ContainsFunc(networkTable, of) || slices.ContainsFunc(tlsTable, of) || slices.ContainsFunc(handshakeTable, of)
}

// OfOneModule reports whether a trouble with that code may be one of a module alone:
// only that this is fetched shows that it is mended.
func OfOneModule(code Code) bool {
	return slices.Contains([]Code{BadAnswer, AnswerCut, RedirectRefused, UnexpectedStatus, Undecided, ServerTrouble}, code)
}

// StatusCause returns the code for the HTTP status of an answer that is not
// the one that was asked for.
func StatusCause(status int) Code {
	switch {
	case status == http.StatusOK:
		return BadAnswer
	case status == http.StatusUnauthorized:
		return Unauthorized
	case status == http.StatusForbidden, status == http.StatusUnavailableForLegalReasons:
		return Forbidden
	case status == http.StatusProxyAuthRequired:
		return ProxyAuth
	case status == http.StatusTooManyRequests:
		return TooMany
	case status == http.StatusNetworkAuthenticationRequired:
		return HTML
	case status >= 500:
		return ServerError
	}
	return UnexpectedStatus
}

// HandshakeCause returns the code for a handshake that has failed at a server:
// cause is what tlsmgr calls it, text what crypto/tls has written.
func HandshakeCause(cause, text string) Code {
	switch cause {
	case "refused":
		switch {
		case strings.Contains(text, "unknown certificate authority"):
			return UnknownAuthority
		case strings.Contains(text, "expired certificate"):
			return Expired
		case strings.Contains(text, "revoked certificate"):
			return Revoked
		}
		return ClientRefuses
	case "version":
		return OldVersion
	case "cipher":
		return NoCipher
	case "protocol":
		return NoProtocol
	case "no_certificate":
		return NoCertificate
	case "client_certificate":
		return ClientCertificate
	case "plain_http":
		return HTTPToTLS
	case "timeout":
		return HandshakeSilent
	case "closed":
		return HandshakeCut
	}
	return HandshakeRefused
}
