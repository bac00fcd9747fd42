package doctor

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// Credential is what the server shows to a host of private modules.
type Credential struct {
	// Address is the URL of a repository, or of a host.
	Address string
	// Try shows it there and returns which kind it is; "" if there is none.
	Try func(context.Context) (kind string, err error)
}

// checkCredential tries the credentials of a host of private modules, if it can be
// reached.
func (s *Server) checkCredential(ctx context.Context, c Credential) {
	host := hostOf(c.Address)
	for _, w := range s.ways[host] {
		if !w.wait(ctx) || !w.there {
			return // found by checkHost
		}
	}
	step := s.base.step(host+" credentials", "what is configured for "+hidePasswords(c.Address))
	ctx, cancel := context.WithTimeout(ctx, min(s.base.cfg.Patience, quickPatience))
	defer cancel()
	kind, err := c.Try(ctx)
	switch {
	case err != nil:
		if kind == "" {
			kind = "none"
		}
		text := oneLine(hidePasswords(err.Error()))
		if ctx.Err() != nil {
			text = "no answer to them in " + min(s.base.cfg.Patience, quickPatience).String()
		}
		s.base.found(step, CredentialFails, kind+": "+text, "host", host, "value", text)
	case kind == "":
		step.saw("none: it is asked as anybody may")
	case strings.HasPrefix(c.Address, "ssh://"):
		step.saw("the %s is accepted", kind)
	case strings.Trim(strings.TrimPrefix(c.Address, "https://"), "/") != host:
		step.saw("the %s opens the repository", kind)
	default:
		step.saw("the %s can be read; a module as argument tries it: modgate doctor --server MODULE", kind)
	}
}

// checkPrivate lets the server's own code find a private module.
func (s *Server) checkPrivate(ctx context.Context) {
	if s.cfg.Module == "" {
		return
	}
	step := s.base.step("private module", "the versions of "+s.cfg.Module+", as the server finds them")
	if !module.MatchPrefixPatterns(s.cfg.Private, s.cfg.Module) {
		s.base.found(step, PrivateFails, "no pattern under private matches it: the server takes it for a public one", "value", s.cfg.Module, "where", unmatched, "setting", patternFor(s.cfg.Module))
		return
	}
	if s.cfg.Fetch == nil {
		s.base.found(step, PrivateFails, "direct.go is off: the server fetches no private modules", "value", s.cfg.Module, "where", notFetched)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.base.cfg.Patience)
	defer cancel()
	versions, err := s.cfg.Fetch(ctx, s.cfg.Module)
	if err != nil {
		s.base.found(step, PrivateFails, hidePasswords(err.Error()), "value", s.cfg.Module, "where", notGiven)
		return
	}
	step.saw("%s", counted(len(versions), "version"))
}

// patternFor returns a pattern for the modules beside path: those of its host, or
// of its owner where a host is the public's.
func patternFor(path string) string {
	parts := strings.Split(path, "/")
	depth := 1
	if slices.Contains([]string{"github.com", "gitlab.com", "bitbucket.org", "codeberg.org"}, parts[0]) {
		depth = 2
	}
	if len(parts) <= depth {
		return path
	}
	return strings.Join(parts[:depth], "/") + "/*"
}
