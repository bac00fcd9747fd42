package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxHops bounds redirects.
const maxHops = 5

func (d *Direct) newTransports() (plain, proxied *http.Transport) {
	plain = &http.Transport{
		DialContext:            d.dial,
		TLSClientConfig:        &tls.Config{RootCAs: d.cfg.Trust, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    connectTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true,
	}
	proxied = plain.Clone()
	proxied.DialContext = d.cfg.Dial
	proxied.Proxy = d.cfg.Proxy
	return plain, proxied
}

// send sends one HTTPS request with what is configured for its URL. The body
// of the answer fails when it brings nothing for NoProgress. The error is a
// *DirectError.
func (d *Direct) send(req *http.Request) (*http.Response, error) {
	return d.sendAs(req, d.authorize)
}

// sendAs is send with another way to authorize the request.
func (d *Direct) sendAs(req *http.Request, authorize authorizer) (*http.Response, error) {
	host := req.URL.Host
	if req.URL.Scheme != "https" {
		return nil, troubled(forbidden, nil, "%s is refused: only https is used", host)
	}
	transport, err := d.transport(req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	quiet := &watch{window: d.cfg.NoProgress, cancel: cancel, ctx: ctx}
	quiet.timer = time.AfterFunc(quiet.window, func() { cancel(tooSlow("nothing came for " + quiet.window.String())) })
	req = req.WithContext(ctx)
	judge, err := authorize(ctx, req)
	if err != nil {
		quiet.stop()
		return nil, explained(err, host)
	}
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &watchedBody{ReadCloser: req.Body, watch: quiet, keep: true}
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		quiet.stop()
		return nil, explained(err, host)
	}
	quiet.timer.Stop()
	judge(resp.StatusCode)
	resp.Body = &watchedBody{ReadCloser: resp.Body, watch: quiet}
	return resp, nil
}

// transport chooses the way to the request's host.
func (d *Direct) transport(req *http.Request) (*http.Transport, error) {
	proxy, err := d.cfg.Proxy(req)
	if err != nil { // it quotes the setting, which may hold a password
		return nil, troubled(misconfigured, errors.New("the address of the HTTP proxy is not valid"), "the HTTP proxy for %s is not configured well", req.URL.Host)
	}
	if proxy == nil {
		return d.plain, nil
	}
	if err := d.current().addresses.allowUnresolved(req.URL.Hostname()); err != nil {
		return nil, troubled(forbidden, nil, "%s is refused: %v", req.URL.Host, err)
	}
	return d.proxied, nil
}

// watch ends a conversation in which nothing moves: while the request is sent
// and answered, and while its answer is read. A reader that pauses harms
// nobody.
type watch struct {
	window time.Duration
	timer  *time.Timer
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// watchedBody tells its watch about every byte.
type watchedBody struct {
	io.ReadCloser
	watch *watch
	keep  bool // of a request: the answer is still to come
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.watch.window)
	n, err := b.ReadCloser.Read(p)
	if !b.keep {
		b.watch.timer.Stop()
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.watch.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	if !b.keep {
		b.watch.stop()
	}
	return b.ReadCloser.Close()
}

// get asks for u and follows redirects: over HTTPS alone, and to other hosts
// only where elsewhere allows it. Each hop is judged by itself. On the host of
// u it is also authorized by itself; from the first hop to another host on,
// nothing is shown to anybody, because that host chose what is asked for. It
// returns the answer and its URL.
func (d *Direct) get(ctx context.Context, u *url.URL, header http.Header, elsewhere bool) (*http.Response, *url.URL, error) {
	authorize := authorizer(d.authorize)
	for range maxHops + 1 {
		req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header.Clone()}).WithContext(ctx)
		req.Header.Set("User-Agent", "modgate")
		resp, err := d.sendAs(req, authorize)
		if err != nil {
			return nil, nil, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, u, nil
		}
		_ = resp.Body.Close()
		next, err := u.Parse(resp.Header.Get("Location"))
		switch {
		case err != nil || next.Host == "":
			return nil, nil, troubled(broken, err, "%s redirects to nowhere", u.Host)
		case next.Scheme != "https" || next.User != nil:
			return nil, nil, troubled(forbidden, nil, "%s redirects to where no connection is made: only https is used", u.Host)
		case checkURLPath(next) != nil:
			return nil, nil, troubled(forbidden, checkURLPath(next), "%s redirects to a path that servers may take for another one", u.Host)
		case !sameHost(u, next) && !elsewhere:
			return nil, nil, troubled(forbidden, nil, "%s redirects to another host (%s): name it in a rule for repositories if that is right", u.Host, next.Host)
		case !sameHost(u, next):
			authorize = anonymous
		}
		u = next
	}
	return nil, nil, troubled(broken, nil, "%s redirects more than %d times", u.Host, maxHops)
}

// sameHost reports whether two URLs have the same host and port.
func sameHost(a, b *url.URL) bool {
	port := func(u *url.URL) string { return cmp.Or(u.Port(), defaultPort(u)) }
	return strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// statusTrouble says what a status other than 200 means that u answered with.
func statusTrouble(u *url.URL, resp *http.Response) *DirectError {
	status := resp.StatusCode
	credentials := resp.Request.Header.Get("Authorization") != ""
	cause := fmt.Errorf("HTTP status %d", status)
	switch {
	case (status == http.StatusUnauthorized || status == http.StatusForbidden) && credentials:
		return troubled(unauthorized, cause, "%s refuses the credentials that are configured for it", u.Host)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return troubled(unauthorized, cause, "%s wants credentials, and none are configured for it: add some under credentials in the file of direct.file (docs/private.md); their match is compared with the URL of the repository, port included", u.Host)
	case status == http.StatusNotFound, status == http.StatusGone:
		return troubled(noRepository, cause, "%s has no such repository, or none that modgate may see", u.Host)
	case status == http.StatusProxyAuthRequired:
		return troubled(misconfigured, cause, "the HTTP proxy wants other credentials than those configured")
	case status >= 500 || status == http.StatusTooManyRequests:
		return troubled(unreachable, cause, "%s is in trouble (HTTP status %d)", u.Host, status)
	}
	return troubled(broken, cause, "%s answered with HTTP status %d", u.Host, status)
}
