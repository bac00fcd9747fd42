package upstream

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

const infoPathA = "/example.com/a/@v/v1.0.0.info"

func askInfo(t *testing.T, c *Chain) error {
	t.Helper()
	_, err := c.Info(t.Context(), "example.com/a", "v1.0.0")
	return err
}

// withUser puts credentials into a URL.
func withUser(u string) string { return strings.Replace(u, "://", "://bob:hunter2@", 1) }

// Credentials reach the configured scheme, host and port, and nobody else,
// whichever way a redirect goes; nor do they show in errors, logs or metrics.
func TestCredentialsStay(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	var logs lockedBuilder
	for _, tls := range []bool{true, false} {
		newServer := proxytest.New
		if tls {
			newServer = proxytest.NewTLS
		}
		home, away := newServer(t, m), newServer(t, m)
		cfg := local(withUser(home.URL))
		cfg.Logger = slog.New(slog.NewTextHandler(&logs, nil))
		cfg.BreakAfter = 1
		cfg.Retries = -1
		if tls {
			cfg = trusting(cfg, home)
			cfg.Trust.AddCert(away.Certificate())
		}
		c := newChain(t, cfg)
		// To another port, there to an own path, and from there back home.
		home.SetFault(infoPathA, proxytest.Redirect(302, away.URL+"/hop"))
		away.SetFault("/hop", proxytest.Redirect(307, withUser2(away.URL)+"/hop2"))
		away.SetFault("/hop2", proxytest.Redirect(301, home.URL+"/real"))
		home.SetFault("/real", proxytest.Redirect(308, "/example.com/a/@v/v1.0.0.mod"))
		home.SetFile("/example.com/a/@v/v1.0.0.mod", m.Info)
		if err := askInfo(t, c); err != nil {
			t.Fatal(err)
		}
		for _, r := range home.Requests() {
			if user, pass, ok := (&http.Request{Header: r.Header}).BasicAuth(); !ok || user != "bob" || pass != "hunter2" {
				t.Errorf("home %s: credentials %v", r.Path, ok)
			}
		}
		for _, r := range away.Requests() {
			for k, v := range r.Header {
				if k != "User-Agent" {
					t.Errorf("away %s: header %s: %s", r.Path, k, v)
				}
			}
		}
		if len(home.Requests()) != 3 || len(away.Requests()) != 2 {
			t.Errorf("%d, %d requests", len(home.Requests()), len(away.Requests()))
		}
		home.SetFault("*", proxytest.Reset(0))
		home.SetFault(infoPathA, nil)
		for range 2 { // trouble, then an open circuit
			e := asError(t, askInfo(t, c))
			fmt.Fprintln(&logs, e.Error(), e.Public(), e.Upstream, fmt.Sprintf("%+v", e.Err))
		}
		fmt.Fprintln(&logs, metricsText(t, c))
	}
	if strings.Contains(logs.String(), "hunter2") || strings.Contains(logs.String(), "bob") || !strings.Contains(logs.String(), "circuit") {
		t.Errorf("credentials are shown, or nothing is: %s", logs.String())
	}
}

