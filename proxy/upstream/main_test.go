package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/modgate/modgate/proxy/proxytest"
)

// The network is closed to these tests: a dial that leaves the host fails.
// The online test dials by itself.
func TestMain(m *testing.M) {
	if ran, code := Helper(os.Args, os.Environ(), os.Stdin, os.Stdout, os.Stderr); ran {
		os.Exit(code)
	}
	http.DefaultTransport.(*http.Transport).DialContext = loopbackOnly
	goleak.VerifyTestMain(m)
}

func loopbackOnly(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil || !loopback(host) {
		return nil, fmt.Errorf("test dials out to %s", address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

var _ proxytest.Source = (*Chain)(nil)

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

// local is a configuration for tests on loopback whose circuits stay closed.
func local(list string) Config {
	return Config{List: list, Proxy: noProxy, Dial: loopbackOnly, BreakAfter: 1000}
}

// impatient is local with short times, for servers that never answer.
func impatient(list string) Config {
	cfg := local(list)
	cfg.HeaderTimeout, cfg.NoProgress = 2*time.Second, 2*time.Second
	return cfg
}

func newChain(t testing.TB, cfg Config) *Chain {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// trusting makes cfg trust the server's certificate.
func trusting(cfg Config, s *proxytest.Server) Config {
	cfg.Trust = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return cfg
}

// asError returns err as an *Error or fails the test.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want an *Error", err, err)
	}
	return e
}
