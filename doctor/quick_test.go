package doctor_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/doctor"
)

// silence is a network in which somebody does not answer.
type silence struct{ names, ports, hosts bool }

func (n silence) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	if n.names {
		<-ctx.Done()
		return nil, &net.DNSError{Err: "i/o timeout", Name: host, IsTimeout: true}
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, nil
}

func (n silence) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if n.ports {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	}
	here, there := net.Pipe()
	go func() { io.Copy(io.Discard, there); there.Close() }() // reads, and says nothing
	return here, nil
}

// TestTenSeconds measures how long doctor waits for those who are silent, with the
// times that it has by default, on a clock of its own: what the machine does besides
// is no matter.
func TestTenSeconds(t *testing.T) {
	bundle := []string{"/etc/ssl/certs/ca-certificates.crt", someRoot(t), "/etc/resolv.conf", "nameserver 192.0.2.53\n"}
	for _, test := range []struct {
		name, url, environ string
		network            silence
		want               string
	}{
		{"name servers", "https://go.corp", "", silence{names: true}, "dns-silent"},
		{"ports", "https://go.corp", "", silence{ports: true}, "tcp-filtered"},
		{"handshakes", "https://go.corp", "", silence{hosts: true}, "tls-silent"},
		{"answers", "http://go.corp", "", silence{hosts: true}, "http-silent"},
		{"an HTTP proxy", "https://go.corp", "HTTPS_PROXY=http://proxy.corp:3128", silence{hosts: true}, "http-proxy-cut"},
		{"an HTTP proxy by TLS", "https://go.corp", "HTTPS_PROXY=https://proxy.corp:3128", silence{hosts: true}, "http-proxy-cut"},
		{"a SOCKS proxy", "https://go.corp", "HTTPS_PROXY=socks5://proxy.corp", silence{hosts: true}, "http-proxy-cut"},
		{"the port of an HTTP proxy", "https://go.corp", "HTTPS_PROXY=http://proxy.corp:3128", silence{ports: true}, "http-proxy-down"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := machine(t, strings.Fields(test.environ), bundle...)
				c.URL, c.Resolver, c.Dial = test.url, test.network, test.network.dial
				c.Timeout, c.Patience, c.ClockURLs = 0, 0, nil
				start := time.Now()
				r := examine(t, c)
				if took := time.Since(start); took >= 10*time.Second || took == 0 {
					t.Errorf("it took %v", took)
				}
				if got := codes(r); !slices.Equal(got, strings.Fields(test.want)) {
					t.Errorf("%q, want %q", got, test.want)
				}
			})
		})
	}
	t.Run("a server that reaches nobody", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := machine(t, nil, bundle...)
			c.Resolver, c.Dial, c.Timeout, c.Patience, c.ClockURLs = silence{}, silence{ports: true}.dial, 0, 0, nil
			s, err := doctor.NewServer(doctor.ServerConfig{
				Machine: c, SumDB: "sum.golang.org", Upstreams: []string{"https://proxy.corp"}, Down: errors.New("connection refused"),
			})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			r := s.Examine(t.Context())
			if took := time.Since(start); took >= 10*time.Second || took == 0 {
				t.Errorf("it took %v", took)
			}
			if got := codes(r); !slices.Equal(got, []string{"tcp-filtered"}) {
				t.Errorf("%q", got)
			}
		})
	})
}