func withUser2(u string) string { return strings.Replace(u, "://", "://eve:trap@", 1) }

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	tls, plain := proxytest.NewTLS(t, m), proxytest.New(t, m)
	cfg := trusting(local(tls.URL), tls)
	open := newChain(t, cfg)
	cfg.RedirectHosts = []string{"*.corp.test", "10.0.0.?"}
	picky := newChain(t, cfg)
	for _, c := range []struct {
		name, to string
		chain    *Chain
		want     string // part of the log text; empty: success
	}{
		{"own host", "/other", open, ""},
		{"own host, with a list", "/other", picky, ""},
		{"https to http", plain.URL + infoPathA, open, "from https to http"},
		{"out of HTTP", "file:///etc/passwd", open, "out of HTTP"},
		{"ftp", "ftp://a.test/x", open, "out of HTTP"},
		{"no location", "", open, "cannot be parsed"},
		{"nonsense", "http://[::1", open, "cannot be parsed"},
		{"circle", infoPathA, open, "more than 5"},
		{"not listed", "https://evil.test/x?sig=SECRET", picky, "not among those"},
		{"not listed address", "https://10.0.1.1/x", picky, "not among those"},
		{"listed", "https://a.corp.test/x?sig=SECRET", picky, "dials out to a.corp.test:443"},
		{"any", "https://evil.test/x?sig=SECRET", open, "dials out to evil.test:443"},
	} {
		tls.SetFile("/other", m.Info)
		tls.SetFault(infoPathA, func(x proxytest.Exchange) {
			x.W.Header()["Location"] = []string{c.to}
			x.W.WriteHeader(302)
		})
		tls.Forget()
		err := askInfo(t, c.chain)
		if n := tls.Count(infoPathA); c.name == "circle" && n != 1+maxRedirects {
			t.Errorf("%s: %d requests", c.name, n)
		}
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", c.name, err)
		case err != nil && (verdict(err) != "trouble" || strings.Contains(err.Error(), "SECRET")):
			t.Errorf("%s: %s: %v", c.name, verdict(err), err)
		}
	}
	if n := len(plain.Requests()); n != 0 {
		t.Errorf("%d requests went to http", n)
	}
}

// A file that the upstream keeps elsewhere is resumed through the upstream,
// so that an address which has expired is not asked again.
func TestResumeThroughRedirect(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 300<<10)
	home, store := proxytest.New(t), proxytest.New(t, m)
	path := proxytest.Path(t, m.Version, "zip")
	home.SetFault(path, proxytest.Redirect(302, store.URL+path))
	store.SetFault(path, proxytest.FirstN(1, proxytest.Reset(1000)))
	if data, err := download(t, newChain(t, local(home.URL)), m); err != nil || len(data) != len(m.Zip) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if reqs := store.Requests(); home.Count(path) != 2 || len(reqs) != 2 || reqs[1].Header.Get("Range") != "bytes=1000-" {
		t.Errorf("%d and %d requests", home.Count(path), len(reqs))
	}
}

