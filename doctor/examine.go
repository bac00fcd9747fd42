package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// Doctor examines one proxy from one machine. A Doctor is used once.
type Doctor struct {
	cfg      Config
	report   *Report
	places   []Place
	settings *settings

	about         string   // in front of the names of steps, where several proxies are examined
	target        *url.URL // nil if there is none
	secrets       []string // that must not be printed
	netrc         []netrcEntry
	auth          *goauth                          // nil: no command of GOAUTH is run
	netrcDefault  bool                             // it has an entry for all machines, which the go command passes over
	via           func(*url.URL) (*url.URL, error) // the HTTP proxy that applies
	proxyVariable string                           // that names it
	excepted      string                           // the HTTP proxy that would apply, were it not for NO_PROXY

	unannounced []string // patterns of modules that are private at the proxy, and not here

	bySystem bool // names are looked up by the system
	roots    *x509.CertPool
	named    []*x509.Certificate // those of roots that somebody has named, or put there by hand
	addrs    []netip.Addr        // of the target, those that answer first
	speed    speed
}

// New checks the configuration.
func New(c Config) (*Doctor, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	d := &Doctor{cfg: c, auth: new(goauth)}
	d.settings = readSettings(&d.cfg)
	d.places = d.findPlaces()
	d.report = &Report{Subject: "GOPROXY", Findings: []Finding{}, made: c.Now().UTC()}
	for _, p := range d.places {
		d.report.System = append(d.report.System, string(p))
	}
	return d, nil
}

// Examine tries everything and returns what was found. It takes a few seconds,
// Config.Limit at most if no module was named, and ends early when ctx does.
func (d *Doctor) Examine(ctx context.Context) *Report {
	if d.cfg.Module == wellKnown() {
		limited, cancel := context.WithTimeout(ctx, d.cfg.Limit)
		defer cancel()
		ctx, d.report.over = limited, overWith(limited)
	}
	d.checkGoproxy(ctx)
	d.checkSettings()
	d.checkCredentials()
	d.checkHTTPProxy()
	d.loadRoots()
	d.checkDirectories()
	if d.target != nil && d.reach(ctx) {
		d.authorize(ctx)
		d.examineHTTP(ctx)
	}
	d.tellLate(d.cfg.Limit)
	d.report.mask(d.secrets)
	d.report.finish()
	return d.report
}

// reach goes as far as a TLS connection, or a TCP connection for http://, and
// reports whether it got there.
func (d *Doctor) reach(ctx context.Context) bool {
	via, err := d.via(d.target)
	if err != nil {
		return false // found by checkHTTPProxy
	}
	if via != nil {
		if !d.connectThrough(ctx, via) {
			return false
		}
	} else if !d.resolve(ctx) || !d.connect(ctx) {
		return false
	}
	return d.target.Scheme == "http" || d.examineTLS(ctx)
}

// step begins a step.
func (d *Doctor) step(name, tried string) *Step { return d.report.step(d.about+name, tried) }

// found notes a finding. with has the words for the braces of its texts, beside
// those about the target.
func (d *Doctor) found(s *Step, code Code, seen string, with ...string) {
	e := lookup(code)
	words := map[string]string{}
	if d.target != nil {
		words["host"], words["port"], words["url"] = d.target.Hostname(), portOf(d.target), d.display()
		words["machine"] = strings.TrimSuffix(d.target.Host, ":443")
		if d.settings != nil {
			words["from"] = d.settings.get("GOPROXY").From
		}
	}
	for i := 0; i+1 < len(with); i += 2 {
		words[with[i]] = with[i+1]
	}
	if words["where"] == "" && code == TCPRefused {
		words["where"] = atClient
		if d.applies(OnServer) {
			words["where"] = atServer
		}
	}
	words["nosumdb"], words["noproxy"] = d.change("GONOSUMDB", "your-private-pattern"), d.change("GONOPROXY", "none")
	words["variable"] = cmp.Or(words["variable"], d.proxyVariable, "HTTPS_PROXY")
	words["bypass"] = d.bypass(cmp.Or(words["host"], "HOST"))
	f := Finding{Code: code, Severity: e.Severity, Title: fill(e.Title, words), Seen: seen, Cause: fill(e.Cause, words), Mend: []string{}}
	for _, m := range e.Mend {
		if !d.concerns(m.On, words) {
			continue
		}
		said := fill(m.Do, words)
		do := inShell(d.cfg.OS, said)
		if m.On == Docker || m.On == GitHub || m.On == GitLab || m.On == Kubernetes {
			do = string(m.On) + ": " + do
		}
		f.Mend = append(f.Mend, do)
		if m.On == InEnvironment || m.On == Fitted {
			f.Mend = append(f.Mend, d.lasting(said)...)
		}
	}
	d.report.add(s, f)
}

