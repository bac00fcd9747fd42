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
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/modgate/modgate/proxy/proxytest"
)

// Every status is exactly one of absent, refused and trouble, and what the
// upstream wrote reaches the log but not the client.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := proxytest.New(t)
	cfg := local(s.URL)
	cfg.Retries = -1
	c := newChain(t, cfg)
	for status := 200; status < 600; status++ {
		switch status {
		case 200, 204, 205, 301, 302, 303, 304, 307, 308:
			continue // other tests
		}
		s.SetFault("*", proxytest.Status(status, "CANARY\x1b[31m <b>"))
		_, err := c.Info(t.Context(), "example.com/a", "v1.0.0")
		e := asError(t, err)
		wantAbsent := status == 404 || status == 410
		wantRefused := status == 403 || status == 451
		if e.Status != status || errors.Is(err, fs.ErrNotExist) != wantAbsent || e.Refused() != wantRefused || e.Timeout() != (status == 504) {
			t.Errorf("%d: %v: absent %v, refused %v, timeout %v", status, err, errors.Is(err, fs.ErrNotExist), e.Refused(), e.Timeout())
		}
		if !strings.Contains(e.Error(), "CANARY") || strings.ContainsFunc(e.Error(), unicode.IsControl) {
			t.Errorf("%d: for the log: %q", status, e.Error())
		}
		if strings.Contains(e.Public(), "CANARY") || !strings.Contains(e.Public(), fmt.Sprint(status)) {
			t.Errorf("%d: for the client: %q", status, e.Public())
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err   error
		text  string
		final bool
		late  bool
	}{
		{io.ErrUnexpectedEOF, "ended the connection early", false, false},
		{errors.New("x"), "cannot be reached", false, false},
		{context.Canceled, "given up", true, false},
		{context.DeadlineExceeded, "in time", true, true},
		{errStalled, "in time", true, true},
		{&net.DNSError{IsNotFound: true}, "does not resolve", true, false},
		{&net.DNSError{IsTimeout: true}, "in time", true, true},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "not trusted", true, false},
		{&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}}}, "another name", true, false},
		{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, "expired", true, false},
		{&tls.CertificateVerificationError{Err: errors.New("x")}, "not valid", true, false},
		{fmt.Errorf("%w: too many", errRedirect), "redirect", true, false},
		{fs.ErrNotExist, "cannot be reached", false, false},
	} {
		e := failed("a.test", "/x", fmt.Errorf("get: %w", c.err))
		if !strings.Contains(e.Public(), c.text) || final(e) != c.final || e.Timeout() != c.late {
			t.Errorf("%v: %q, final %v, timeout %v", c.err, e.Public(), final(e), e.Timeout())
		}
		if errors.Is(e, fs.ErrNotExist) || e.Refused() {
			t.Errorf("%v: is not trouble", c.err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-1": 0, "x": 0, "1m": 0, "Fri, 01 Jan 2010 00:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {v}}); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
	in := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	if got := retryAfter(http.Header{"Retry-After": {in}}); got < 59*time.Minute || got > time.Hour {
		t.Errorf("%q: %v", in, got)
	}
}
