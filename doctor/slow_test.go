package doctor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/proxytest"
)

// pipes is a network for a bubble of synctest: a proxy at go.corp, by TLS on port 443,
// and packets to all others are dropped.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

// newPipes serves h until the test of the bubble ends.
func newPipes(t *testing.T, h http.Handler, c *tls.Config) *pipes {
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(tls.NewListener(p, c))
	t.Cleanup(func() { s.Close() })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return new(net.TCPAddr) }

func (p *pipes) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == "go.corp" {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")}, nil
}

func (p *pipes) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if address != "192.0.2.1:443" {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	}
	here, there := net.Pipe()
	p.accepted <- there
	return here, nil
}

// TestSlowWays holds the 10 s on ways where more than one thing is silent or slow.
func TestSlowWays(t *testing.T) {
	hang := func(prefix string) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, prefix) {
					<-r.Context().Done()
					return
				}
				h.ServeHTTP(w, r)
			})
		}
	}
	lists := func(c *x509.Certificate) {
		c.CRLDistributionPoints, c.OCSPServer = []string{"http://crl.corp/list"}, []string{"http://ocsp.corp/"}
	}
	for _, test := range []struct {
		name    string
		proxy   func(http.Handler) http.Handler
		leaf    func(*x509.Certificate)
		environ string
		want    string
	}{
		{"healthy", nil, nil, "", ""},
		{"several dead entries", nil, nil, "GOPROXY=https://dead1.corp,https://dead2.corp,https://dead3.corp,https://dead4.corp", "tcp-filtered"},
		{"no answer after the handshake", hang("/"), nil, "", "http-silent"},
		{"no answer, and nobody knows of revocation", hang("/"), lists, "", "http-silent"},
		{"nobody knows of revocation", nil, lists, "", ""},
		{"a checksum database that is not mirrored, and filtered", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/sumdb/") {
					http.NotFound(w, r)
					return
				}
				h.ServeHTTP(w, r)
			})
		}, nil, "", "sumdb-unreachable"},
		{"a redirect to who is filtered", func(http.Handler) http.Handler {
			return http.RedirectHandler("https://storage.corp/x", http.StatusFound)
		}, nil, "", "http-redirect-blocked"},
		{"a checksum database that is silent behind the proxy", hang("/sumdb/"), nil, "", "sumdb-broken"},
		{"a zip that does not come", hang("/golang.org/x/sync/@v/v0.1.0.zip"), nil, "", "http-silent"},
		{"each answer takes three seconds", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-time.After(3 * time.Second):
				case <-r.Context().Done():
				}
				h.ServeHTTP(w, r)
			})
		}, nil, "", "speed-unfinished"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			known := proxytest.Simple(t, "golang.org/x/sync", "v0.1.0")
			w.mods.Add(t, known)
			w.sums.Add(module.Version{Path: "golang.org/x/sync", Version: "v0.1.0"}, known.H1, known.ModH1)
			leaf := w.odd(func(c *x509.Certificate) {
				c.DNSNames = []string{"go.corp"}
				if test.leaf != nil {
					test.leaf(c)
				}
			})
			leaf.Certificate = append(leaf.Certificate[:1:1], w.pki.Intermediate.Cert.Raw)
			synctest.Test(t, func(t *testing.T) {
				h := w.mods.Config.Handler
				if test.proxy != nil {
					h = test.proxy(h)
				}
				began := time.Now()
				now := func() time.Time { return leaf.Leaf.NotBefore.Add(time.Hour).Add(time.Since(began)) } // outside of the bubble
				dated := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Date", now().UTC().Format(http.TimeFormat))
					h.ServeHTTP(w, r)
				})
				p := newPipes(t, dated, &tls.Config{Certificates: []tls.Certificate{leaf}, Time: time.Now})
				c := w.config
				c.Module, c.Resolver, c.Dial, c.Timeout, c.Patience, c.ClockURLs = module.Version{}, p, p.dial, 0, 0, nil
				c.Now = now
				c.Environ = append(slices.Clone(c.Environ), "GOPROXY=https://go.corp", test.environ)
				start := time.Now()
				r := examine(t, c)
				if took := time.Since(start); took >= 10*time.Second {
					t.Errorf("it took %v", took)
				}
				if got := codes(r); !slices.Equal(got, strings.Fields(test.want)) {
					t.Errorf("%q, want %q\n%s", got, test.want, text(r))
				}
			})
		})
	}
	t.Run("two resolvers that are silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := machine(t, nil, "/etc/resolv.conf", "nameserver 192.0.2.53\n", "/etc/ssl/certs/ca-certificates.crt", someRoot(t))
			n := silence{names: true}
			c.URL, c.Resolver, c.System, c.Dial, c.Timeout, c.ClockURLs = "https://go.corp", n, n, n.dial, 0, nil
			start := time.Now()
			if got := codes(examine(t, c)); !slices.Equal(got, []string{string(doctor.DNSSilent)}) {
				t.Errorf("%q", got)
			}
			if took := time.Since(start); took >= 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	})
}
