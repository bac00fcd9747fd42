package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/tlsmgr"
)

// ServerConfig says what a server is configured for, and how this machine is
// looked at.
type ServerConfig struct {
	// Machine is how this machine is looked at. Its URL and Module are not used.
	Machine Config
	// Subject names the configuration.
	Subject string
	// Mistakes is what is wrong with the configuration; nil: nothing.
	Mistakes error
	// Unusable are files of the configuration that have mistakes.
	Unusable []Unused
	// Dirs are written by the server.
	Dirs []Dir
	// Files are read by the server.
	Files []File
	// Upstreams are the URLs of the proxies that public modules come from.
	Upstreams []string
	// SumDB is as in GOSUMDB.
	SumDB string
	// Private are patterns as in GOPRIVATE.
	Private string
	// Hosts are URLs of the hosts that private modules come from: https:// ones
	// are asked for their certificate, of others only the port is tried.
	Hosts []string
	// Shared is what replicas share. It is asked as the server would.
	Shared []Shared
	// Credentials are tried, each at its address.
	Credentials []Credential
	// Trust are files with authorities beside those of the system.
	Trust []string
	// Git returns what git --version prints. Nil: git is not needed.
	Git func(context.Context) (string, error)
	// Module is a private module that Fetch is tried with. Empty: none.
	Module string
	// Fetch lists the versions of a private module, as the server does it.
	Fetch func(ctx context.Context, path string) ([]string, error)
	// Ask asks the running server, and sets Running, Certificates, Down and the
	// Instance of ACME by what it says. Nil: they are as given.
	Ask func(context.Context, *ServerConfig)
	// Running is what a running server has found by itself.
	Running []Finding
	// Certificates is what the server says of its certificates.
	Certificates []tlsmgr.Status
	// Down is why the server could not be asked; nil: it was.
	Down error
	// Keeper has the configuration of the server's certificates and does not
	// run: it reads files and storage. Nil: there is none, for the reason
	// KeeperFails if that is not nil.
	Keeper      *tlsmgr.Manager
	KeeperFails error
	// ACME is nil if certificates do not come from a CA.
	ACME *ACME
}

// Dir is a directory that the server writes.
type Dir struct {
	Key, Path string
	Max       int64 // how much the server may keep there, bytes; 0: no matter
	Lost      error // why it is not the one that a running server has opened; nil: it is, or none runs
}

// File is a file that the server reads.
type File struct {
	Key, Path string
	Secret    bool
}

// Server examines the machine of a server. It is used once.
type Server struct {
	cfg  *ServerConfig // of all parts; what Ask sets is read by those that wait for it
	base *Doctor
	*learnt
	*plan
	grace time.Duration // of end
}

// learnt is what parts of an examination leave for others, which wait for them.
type learnt struct {
	stored     []tlsmgr.Stored // of ACME.Keeper
	identities []string        // what the CA is called in CAA records
	account    string          // the URL of ours at the CA
	foreign    string          // the user of the server, if it is another
}

// NewServer checks the configuration.
func NewServer(c ServerConfig) (*Server, error) {
	c.Machine.URL, c.Machine.Module = "", module.Version{}
	if c.Machine.System != nil { // the server is this program, not the go command
		c.Machine.Resolver = c.Machine.System
	}
	// The names of private modules go to no checksum database; everything else
	// of the go command's settings is not the server's.
	c.Machine.Environ = append(c.Machine.Environ[:len(c.Machine.Environ):len(c.Machine.Environ)],
		"GOENV=off", "GOPROXY=", "GOPRIVATE=", "GONOPROXY=none", "GOSUMDB="+c.SumDB, "GONOSUMDB="+c.Private, "GOAUTH=off")
	base, err := New(c.Machine)
	if err != nil {
		return nil, err
	}
	base.places = append([]Place{OnServer}, base.places...)
	base.report.Subject = "server, " + c.Subject
	return &Server{cfg: &c, base: base, learnt: new(learnt), grace: grace, plan: &plan{ways: map[string][]*way{}}}, nil
}