func TestHTTP2AndReuse(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	tls, plain := proxytest.NewTLS(t, m), proxytest.New(t, m)
	for s, proto := range map[*proxytest.Server]string{tls: "HTTP/2.0", plain: "HTTP/1.1"} {
		s.SetFault("/example.com/a/@v/v9.0.0.info", proxytest.Status(404, strings.Repeat("a long explanation ", 100)))
		c := newChain(t, trusting(local(s.URL), tls))
		for i := range 1000 {
			var err error
			switch i % 4 {
			case 0:
				err = askInfo(t, c)
			case 1:
				_, err = c.List(t.Context(), m.Path)
			case 2:
				_, err = download(t, c, m)
			case 3: // absent, with a text
				if _, err = c.Info(t.Context(), m.Path, "v9.0.0"); verdict(err) == "absent" {
					err = nil
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := s.Connections(); n != 1 {
			t.Errorf("%s: %d connections", proto, n)
		}
		for _, r := range s.Requests() {
			if r.Proto != proto || r.Header.Get("Accept-Encoding") != "" || r.Header.Get("User-Agent") != "modgate" {
				t.Fatalf("%s, %v", r.Proto, r.Header)
			}
		}
	}
}

// 64 requests at once do not wait for each other.
func TestParallel(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	for _, s := range []*proxytest.Server{proxytest.New(t, m), proxytest.NewTLS(t, m)} {
		var all sync.WaitGroup // released when all are there
		all.Add(64)
		s.SetFault("*", func(x proxytest.Exchange) {
			all.Done()
			all.Wait()
			x.Honest.ServeHTTP(x.W, x.R)
		})
		cfg := local(s.URL)
		if s.TLS != nil {
			cfg = trusting(cfg, s)
		}
		cfg.HeaderTimeout = 20 * time.Second
		c := newChain(t, cfg)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				if err := askInfo(t, c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	s := proxytest.NewTLS(t, m)
	cfg := local(s.URL)
	cfg.Trust = x509.NewCertPool()
	e := asError(t, askInfo(t, newChain(t, cfg)))
	if verdict(e) != "trouble" || !strings.Contains(e.Public(), "authority that is not trusted") || s.Count(infoPathA) != 0 {
		t.Errorf("without trust: %v", e)
	}
	// httptest's certificate is for 127.0.0.1 and example.com, not localhost.
	cfg = trusting(local(strings.Replace(s.URL, "127.0.0.1", "localhost", 1)), s)
	if e := asError(t, askInfo(t, newChain(t, cfg))); !strings.Contains(e.Public(), "another name") {
		t.Errorf("wrong name: %v", e)
	}
	if err := askInfo(t, newChain(t, trusting(local(s.URL), s))); err != nil {
		t.Error(err)
	}
}

// Requests go through the HTTP proxy that Config.Proxy names: absolute URLs
// for http, tunnels for https.
func TestHTTPProxy(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	origin := proxytest.New(t, m)
	var mu sync.Mutex
	var seen []string
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Method+" "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization"))
		mu.Unlock()
		if r.Method == http.MethodConnect {
			http.Error(w, "no tunnels", http.StatusForbidden)
			return
		}
		r.URL.Host = strings.TrimPrefix(origin.URL, "http://")
		origin.Config.Handler.ServeHTTP(w, r)
	}))
	defer between.Close()
	via, _ := url.Parse(withUser(between.URL))
	cfg := local("http://mods.test/base|https://mods.test")
	cfg.Proxy = http.ProxyURL(via)
	c := newChain(t, cfg)
	origin.SetFile("/base"+infoPathA, m.Info)
	if err := askInfo(t, c); err != nil {
		t.Error(err)
	}
	_, err := c.Info(t.Context(), "example.com/other", "v1.0.0") // absent, then the tunnel
	if verdict(err) != "trouble" || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("tunnel refused: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) < 3 || !strings.HasPrefix(seen[0], "GET http://mods.test/base"+infoPathA+" Basic") || !strings.HasPrefix(seen[2], "CONNECT mods.test:443 Basic") {
		t.Errorf("the proxy saw %q", seen)
	}

	cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, fmt.Errorf("bad setting hunter2") }
	if err := askInfo(t, newChain(t, cfg)); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("bad proxy setting: %v", err)
	}
}

// A resolver that takes for ever and a name that does not exist are trouble
// that costs bounded time, and are not asked for again and again.
func TestResolver(t *testing.T) {
	t.Parallel()
	var dials int
	cfg := local("https://slow.test")
	cfg.ConnectTimeout = 50 * time.Millisecond
	cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		dials++
		<-ctx.Done()
		return nil, ctx.Err()
	}
	begin := time.Now()
	if e := asError(t, askInfo(t, newChain(t, cfg))); !e.Timeout() || dials != 1 || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %d dials and %v", e, dials, time.Since(begin))
	}
	dials = 0
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		dials++
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "slow.test", IsNotFound: true}}
	}
	if e := asError(t, askInfo(t, newChain(t, cfg))); verdict(e) != "trouble" || !strings.Contains(e.Public(), "does not resolve") || dials != 1 {
		t.Errorf("%v after %d dials", e, dials)
	}
}

// The base path of an upstream may hold anything that a URL may.
func TestBasePath(t *testing.T) {
	t.Parallel()
	s := proxytest.New(t)
	s.SetFile("/a b/c%/example.com/a/@v/v1.0.0.info", []byte(`{"Version":"v1.0.0"}`))
	if err := askInfo(t, newChain(t, local(s.URL+"/a%20b/c%25/"))); err != nil {
		t.Error(err)
	}
}
