package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
)

const maxRedirects = 5

// CauseRedirect is what the method Cause of errors tells of redirects that are not
// followed.
const CauseRedirect = "redirect"

// notFollowed is a redirect that is not followed.
type notFollowed string

func (n notFollowed) Error() string { return string(n) }
func (n notFollowed) Cause() string { return CauseRedirect }

const errRedirect = notFollowed("redirect not followed")

// client sends GET requests and follows redirects. It knows one secret, the
// credentials in the URL of the upstream, and sends it to that scheme, host
// and port alone. (net/http would send it to subdomains, and other headers
// anywhere.)
type client struct {
	transport interface {
		http.RoundTripper
		CloseIdleConnections()
	}
	userAgent     string
	redirectHosts []string
}

func newClient(cfg Config) *client {
	return &client{transport: newTransport(cfg), userAgent: cfg.UserAgent, redirectHosts: cfg.RedirectHosts}
}

// get asks for target, with the given headers. The caller closes the body.
func (c *client) get(ctx context.Context, target *url.URL, extra http.Header) (*http.Response, error) {
	first := target
	for hops := 0; ; hops++ {
		req := (&http.Request{
			Method: http.MethodGet,
			URL:    withoutUser(target),
			Host:   target.Host,
			Header: http.Header{"User-Agent": {c.userAgent}},
		}).WithContext(ctx)
		for k, v := range extra { // Range and If-Range: no secrets
			req.Header[k] = v
		}
		if user := first.User; user != nil && sameOrigin(first, target) {
			password, _ := user.Password()
			req.SetBasicAuth(user.Username(), password)
		}
		resp, err := c.transport.RoundTrip(req)
		if err != nil || !isRedirect(resp.StatusCode) {
			return resp, err
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
		resp.Body.Close()
		if hops == maxRedirects {
			return nil, fmt.Errorf("%w: more than %d of them", errRedirect, maxRedirects)
		}
		if target, err = c.next(first, target, resp.Header.Get("Location")); err != nil {
			return nil, err
		}
	}
}

// next checks where a redirect leads. Its errors name no more than the host,
// because the rest of such a URL is often a secret.
func (c *client) next(first, from *url.URL, location string) (*url.URL, error) {
	to, err := from.Parse(location)
	switch {
	case location == "" || err != nil:
		return nil, fmt.Errorf("%w: its Location cannot be parsed", errRedirect)
	case to.Scheme != "http" && to.Scheme != "https" || to.Host == "":
		return nil, fmt.Errorf("%w: it leads out of HTTP (scheme %.20q)", errRedirect, to.Scheme)
	case from.Scheme == "https" && to.Scheme == "http":
		return nil, fmt.Errorf("%w: it leads from https to http (host %.100q)", errRedirect, to.Host)
	case to.Host != first.Host && !c.allows(to.Hostname()):
		return nil, fmt.Errorf("%w: host %.100q is not among those that may be redirected to", errRedirect, to.Host)
	}
	return to, nil
}

func (c *client) allows(host string) bool {
	for _, pattern := range c.redirectHosts {
		if ok, err := path.Match(pattern, host); ok && err == nil {
			return true
		}
	}
	return len(c.redirectHosts) == 0
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

func withoutUser(u *url.URL) *url.URL {
	c := *u
	c.User = nil
	c.Fragment = ""
	return &c
}
