package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config says which upstreams there are and how they are reached. The zero
// value of each field but List means its default.
type Config struct {
	// List is a GOPROXY list as the go command understands it: URLs of
	// GOPROXY servers (https, http, file), each followed by "," (go on only
	// if the module is absent) or "|" (go on after any error), and "off".
	// "direct" is a mistake. A URL may hold credentials; they are sent to its
	// scheme, host and port alone, and only over TLS or to loopback.
	// A file URL names a directory in the layout of a GOPROXY.
	List string
	// Trust are the authorities that may sign the certificates of upstreams,
	// redirect targets and checksum databases. Default: those of the system.
	Trust *x509.CertPool
	// Proxy chooses the HTTP proxy for a request. Default:
	// http.ProxyFromEnvironment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
	Proxy func(*http.Request) (*url.URL, error)
	// Dial opens connections. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// RedirectHosts are patterns (as in path.Match) of the hosts that an
	// upstream may redirect to, besides its own. Default: any.
	RedirectHosts []string
	// SumDBURL holds the base URL of each checksum database that is not
	// found at https://<name> (the third field of GOSUMDB).
	SumDBURL map[string]string
	// UserAgent is sent with each request. Default: "modgate".
	UserAgent string
	// ConnectTimeout bounds a TCP connection, and once more its TLS
	// handshake. Default: 10 s.
	ConnectTimeout time.Duration
	// HeaderTimeout bounds the time from a request to the header of the
	// answer, redirects included. An upstream may fetch and pack the module
	// in this time. Default: 30 s.
	HeaderTimeout time.Duration
	// NoProgress is how long a body may go without a byte. One that brings
	// less than 1 KiB/s over such a time is cut, too. Default: 30 s.
	NoProgress time.Duration
	// Retries is how often more a request is tried after a failure that may
	// be short, and how often in a row a body is resumed. Negative: never.
	// Default: 2.
	Retries int
	// MaxConns bounds the connections to one host. Default: 256.
	MaxConns int
	// BreakAfter is how many requests in a row must fail (each after its
	// retries) before an upstream is left alone. Default: 5.
	BreakAfter int
	// BreakPause is how long an upstream is left alone before one request
	// may try it again. Default: 5 s.
	BreakPause time.Duration
	// Answered is called with the name of an upstream, as it stands in errors, when that
	// has given an answer that can be used, absence included. Calls may be concurrent.
	// Default: none.
	Answered func(upstream string)
	// Logger gets a line when the state of an upstream changes and when a
	// body is resumed. Default: none.
	Logger *slog.Logger
}

const minRate = 1 << 10 // bytes per second of a body

// New checks the configuration and reports all mistakes at once, without
// credentials. It does not connect to anything.
func New(cfg Config) (*Chain, error) {
	locs, off, err := parseGOPROXY(cfg.List)
	mistakes := []error{err}
	for _, name := range slices.Sorted(maps.Keys(cfg.SumDBURL)) {
		if u, err := parseLocation(cfg.SumDBURL[name]); err != nil {
			mistakes = append(mistakes, fmt.Errorf("URL of checksum database %q: %w", name, err))
		} else if u.Scheme == "file" {
			mistakes = append(mistakes, fmt.Errorf("URL of checksum database %q: want https or http", name))
		}
	}
	for _, p := range cfg.RedirectHosts {
		if _, err := path.Match(p, ""); err != nil || strings.Contains(p, "/") {
			mistakes = append(mistakes, fmt.Errorf("redirect host %q: not a pattern of host names", p))
		}
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"connect timeout", int64(cfg.ConnectTimeout)},
		{"header timeout", int64(cfg.HeaderTimeout)},
		{"no-progress timeout", int64(cfg.NoProgress)},
		{"most connections", int64(cfg.MaxConns)},
		{"failures before a break", int64(cfg.BreakAfter)},
		{"pause of a break", int64(cfg.BreakPause)},
	} {
		if f.value < 0 {
			mistakes = append(mistakes, fmt.Errorf("%s: must not be negative", f.name))
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	return build(cfg.withDefaults(), locs, off), nil
}

func build(cfg Config, locs []location, off bool) *Chain {
	c := &Chain{
		off:     off,
		cfg:     cfg,
		client:  newClient(cfg),
		metrics: newMetrics(),
		dbs:     map[string]*database{},
	}
	for i, name := range names(locs) {
		e := entry{onAnyError: locs[i].onAnyError}
		if u := locs[i].url; u.Scheme == "file" {
			e.upstream = &dir{label: name, path: filepath.FromSlash(u.Path)}
			c.metrics.upstream(name, func() bool { return false })
		} else {
			r := newRemote(c, name, u)
			e.upstream = r
			c.metrics.upstream(name, r.broken)
		}
		c.entries = append(c.entries, e)
	}
	c.metrics.upstream(sumdbLabel, c.databaseBroken)
	return c
}

func (cfg Config) withDefaults() Config {
	setDuration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	setInt := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	setDuration(&cfg.ConnectTimeout, 10*time.Second)
	setDuration(&cfg.HeaderTimeout, 30*time.Second)
	setDuration(&cfg.NoProgress, 30*time.Second)
	setDuration(&cfg.BreakPause, 5*time.Second)
	setInt(&cfg.Retries, 2)
	setInt(&cfg.MaxConns, 256)
	setInt(&cfg.BreakAfter, 5)
	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "modgate"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

func newTransport(cfg Config) *http.Transport {
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			u, err := cfg.Proxy(r)
			if err != nil { // it quotes the setting, which may hold a password
				return nil, errors.New("the address of the HTTP proxy is not valid")
			}
			return u, nil
		},
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return &proxyRefusal{resp.StatusCode}
			}
			return nil
		},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeoutCause(ctx, cfg.ConnectTimeout, tooSlow("no connection in time"))
			defer cancel()
			return cfg.Dial(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{
			RootCAs:            cfg.Trust,
			MinVersion:         tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(64),
		},
		TLSHandshakeTimeout: cfg.ConnectTimeout,
		ForceAttemptHTTP2:   true,
		// A connection that died without a sign is found by pings, long
		// before its streams are given up one by one.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		MaxIdleConnsPerHost:    cfg.MaxConns,
		MaxConnsPerHost:        cfg.MaxConns,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true, // the bytes are hashed as they are
	}
}
