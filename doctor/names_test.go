package doctor_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// nameServer is a name server that answers everything in one way: with a
// response code (RFC 1035, section 4.1.1), or not at all if that is negative. It
// returns a resolver that asks it.
func nameServer(t *testing.T, code int) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if code >= 0 && n > 3 {
				buf[2], buf[3] = buf[2]|0x80, 0x80|byte(code) // an answer, recursion available
				conn.WriteTo(buf[:n], from)
			}
		}
	})
	var mu sync.Mutex
	var asking []net.Conn // which the resolver would keep until its own timeout
	t.Cleanup(func() {
		conn.Close()
		served.Wait()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range asking {
			c.Close()
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
		if err == nil {
			mu.Lock()
			asking = append(asking, c)
			mu.Unlock()
		}
		return c, err
	}}
}

func TestNames(t *testing.T) {
	gone := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:1")
	}}
	const conf = "search corp.example\nnameserver 10.0.0.53\n"
	for _, test := range []struct {
		name     string
		resolver *net.Resolver
		conf     string
		want     string
	}{
		{"no such name", nameServer(t, 3), conf, "dns-not-found"},
		{"server failure", nameServer(t, 2), conf, "dns-failure"},
		{"refused", nameServer(t, 5), conf, "dns-failure"},
		{"silent", nameServer(t, -1), conf, "dns-silent"},
		{"nobody there", gone, conf, "dns-silent"},
		{"no name server", gone, "# none\n", "dns-no-server"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := machine(t, []string{"GOPROXY=https://go.corp."}, "/etc/ssl/certs/ca-certificates.crt", someRoot(t), "/etc/resolv.conf", test.conf)
			c.Resolver = test.resolver
			r := examine(t, c)
			if got := codes(r); !slices.Equal(got, []string{test.want}) {
				t.Errorf("found %v, want %s\n%s", got, test.want, text(r))
			}
			if test.conf == conf && !strings.Contains(text(r), "search domains: corp.example") {
				t.Error("the search domains are not shown")
			}
			checkTexts(t, r)
		})
	}
}

// A name that the system knows and Go's own resolver does not is told apart
// from one that nobody knows.
func TestSystemKnowsMore(t *testing.T) {
	for _, test := range []struct{ host, want string }{{"printer.local", "dns-system-only"}, {"nowhere.corp", "dns-not-found"}} {
		c := machine(t, []string{"GOPROXY=https://" + test.host}, "/etc/ssl/certs/ca-certificates.crt", someRoot(t), "/etc/resolv.conf", "nameserver 10.0.0.53\n",
			"/etc/nsswitch.conf", "hosts: files mdns4_minimal [NOTFOUND=return] dns\n")
		c.System = hosts{"printer.local": "192.0.2.9"}
		r := examine(t, c)
		if got := codes(r); !slices.Equal(got, []string{test.want}) || !strings.Contains(text(r), "not asked: mdns4_minimal") {
			t.Errorf("found %v, want %s\n%s", got, test.want, text(r))
		}
	}
}
