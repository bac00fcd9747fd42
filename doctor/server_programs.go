package doctor

import (
	"context"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/mod/semver"
	"golang.org/x/net/http/httpproxy"
)

// directly returns which HTTP proxy applies to an address, by this machine's
// environment.
func (s *Server) directly() func(*url.URL) (*url.URL, error) {
	c := &s.base.cfg
	value := func(name string) string {
		if v := c.env(name); v != "" {
			return v
		}
		return c.env(strings.ToLower(name))
	}
	return (&httpproxy.Config{HTTPProxy: value("HTTP_PROXY"), HTTPSProxy: value("HTTPS_PROXY"), NoProxy: value("NO_PROXY")}).ProxyFunc()
}

// gitFloor is the release with the fixes of CVE-2025-48384. Distributions carry
// them back to older ones, which their version does not tell.
const gitFloor = "v2.50.1"

// checkPrograms looks at go and git, if private modules need them.
func (s *Server) checkPrograms(ctx context.Context) {
	if s.cfg.Git == nil {
		return
	}
	step := s.base.step("programs", "go and git, which fetch private modules")
	switch v := s.base.settings.version; {
	case v == "":
		s.base.found(step, ProgramMissing, "PATH="+s.base.cfg.env("PATH"), "value", "go")
	default:
		step.saw("%s in %s", v, s.base.settings.goroot)
		if foolable(v) {
			s.base.found(step, ProgramOld, s.base.settings.goroot, "value", v)
		}
	}
	text, err := s.cfg.Git(ctx)
	if err != nil {
		s.base.found(step, ProgramMissing, err.Error(), "value", "git")
		return
	}
	step.saw("%s", oneLine(text))
	if v := gitVersion(text); v != "" && semver.Compare(v, gitFloor) < 0 && !s.patchedByDistribution() {
		s.base.found(step, ProgramOld, oneLine(text), "value", oneLine(text))
	}
}

// gitVersion returns the version in what git --version prints, as vX.Y.Z.
func gitVersion(text string) string {
	v := "v" + regexp.MustCompile(`\d+\.\d+(\.\d+)?`).FindString(text)
	return semver.Canonical(v)
}

// patchedByDistribution reports whether this is a system whose releases of git
// keep their version when a hole is mended.
func (s *Server) patchedByDistribution() bool {
	return s.base.applies(Debian) || s.base.applies(RHEL)
}
