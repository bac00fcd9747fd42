package doctor

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"time"

	"github.com/modgate/modgate/tlsmgr"
)

// recent is how long what has happened to a request is told as present. That a
// client refuses the certificate is told for longer: its next build may be
// tomorrow's. So is that a proof has failed: that is no passing trouble.
const (
	recent        = 10 * time.Minute
	recentRefusal = 24 * time.Hour
)

// Live is what a running server knows of its own trouble.
type Live struct {
	// Troubles are the last of each kind that requests have met.
	Troubles []Trouble
	// Certificates are those of the server.
	Certificates []tlsmgr.Status
	// Refused says which clients do not accept them.
	Refused tlsmgr.Refusal
	// Unused are files of the configuration that cannot be used as they are now.
	Unused []Unused
	// Shared are those that replicas share and that are left alone now.
	Shared []SharedTrouble
	// Dirs are written by the server.
	Dirs []Dir
}

// Trouble is something that requests have met.
type Trouble struct {
	Code Code
	Host string // that was asked, with its port if it is not the usual one; "" if it is not known
	// Module is the private module that was asked for; "" if it was a public one.
	Module string
	Err    error // the last one; it holds no secret
	Count  int
	Last   time.Time
}

// SharedTrouble is why a Redis or a bucket is left alone.
type SharedTrouble struct {
	Shared
	Err   error // it holds no secret
	Since time.Time
}

// Unused is a file of the configuration that was changed, and why it cannot be
// used.
type Unused struct {
	Key, Path, Text string
}

// Findings returns what is not as it should be now, what matters most first.
// Only the system, the root, the environment and the clock of machine are used.
// It asks nobody and writes nothing.
func (l *Live) Findings(machine Config) []Finding {
	d := &Doctor{cfg: machine, report: &Report{Findings: []Finding{}}}
	d.places = append([]Place{OnServer}, d.findPlaces()...)
	s := &Server{cfg: &ServerConfig{Certificates: l.Certificates, Dirs: l.Dirs}, base: d, learnt: new(learnt)}
	now := machine.Now()
	step := d.step("requests", "")
	for _, t := range l.Troubles {
		if age := now.Sub(t.Last); age > recentRefusal || age > recent && t.Code != SumdbForged && t.Code != SumdbUntrusted {
			continue
		}
		host := cmp.Or(t.Host, unresolvedHost(t.Err), dialled(t.Err), refusedName(t.Err))
		d.target = nil
		if host != "" {
			d.target = &url.URL{Scheme: "https", Host: host}
		}
		seen := fmt.Sprintf("%s, last at %s: %s", counted(t.Count, "time"), day(t.Last), oneLine(t.Err.Error()))
		words := []string{"value", hidePasswords(causeValue(t)), "file", resolvConf}
		if host == "" {
			words = append(words, "host", unknownHost(t), "port", "443", "machine", unknownHost(t), "url", unknownHost(t))
		}
		switch {
		case t.Code == PrivateFails:
			words = append(words, "where", notGiven)
		case (t.Code == DirUnwritable || t.Code == DiskLow) && len(l.Dirs) > 0:
			words = append(words, "file", l.Dirs[0].Path, "variable", l.Dirs[0].Key)
		}
		d.found(step, t.Code, hidePasswords(seen), words...)
	}
	d.target = nil
	for _, t := range l.Shared {
		d.sharedFound(step, t.Shared, t.Err, fmt.Sprintf("since %s: %s", day(t.Since), oneLine(t.Err.Error())))
	}
	for _, f := range l.Unused {
		d.found(step, ReloadFailed, f.Text, "file", f.Path, "variable", f.Key, "where", f.Key)
	}
	if r := l.Refused; r.Clients > 0 && now.Sub(r.At) < recentRefusal {
		seen := fmt.Sprintf("%s, last %s at %s: %s", counted(r.Clients, "client"), r.Last, day(r.At), oneLine(r.Error))
		d.found(step, HandshakeCause("refused", r.Error), seen, "host", "this server", "value", r.Last)
	}
	s.checkDirs()
	s.checkCertificates()
	d.report.finish()
	return d.report.Findings
}

// unresolved is what Go, git and ssh say of a name that has no address.
var unresolved = regexp.MustCompile(`(?:[Cc]ould not resolve host(?:name)?:? |lookup )([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)`)

// unresolvedHost returns the host that err is about, where it is one of DNS; else "".
func unresolvedHost(err error) string {
	if m := unresolved.FindStringSubmatch(err.Error()); m != nil {
		return m[1]
	}
	return ""
}

// dialled returns the address, with its port, to which err says there is no
// connection; "" if it is about something else.
func dialled(err error) string {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" && dial.Addr != nil {
		return dial.Addr.String()
	}
	return ""
}

// refusedName returns the host whose certificate err is about; else "".
func refusedName(err error) string {
	var name x509.HostnameError
	if errors.As(err, &name) {
		return name.Host
	}
	return ""
}

// unknownHost is what stands for a host that the trouble does not name.
func unknownHost(t Trouble) string {
	if t.Module != "" {
		return "the host of " + t.Module
	}
	return "the host that was asked"
}

// causeValue returns what belongs into the title of a trouble.
func causeValue(t Trouble) string {
	var (
		certificate *tls.CertificateVerificationError
		invalid     x509.CertificateInvalidError
	)
	switch t.Code {
	case ProxyDown, ProxyAuth, ProxyDenied, ProxyCannot:
		return "of this machine"
	case PrivateFails:
		if t.Module != "" {
			return t.Module
		}
	}
	if !errors.As(t.Err, &certificate) || len(certificate.UnverifiedCertificates) == 0 {
		return oneLine(t.Err.Error())
	}
	chain := certificate.UnverifiedCertificates
	switch t.Code {
	case Expired:
		return day(chain[0].NotAfter)
	case NotYetValid:
		return day(chain[0].NotBefore)
	case WrongName, NoAddress:
		return names(chain[0])
	case Middlebox:
		return knownProduct(chain)
	case IssuerExpired:
		if errors.As(t.Err, &invalid) {
			return invalid.Cert.Subject.String() + ", " + day(invalid.Cert.NotAfter)
		}
	}
	return oneLine(certificate.Error())
}