func (s *Server) checkConfig() {
	step := s.base.step("configuration", s.cfg.Subject)
	for _, f := range s.cfg.Unusable {
		text := hidePasswords(f.Text)
		first, _, _ := strings.Cut(text, "\n")
		s.base.found(step, ConfigMistake, text, "value", first, "file", f.Path, "where", f.Key)
	}
	if s.cfg.Mistakes == nil {
		return
	}
	for line := range strings.Lines(s.cfg.Mistakes.Error()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "→") && !strings.HasSuffix(line, "in the configuration") {
			s.base.found(step, ConfigMistake, s.cfg.Mistakes.Error(), "value", hidePasswords(line))
			return
		}
	}
}

// trust adds authorities to those of the system.
func (s *Server) trust(files []string) {
	for _, name := range files {
		data, err := s.base.cfg.readFile(name)
		if err == nil {
			s.base.roots.AppendCertsFromPEM(data)
			s.base.named = append(s.base.named, anyCertificates(data)...)
		}
	}
}

// toward returns a Doctor for one address, which writes into the same report.
func (s *Server) toward(about, address string) (*Doctor, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("%q is no URL with a host", hidePasswords(address))
	}
	d := &Doctor{cfg: s.base.cfg, report: s.base.report, places: s.base.places, settings: s.base.settings, roots: s.base.roots, named: s.base.named, about: about}
	d.hide(u)
	u.Path = strings.TrimSuffix(u.Path, "/")
	d.target = u
	d.checkHTTPProxy()
	return d, nil
}

// leave takes the secrets of d along, to be masked at the end.
func (s *Server) leave(d *Doctor) { s.base.secrets = append(s.base.secrets, d.secrets...) }

func (s *Server) checkUpstream(ctx context.Context, address string) {
	if address == "direct" || address == "off" {
		if address == "direct" {
			s.base.found(s.base.step("upstream", address), UpstreamDirect, "upstream has "+address, "value", address)
		}
		return
	}
	u, err := url.Parse(address)
	if err == nil && u.Scheme == "file" {
		return // a directory, which no network is between
	}
	d, err := s.toward(hostOf(address)+" ", address)
	if err != nil {
		s.base.found(s.base.step("upstream", "its URL"), ConfigMistake, err.Error(), "value", err.Error())
		return
	}
	if d.reach(ctx) {
		d.examineHTTP(ctx)
	}
	s.leave(d)
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// checkHost tries the way to a host of private modules, and reports whether
// somebody answers there.
func (s *Server) checkHost(ctx context.Context, address string) bool {
	d, err := s.toward(hostOf(address)+" ", address)
	if err != nil {
		return true // a pattern need not name a host
	}
	there := false
	if d.target.Scheme == "https" {
		there = d.reach(ctx)
	} else if d.resolve(ctx) {
		there = d.connect(ctx)
	}
	s.leave(d)
	return there
}

// maxClocks bounds how many hosts are asked for the time.
const maxClocks = 6

// checkClock compares our clock with those of others: hosts of the public with
// good clocks, and those that the server has to do with.
func (s *Server) checkClock(ctx context.Context) {
	step := s.base.step("clock", "compared with other hosts")
	offset, sure := s.base.offset(ctx, step, nil)
	if sure {
		s.base.clockFound(step, offset)
	}
	if len(step.Seen) == 0 {
		step.Verdict = Skip
		step.saw("no host says what time it is")
	}
}

// clocks returns the URLs that are asked for the time. Of the hosts of the
// configuration only the beginning is asked for, without credentials.
func (s *Server) clocks() []string {
	all := slices.Clone(s.base.cfg.ClockURLs)
	seen := map[string]bool{}
	for _, address := range all {
		seen[hostOf(address)] = true
	}
	more := slices.Concat(s.cfg.Upstreams, s.cfg.Hosts)
	for _, shared := range s.cfg.Shared {
		more = append(more, shared.URLs...)
	}
	if s.cfg.ACME != nil {
		more = append(more, s.cfg.ACME.Directory)
	}
	for _, address := range more {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || seen[u.Host] || len(all) >= maxClocks {
			continue
		}
		seen[u.Host] = true
		all = append(all, u.Scheme+"://"+u.Host+"/")
	}
	return all
}

// rootsOf returns the certificates in files alone.
func (s *Server) rootsOf(files []string) (pool *x509.CertPool, named []*x509.Certificate) {
	pool = x509.NewCertPool()
	for _, name := range files {
		if data, err := s.base.cfg.readFile(name); err == nil {
			pool.AppendCertsFromPEM(data)
			named = append(named, anyCertificates(data)...)
		}
	}
	return pool, named
}
