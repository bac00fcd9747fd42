package proxy

import (
	"strings"
	"time"

	"github.com/modgate/modgate/policy"
)

// supply is where the modules of one place come from and what is asked about
// their bytes.
type supply struct {
	source   Source
	verifier Verifier // nil: nobody is asked
	// authority says that verifier has known the bytes before we do. Others
	// learn them from us, so that we look whether they are well-formed.
	authority bool
	list      time.Duration // how long an answer that changes is believed
	negative  time.Duration // how long an absence is remembered
	scope     string        // of Cache-Control: who may keep an answer
	forever   string        // Cache-Control of files that never change
}

func newSupply(source Source, verifier Verifier, list, negative time.Duration, scope string) *supply {
	return &supply{
		source: source, verifier: verifier, list: list, negative: negative, scope: scope,
		// A year is the longest that caches are asked to honour (RFC 9111).
		forever: scope + ", max-age=31536000, immutable",
	}
}

// maxAge is the Cache-Control of an answer that may be kept for d.
func (s *supply) maxAge(d time.Duration) string { return s.scope + ", max-age=" + seconds(d) }

// supplyOf returns where modules of route come from, nil if nowhere.
func (s *Server) supplyOf(route policy.Route) *supply {
	switch route.Place {
	case policy.Public:
		return s.public
	case policy.Private:
		return s.private
	}
	return nil
}

// noSupply tells a client why path is not looked up anywhere.
func noSupply(path string, route policy.Route) string {
	reason := route.Reason
	if route.Place == policy.Private {
		reason = "this module is private, and this server fetches no private modules"
	}
	return strings.TrimSuffix(path+": "+reason, ": ")
}
