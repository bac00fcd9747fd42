package tlsmgr

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// serving is a server with the certificates of m.
func serving(t *testing.T, m *Manager, c *tls.Config) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		TLSConfig: c, ErrorLog: slog.NewLogLogger(m.ErrorLog(m.cfg.Logger.Handler(), nil), slog.LevelWarn),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }),
	}
	ended := make(chan struct{})
	go func() { defer close(ended); s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { s.Close(); <-ended })
	return l.Addr().String()
}

// fetch returns what a client with the configuration c gets.
func fetch(address string, c *tls.Config, http2 bool) (string, error) {
	tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: http2}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get("https://" + address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// TestHandshakes looks at clients of all kinds, and at how failures are
// counted.
func TestHandshakes(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	cert, key := pki.Write(dir, "pair", pki.Issue(tlstest.Leaf{}))
	var log text
	m, err := New(Config{Mode: Files, Files: []Pair{{cert, key}}, Roots: pki.Pool(), Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	plain := serving(t, m, m.TLSConfig())
	strict, err := New(Config{Mode: Files, Files: []Pair{{cert, key}}, MinVersion: tls.VersionTLS13, Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	newest := serving(t, m, strict.TLSConfig())
	mutual := serving(t, m, m.MutualTLSConfig(pki.Pool()))
	client := pki.Issue(tlstest.Leaf{Client: true, Hosts: []string{"operator"}})
	stranger := tlstest.New(t).Issue(tlstest.Leaf{Client: true})
	for _, c := range []struct {
		name    string
		address string
		config  *tls.Config
		http2   bool
		want    string // of the answer, or of the error
		cause   string // that is counted
	}{
		{"HTTP/2", plain, &tls.Config{RootCAs: pki.Pool()}, true, "HTTP/2.0", ""},
		{"HTTP/1.1", plain, &tls.Config{RootCAs: pki.Pool()}, false, "HTTP/1.1", ""},
		{"TLS 1.2", plain, &tls.Config{RootCAs: pki.Pool(), MaxVersion: tls.VersionTLS12}, true, "HTTP/2.0", ""},
		{"TLS 1.1", plain, &tls.Config{RootCAs: pki.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false, "protocol version not supported", "version"},
		{"TLS 1.2 where 1.3 is asked for", newest, &tls.Config{RootCAs: pki.Pool(), MaxVersion: tls.VersionTLS12}, true, "protocol version not supported", "version"},
		{"TLS 1.3", newest, &tls.Config{RootCAs: pki.Pool()}, true, "HTTP/2.0", ""},
		{"no common protocol", plain, &tls.Config{RootCAs: pki.Pool(), NextProtos: []string{"spdy/3"}}, false, "no application protocol", "protocol"},
		{"unknown authority", plain, &tls.Config{RootCAs: x509.NewCertPool()}, true, "unknown authority", "refused"},
		{"another name", plain, &tls.Config{RootCAs: pki.Pool(), ServerName: "other.example"}, true, "valid for localhost, not other.example", "refused"},
		{"no client certificate", mutual, &tls.Config{RootCAs: pki.Pool()}, false, "certificate required", "client_certificate"},
		{"a stranger's client certificate", mutual, &tls.Config{RootCAs: pki.Pool(), Certificates: []tls.Certificate{stranger}}, false, "", "client_certificate"},
		{"client certificate", mutual, &tls.Config{RootCAs: pki.Pool(), Certificates: []tls.Certificate{client}}, true, "HTTP/2.0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := map[string]float64{}
			for _, cause := range causes {
				before[cause.name] = testutil.ToFloat64(m.metrics.failures.WithLabelValues(cause.name))
			}
			got, err := fetch(c.address, c.config, c.http2)
			if err != nil {
				got = err.Error()
			}
			if (c.cause != "") != (err != nil) {
				t.Errorf("answer %q, error %v", got, err)
			}
			// The client may see the connection end before it sees why.
			if !strings.Contains(got, c.want) && !strings.Contains(got, "reset") && !strings.Contains(got, "broken pipe") {
				t.Errorf("%q, want %q", got, c.want)
			}
			counted := func() string {
				for _, cause := range causes {
					if testutil.ToFloat64(m.metrics.failures.WithLabelValues(cause.name)) > before[cause.name] {
						return cause.name
					}
				}
				return ""
			}
			for range 200 { // the server may hear of it later
				if c.cause == "" || counted() != "" {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if got := counted(); got != c.cause {
				t.Errorf("counted as %q, want %q\n%s", got, c.cause, log.String())
			}
		})
	}
	if r := m.Refused(); r.Clients != 1 || r.Last != "127.0.0.1" || !strings.Contains(r.Error, "bad certificate") {
		t.Errorf("%+v", r)
	}
	if n := strings.Count(log.String(), "does not trust our certificate"); n != 1 {
		t.Errorf("told %d times of one client:\n%s", n, log.String())
	}
}

func TestCauses(t *testing.T) {
	for text, want := range map[string]string{
		"remote error: tls: bad certificate":                                               "refused",
		"remote error: tls: unknown certificate authority":                                 "refused",
		"remote error: tls: unknown certificate":                                           "refused",
		"EOF":                                                                              "closed",
		"read tcp 127.0.0.1:1->127.0.0.1:2: i/o timeout":                                   "timeout",
		"client sent an HTTP request to an HTTPS server":                                   "plain_http",
		"tls: first record does not look like a TLS handshake":                             "plain_http",
		"tls: no cipher suite supported by both client and server; client offered: [c02b]": "cipher",
		errNotYet.Error():                                                                  "no_certificate",
		"tls: something quite new\n":                                                       "other",
	} {
		if got := causeOf(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct{ port, target, host, want string }{
		{"443", "/a/b?x=1", "go.corp.example", "https://go.corp.example/a/b?x=1"},
		{"443", "/a", "go.corp.example:80", "https://go.corp.example/a"},
		{"8443", "/a%2Fb/@v/list", "go.corp.example:8080", "https://go.corp.example:8443/a%2Fb/@v/list"},
		{"8443", "/a", "[::1]:8080", "https://[::1]:8443/a"},
		{"443", "//evil.example/x", "go.corp.example", "https://go.corp.example//evil.example/x"},
		{"443", "/a", "evil.example/x?", ""},
		{"443", "/a", "user@evil.example", ""},
		{"443", "/a", "", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host, r.RequestURI = c.host, c.target
		rec := httptest.NewRecorder()
		Redirect(c.port).ServeHTTP(rec, r)
		if c.want == "" {
			if rec.Code != 400 || rec.Header().Get("Location") != "" {
				t.Errorf("%q: %d %v", c.host, rec.Code, rec.Header())
			}
			continue
		}
		if got := rec.Header().Get("Location"); rec.Code != 308 || got != c.want {
			t.Errorf("%d %q, want %q", rec.Code, got, c.want)
		}
	}
}
