package proxy

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

// redirect sends a client for a zip to where the store keeps it, if it may have
// it, the zip is public and was proven, and nothing of the request could leak.
// done is false if it is to be answered here.
func (s *Server) redirect(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request) (done bool) {
	if s.locator == nil || req.kind != KindZip || r.Method != http.MethodGet || req.from != s.public || !req.from.authority {
		return false
	}
	where, attrs, err := s.locator.Locate(r.Context(), req.name)
	if err != nil || attrs.H1 == "" || attrs.Size < worthRedirect {
		return false
	}
	to, err := url.Parse(where)
	if err != nil || leaks(r, to) {
		return false
	}
	req.since = firstSeen(attrs)
	if !s.permit(w, r, caller, req) {
		return true
	}
	access.From(w).Outcome = access.Hit
	h := w.Header()
	h.Set("Location", where)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusFound)
	return true
}

// worthRedirect is the size, in bytes, from which on a second connection is
// worth it.
const worthRedirect = 256 << 10

// leaks reports whether a client would tell to what it should not, or would not
// follow. net/http keeps credentials from other hosts, but not from those below
// the name of the first one, and a storage answers 400 to what is authenticated
// twice. The go command does not go from https to http.
func leaks(r *http.Request, to *url.URL) bool {
	secure := r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
	if secure && to.Scheme != "https" {
		return true
	}
	if r.Header.Get("Authorization") == "" && r.Header.Get("Cookie") == "" {
		return false
	}
	ours := (&url.URL{Host: strings.ToLower(r.Host)}).Hostname()
	theirs := strings.ToLower(to.Hostname())
	if _, err := netip.ParseAddr(ours); err == nil {
		return ours == theirs
	}
	return theirs == ours || strings.HasSuffix(theirs, "."+ours)
}

// locatorOf returns the ability of store to locate objects, if that is wanted.
func locatorOf(store cache.Store, wanted bool) cache.Locator {
	l, ok := store.(cache.Locator)
	if !wanted || !ok {
		return nil
	}
	return l
}
