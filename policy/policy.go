// Package policy says who may have what, from where, and why not. Its
// functions are pure: they look at rules and facts, never at the network, the
// disk or the clock.
package policy

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/mod/module"
)

// Caller is who asks. The zero Caller is anonymous.
type Caller struct {
	// Name identifies the caller in logs; empty for anonymous.
	Name string
	// Groups that rules may refer to.
	Groups []string
}

// Inside is the group of the server itself, when it fills its cache for nobody in
// particular. No token can have it. Rules for all hold for it; of those for groups it
// is one whom they allow or exempt, and none whom they refuse, so that the cache can
// have what at least one caller may.
const Inside = "modgate:inside"

// Place is where a module may be looked up.
type Place uint8

const (
	// Public modules come from the upstream list and are proven by the
	// checksum database.
	Public Place = iota
	// Private modules come from their repository alone. Neither their name nor
	// that of a parent is ever told to an upstream, to a checksum database or
	// to a resolver that serves the public.
	Private
	// Nowhere is a path that cannot be a module: it is answered locally.
	Nowhere
)

// Route is the answer to "may this name be looked up, and where".
type Route struct {
	Place Place
	// Reason is one line for the client where Place is Nowhere.
	Reason string
}

// Config configures a Policy. The zero value allows everything and knows no
// private modules.
type Config struct {
	// Private are patterns as in GOPRIVATE: comma-separated globs matched
	// against path prefixes, as module.MatchPrefixPatterns does.
	Private string
	// Rules say who may have what. Default: everything is allowed.
	Rules Rules
}

// Policy decides. It is immutable and safe for concurrent use.
type Policy struct {
	private  string
	patterns [][]string // private, split into path elements

	rules     []rule
	exact     index // rules that allow, by their patterns
	folded    index // rules that restrict, by their patterns in lower case
	otherwise rule  // for what no rule decides
	judges    bool  // there is something that could refuse, or note
	strict    bool  // a rule refuses go.mod files too
}

// New checks cfg and returns the Policy. All mistakes are reported at once.
func New(cfg Config) (*Policy, error) {
	p := &Policy{private: strings.ToLower(cfg.Private)}
	var errs []error
	for pattern := range strings.SplitSeq(p.private, ",") {
		if pattern == "" {
			continue
		}
		if err := checkPattern(pattern); err != nil {
			errs = append(errs, fmt.Errorf("private: pattern %q: %w", pattern, err))
		}
		p.patterns = append(p.patterns, strings.Split(strings.TrimSuffix(pattern, "/"), "/"))
	}
	errs = append(errs, p.compile(cfg.Rules)...)
	return p, errors.Join(errs...)
}

// Route says where path may be looked up. It is asked before anything leaves
// the host. The path must be a valid, unescaped module path.
func (p *Policy) Route(_ Caller, modulePath string) Route {
	switch {
	case p.isMatched(modulePath):
		return Route{Place: Private}
	case p.isParent(modulePath):
		return Route{Place: Nowhere, Reason: "private modules lie below this path, which is therefore not looked up"}
	case isShort(modulePath):
		return Route{Place: Nowhere, Reason: "a module on this host has at least three path elements"}
	}
	return Route{Place: Public}
}

// IsPrivate reports whether modulePath is matched by a private pattern or is a
// parent of what one matches: `go get git.corp/team/repo` also asks for
// git.corp and git.corp/team, which would tell the public the same. Case does
// not count: hosts have none, and the large ones have none in their paths.
func (p *Policy) IsPrivate(modulePath string) bool {
	return p.isMatched(modulePath) || p.isParent(modulePath)
}

func (p *Policy) isMatched(modulePath string) bool {
	return p.private != "" && module.MatchPrefixPatterns(p.private, strings.ToLower(modulePath))
}

// isParent reports whether modulePath is a proper prefix of something that a
// pattern matches. A pattern that begins with a bare wildcard has no parents:
// "*/*/secret" must not make every two-element path private.
func (p *Policy) isParent(modulePath string) bool {
	if len(p.patterns) == 0 {
		return false
	}
	modulePath = strings.ToLower(modulePath)
	n := strings.Count(modulePath, "/") + 1
	for _, elems := range p.patterns {
		if n >= len(elems) || strings.Trim(elems[0], "*?") == "" {
			continue
		}
		if ok, _ := path.Match(strings.Join(elems[:n], "/"), modulePath); ok {
			return true
		}
	}
	return false
}

// isShort reports whether modulePath is one of the paths that the go command
// asks for on its way up from a package but that can never be a module: the
// hosts below name a repository with at least two elements behind the host
// (github.com and bitbucket.org: cmd/go/internal/vcs, vcsPaths).
func isShort(modulePath string) bool {
	host, rest, _ := strings.Cut(modulePath, "/")
	switch host {
	case "github.com", "bitbucket.org", "gitlab.com":
		return !strings.Contains(rest, "/")
	}
	return false
}
