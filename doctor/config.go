package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// Resolver turns names into addresses. *net.Resolver is one.
type Resolver interface {
	// LookupNetIP returns the addresses of host. network is ip, ip4 or ip6.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config of an examination. Everything that is outside of the package comes in
// here.
type Config struct {
	// URL is the proxy to examine. Default: the first one in GOPROXY.
	URL string
	// Module is what to ask it for. Default: a small public module.
	Module module.Version
	// Environ is the environment of the go command, as os.Environ returns it.
	Environ []string
	// OS is the operating system, as runtime.GOOS says it. Required.
	OS string
	// Root is put in front of the names of all files. Default: "".
	Root string
	// Resolver is asked for addresses, as Go's own resolver does it. Required.
	Resolver Resolver
	// System is asked instead where the go command asks the system. Nil: this
	// program cannot.
	System Resolver
	// Dial opens connections to IP addresses. Required.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Run runs a program, words[0], in that environment alone, and returns what it
	// writes to standard output and to standard error: the go command, such that it
	// changes nothing, and commands of GOAUTH, as the go command runs them. Nil: none
	// is run.
	Run func(ctx context.Context, environ []string, stdin string, words ...string) (stdout, stderr string, err error)
	// Now is the clock of this machine. Required.
	Now func() time.Time
	// SystemRoots returns the authorities of systems that have no files of
	// them: macOS and Windows. Required there.
	SystemRoots func() (*x509.CertPool, error)
	// ClockURLs are asked for the time if a certificate or the proxy's clock
	// casts doubt on ours. Default: the hosts of the checksum database and of
	// Go's public mirror.
	ClockURLs []string
	// Timeout is how long one step on the network may take: name, connection,
	// handshake. Default 5 s.
	Timeout time.Duration
	// Patience is how long an answer over HTTP may take, as a cold module does that
	// was named. Where none was, and for what a proxy has at hand, it is less than
	// 10 s in any case. Default 30 s.
	Patience time.Duration
	// Limit is how long everything may take in all, beside what was asked for by name:
	// a module, a probe. What is not finished then is told as that. Default 9 s, and
	// as much more as Timeout is.
	Limit time.Duration
}

// check reports all mistakes and fills in defaults.
func (c *Config) check() error {
	var errs []error
	if c.OS == "" {
		errs = append(errs, errors.New("no operating system"))
	}
	if c.Resolver == nil || c.Dial == nil || c.Now == nil {
		errs = append(errs, errors.New("resolver, dialer and clock are required"))
	}
	if c.SystemRoots == nil {
		c.SystemRoots = func() (*x509.CertPool, error) { return x509.NewCertPool(), nil }
	}
	if c.URL != "" {
		if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			errs = append(errs, fmt.Errorf("%q is not the URL of a proxy\n  → write https://host or http://host:port", hidePasswords(c.URL)))
		}
	}
	if c.Module == (module.Version{}) {
		c.Module = wellKnown()
	} else if err := module.Check(c.Module.Path, c.Module.Version); err != nil {
		errs = append(errs, fmt.Errorf("%w\n  → write the module as path@version with a full version, as in golang.org/x/sync@v0.1.0", err))
	}
	if c.ClockURLs == nil {
		c.ClockURLs = []string{"https://sum.golang.org/latest", "https://proxy.golang.org/"}
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Limit <= 0 {
		c.Limit = max(9*time.Second, 9*c.Timeout/5)
	}
	if c.Patience <= 0 {
		c.Patience = 30 * time.Second
	}
	return errors.Join(errs...)
}

// wellKnown is a small public module, which is asked for if no other is named.
func wellKnown() module.Version { return module.Version{Path: "golang.org/x/sync", Version: "v0.1.0"} }

// file returns where the file that the machine calls name is.
func (c *Config) file(name string) string {
	if c.Root == "" {
		return name
	}
	return filepath.Join(c.Root, name)
}

func (c *Config) readFile(name string) ([]byte, error) { return os.ReadFile(c.file(name)) }

// env returns the last value of a variable, as the system does.
func (c *Config) env(name string) string {
	value := ""
	for _, entry := range c.Environ {
		key, v, _ := strings.Cut(entry, "=")
		if key == name || c.OS == "windows" && strings.EqualFold(key, name) {
			value = v
		}
	}
	return value
}

// envSet reports whether a variable is set, be it empty.
func (c *Config) envSet(name string) bool {
	for _, entry := range c.Environ {
		if key, _, _ := strings.Cut(entry, "="); key == name {
			return true
		}
	}
	return false
}
