package doctor

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

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

// checkCertificates says what the running server says of its certificates.
func (s *Server) checkCertificates() {
	step := s.base.step("certificates", "what the running server says of them")
	if s.cfg.Down != nil {
		s.base.found(step, NotRunning, oneLine(s.cfg.Down.Error()))
	}
	for _, c := range s.cfg.Certificates {
		if !c.NotAfter.IsZero() {
			step.saw("%s: until %s, issued by %s", c.Name, day(c.NotAfter), c.Issuer)
		}
		next := ""
		if !c.NextAttempt.IsZero() {
			next = "; next attempt " + day(c.NextAttempt)
		}
		switch {
		case c.Problem != nil:
			s.base.found(step, ACMEProblem, oneLine(c.Problem.String())+next, "host", c.Name, "value", oneLine(c.Problem.String()))
		case c.Alarm != "":
			s.base.found(step, CertificateAlarm, c.Alarm, "host", c.Name, "value", oneLine(c.Alarm))
		}
	}
}

// checkACME tries the way to the CA, and the way of the CA to us.
func (s *Server) checkACME(ctx context.Context) {
	if s.cfg.ACME == nil {
		return
	}
	s.checkDirectory(ctx)
	for _, name := range s.cfg.ACME.Names {
		s.checkName(ctx, name)
	}
}

// checkDirectory asks for the ACME directory (RFC 8555, section 7.1.1).
func (s *Server) checkDirectory(ctx context.Context) {
	a := s.cfg.ACME
	d, err := s.toward("CA ", a.Directory)
	if err != nil {
		return // a mistake of the configuration, which is told there
	}
	if len(a.Roots) > 0 {
		d.roots = s.rootsOf(a.Roots)
	}
	if !d.reach(ctx) {
		return
	}
	step := d.step("directory", a.Directory)
	answer := d.get(ctx, a.Directory, nil)
	if !d.good(ctx, step, answer) {
		return
	}
	var directory struct {
		NewOrder string `json:"newOrder"`
	}
	if err := json.Unmarshal(answer.body, &directory); answer.status != http.StatusOK || err != nil || directory.NewOrder == "" {
		d.found(step, ACMEDirectory, answer.text+", without newOrder", "value", answer.text, "url", a.Directory)
	}
	s.leave(d)
}

// checkName looks where a name leads, and whether the CA would find us there.
func (s *Server) checkName(ctx context.Context, name string) {
	a := s.cfg.ACME
	step := s.base.step(name, "its addresses, and port "+a.Port+" by name")
	addrs, _, err := s.base.lookup(ctx, name)
	if err != nil {
		if a.Port != "" {
			s.base.found(step, ACMENoName, err.Error(), "host", name)
		} else {
			step.saw("%v", err)
		}
		return
	}
	var texts []string
	for _, addr := range addrs {
		texts = append(texts, addr.String())
	}
	step.saw("%s", strings.Join(texts, ", "))
	if !slices.ContainsFunc(addrs, func(addr netip.Addr) bool { return slices.Contains(a.Local, addr) }) {
		s.base.found(step, ACMEElsewhere, strings.Join(texts, ", "), "host", name, "value", strings.Join(texts, ", "))
	}
	if a.Port == "" {
		return
	}
	ctx, cancel := s.base.within(ctx)
	defer cancel()
	start := time.Now()
	conn, err := s.base.cfg.Dial(ctx, "tcp", net.JoinHostPort(addrs[0].String(), a.Port))
	if err != nil {
		s.base.found(step, ACMEPort, err.Error(), "host", name, "port", a.Port)
		return
	}
	conn.Close()
	step.saw("port %s answers in %v", a.Port, since(start))
}
