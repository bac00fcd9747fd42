package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// kind is what an error means for the one who asked, in the order in which
// one outweighs the other.
type kind uint8

const (
	absentNow kind = iota
	refused
	trouble
)

// Error is why an upstream did not give a file. errors.Is(err, fs.ErrNotExist)
// means absent; Refused reports a refusal; everything else is trouble.
//
// Error() is for logs: it may quote the upstream. Public() is for clients: it
// holds nothing that an upstream, a redirect target or a resolver wrote.
// Neither holds credentials.
type Error struct {
	Upstream   string        // its host, with a number if it has several; empty if none was asked
	Path       string        // of the file, below the upstream's base
	Status     int           // HTTP status; 0 if there was none
	RetryAfter time.Duration // how long the upstream asks to wait; 0 if it did not
	Detail     string        // start of the upstream's own text, cleaned, for logs alone
	Err        error         // cause, nil if the status says it all
	Before     *Error        // the last failure of an upstream that is left alone for now; else nil

	kind kind
	text string // what Public says about the upstream
}

// Error describes the failure for a log.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Upstream != "" {
		b.WriteString(e.Upstream + ": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.text)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, " (it says %q)", e.Detail)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is fs.ErrNotExist and the file is absent.
func (e *Error) Is(target error) bool {
	return target == fs.ErrNotExist && e.kind == absentNow
}

// Refused reports whether the upstream understood and will not give.
func (e *Error) Refused() bool { return e.kind == refused }

// Timeout reports whether it took too long.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return e.Status == http.StatusGatewayTimeout || errors.As(e.Err, &t) && t.Timeout()
}

// Public describes the failure for a client in one line.
func (e *Error) Public() string {
	if e.Upstream == "" {
		return e.text
	}
	return "upstream " + e.Upstream + ": " + e.text
}

// tooSlow is the cause of errors whose Timeout is true.
type tooSlow string

func (e tooSlow) Error() string { return string(e) }

// Timeout is always true.
func (tooSlow) Timeout() bool { return true }

// absent is the error for what cannot exist, or is not in any upstream.
func absent(what string, err error) *Error {
	return &Error{kind: absentNow, Path: what, text: "not found", Err: err}
}

// errOff is the error for everything where the list is "off": it must not be
// taken for absence.
func errOff() *Error {
	return &Error{kind: refused, text: `module lookups are turned off here (the upstream list is "off")`}
}

// invalid is the error for a 200 whose body is not what was asked for.
func invalid(upstream, path string, err error) *Error {
	return &Error{Upstream: upstream, Path: path, Status: http.StatusOK, kind: trouble,
		text: "its answer is not what was asked for (a sign-in page or a broken server in between?)", Err: err}
}

// tooLarge is the error for a file above its limit.
func tooLarge(upstream string, f file) *Error {
	return &Error{Upstream: upstream, Path: f.path, Status: http.StatusOK, kind: trouble,
		text: fmt.Sprintf("%s is larger than %d bytes, the limit for %s files", f.path, f.max, f.kind)}
}

// statusError is the one place that turns an upstream's status into absent,
// refused or trouble.
func statusError(upstream, path string, resp *http.Response) *Error {
	e := &Error{Upstream: upstream, Path: path, Status: resp.StatusCode, kind: trouble}
	e.text = strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		// The only two that the go command takes for absence.
		e.kind = absentNow
	case http.StatusForbidden, http.StatusUnavailableForLegalReasons:
		e.kind = refused
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		// Not the module is refused but our credentials: an administrator
		// mends it, and until then what is cached must still be served.
		e.text += ": it does not accept the credentials configured for it"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		e.RetryAfter = retryAfter(resp.Header)
	}
	e.Detail = excerpt(resp)
	return e
}

// failed is the error of a request without a usable answer. It is trouble
// even if the cause wraps fs.ErrNotExist, which a dial of a missing Unix
// socket or a lost CA file does.
func failed(upstream, path string, err error) *Error {
	return &Error{Upstream: upstream, Path: path, kind: trouble, text: explain(err), Err: opaque{err}}
}

// opaque hides from errors.Is that the cause may be fs.ErrNotExist.
type opaque struct{ error }

func (o opaque) Is(target error) bool { return target != fs.ErrNotExist && errors.Is(o.error, target) }
func (o opaque) As(target any) bool   { return errors.As(o.error, target) }

// proxyRefusal is an HTTP proxy's no to CONNECT.
type proxyRefusal struct{ status int }

func (e *proxyRefusal) Error() string {
	return fmt.Sprintf("the HTTP proxy answers %d %s", e.status, http.StatusText(e.status))
}

// ProxyStatus is the status of its answer.
func (e *proxyRefusal) ProxyStatus() int { return e.status }

// explain names the cause of a failed request in words of our own.
func explain(err error) string {
	var (
		unknownCA x509.UnknownAuthorityError
		wrongName x509.HostnameError
		invalidCA x509.CertificateInvalidError
		dns       *net.DNSError
		cert      *tls.CertificateVerificationError
		timeout   interface{ Timeout() bool }
		proxy     *proxyRefusal
		op        *net.OpError
	)
	switch {
	case errors.As(err, &proxy) && proxy.status == http.StatusProxyAuthRequired:
		return "the HTTP proxy in between wants a password, or another one"
	case errors.As(err, &proxy):
		return "the HTTP proxy in between does not let requests through"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the HTTP proxy in between cannot be reached"
	case errors.Is(err, errRedirect):
		return "it redirects to where modgate does not follow"
	case errors.Is(err, context.Canceled):
		return "the request was given up"
	case errors.As(err, &unknownCA):
		return "its certificate is signed by an authority that is not trusted here"
	case errors.As(err, &wrongName):
		return "its certificate is for another name"
	case errors.As(err, &invalidCA) && invalidCA.Reason == x509.Expired:
		return "its certificate has expired, or a clock is wrong"
	case errors.As(err, &cert):
		return "its certificate is not valid"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "its name does not resolve"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "it did not answer in time"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "it ended the connection early"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "it refuses connections"
	}
	return "it cannot be reached"
}

// final reports whether asking the same upstream again at once is pointless.
func final(err *Error) bool {
	if err.kind != trouble || err.Timeout() {
		return true
	}
	switch {
	case err.Status == http.StatusTooManyRequests:
		return false
	case err.Status == http.StatusNotImplemented:
		return true
	case err.Status != 0:
		return err.Status < 500
	}
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	var proxy *proxyRefusal
	return errors.As(err.Err, &cert) || errors.As(err.Err, &proxy) || errors.As(err.Err, &dns) && dns.IsNotFound ||
		errors.Is(err.Err, errRedirect) || errors.Is(err.Err, context.Canceled)
}

// excerpt returns the beginning of an answer without anything that could
// disturb a terminal or a log. It reads on for a bit, because only a body that
// was read to its end leaves the connection usable.
func excerpt(resp *http.Response) string {
	data := make([]byte, 300)
	n, _ := io.ReadFull(resp.Body, data) // whatever came
	_, _ = io.CopyN(io.Discard, resp.Body, 16<<10)
	text := strings.Map(func(r rune) rune {
		switch {
		case r == unicode.ReplacementChar || !unicode.IsGraphic(r) && !unicode.IsSpace(r):
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, string(data[:n]))
	return strings.Join(strings.Fields(text), " ")
}

// retryAfter understands both forms of the header (RFC 9110, 10.2.3).
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), 1<<20)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}