// concerns reports whether a remedy for p is one for a finding with these words.
func (d *Doctor) concerns(p Place, words map[string]string) bool {
	condition, isCondition := strings.CutPrefix(string(p), conditionally)
	switch {
	case p == InEnvironment || p == ByGoEnv || p == InGoroot:
		return p == d.source(words["from"])
	case p == AsTold:
		return words["advice"] != ""
	case p == Fitted:
		return words["command"] != ""
	case isCondition:
		return condition == words["where"]
	}
	return d.applies(p)
}

func (d *Doctor) applies(p Place) bool {
	if p == Anywhere {
		return true
	}
	for _, here := range d.places {
		if here == p {
			return true
		}
	}
	return false
}

// findPlaces returns what this machine is.
func (d *Doctor) findPlaces() []Place {
	c := &d.cfg
	var places []Place
	switch c.OS {
	case "darwin":
		places = append(places, MacOS)
	case "windows":
		places = append(places, Windows)
	default:
		data, _ := c.readFile("/etc/os-release")
		release := " "
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if name == "ID" || name == "ID_LIKE" {
				release += strings.Trim(value, `"'`) + " "
			}
		}
		switch {
		case strings.Contains(release, " debian ") || strings.Contains(release, " ubuntu "):
			places = append(places, Debian)
		case strings.Contains(release, " alpine "):
			places = append(places, Alpine)
		case strings.Contains(release, " rhel ") || strings.Contains(release, " fedora ") || strings.Contains(release, " centos "):
			places = append(places, RHEL)
		}
		places = append(places, Linux)
	}
	if c.env("GITHUB_ACTIONS") != "" {
		places = append(places, GitHub)
	}
	if c.env("GITLAB_CI") != "" {
		places = append(places, GitLab)
	}
	if c.env("KUBERNETES_SERVICE_HOST") != "" {
		places = append(places, Kubernetes)
	} else if _, err := c.readFile("/.dockerenv"); err == nil {
		places = append(places, Docker)
	}
	return places
}

// display is the target without user and password.
func (d *Doctor) display() string {
	u := *d.target
	u.User = nil
	return u.String()
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	switch u.Scheme {
	case "http":
		return "80"
	case "ssh":
		return "22"
	case "socks5", "socks5h":
		return "1080"
	case "redis", "rediss":
		return "6379"
	default:
		return "443"
	}
}

func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), portOf(u)) }

var userinfo = regexp.MustCompile(`(://|^)[^/@,|\s]*@`)

// hidePasswords takes user and password out of the URLs in s, and out of a URL
// without a scheme that s is.
func hidePasswords(s string) string { return userinfo.ReplaceAllString(s, "${1}xxxxx@") }

// private reports whether the go command would keep the name of m from proxies.
func (d *Doctor) private(m module.Version) bool {
	return module.MatchPrefixPatterns(d.settings.get("GONOPROXY").Value, m.Path)
}

// unverified reports whether the go command would keep m from checksum databases.
func (d *Doctor) unverified(m module.Version) bool {
	return module.MatchPrefixPatterns(d.settings.get("GONOSUMDB").Value, m.Path)
}

// within bounds one step on the network.
func (d *Doctor) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.cfg.Timeout)
}

func since(start time.Time) time.Duration { return time.Since(start).Round(100 * time.Microsecond) }
