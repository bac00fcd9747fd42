package doctor

import (
	"context"
	"strings"
)

// Credential is what the server shows to a host of private modules.
type Credential struct {
	// Address is the URL of a repository, or of a host.
	Address string
	// Try shows it there and returns which kind it is; "" if there is none.
	Try func(context.Context) (kind string, err error)
}

// checkCredentials tries the credentials of each host of private modules.
func (s *Server) checkCredentials(ctx context.Context) {
	for _, c := range s.cfg.Credentials {
		host := hostOf(c.Address)
		if s.unreachable[host] {
			continue // found by checkHost
		}
		step := s.base.step(host+" credentials", "what is configured for "+hidePasswords(c.Address))
		ctx, cancel := context.WithTimeout(ctx, s.base.cfg.Patience)
		kind, err := c.Try(ctx)
		cancel()
		switch {
		case err != nil:
			if kind == "" {
				kind = "none"
			}
			text := oneLine(hidePasswords(err.Error()))
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
}
