package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// TestTLSDefects is a server with each kind of certificate that clients refuse.
// What the go command says of it, what doctor finds behind that, and what the
// server itself says have to fit together; the first is the same for an
// authority that nobody knows and for a missing intermediate certificate, the
// other two are not. Package doctor has the defects that are not the server's.
func TestTLSDefects(t *testing.T) {
	pki, stranger, w := tlstest.New(t), tlstest.New(t), newWorld(t)
	dir := t.TempDir()
	root, empty := pki.WriteRoot(dir), filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(pki.Intermediate.Cert.Raw) }))
	defer issuer.Close()
	now := time.Now()
	for _, c := range []struct {
		name   string
		cert   tls.Certificate
		client string // host by which the server is called; empty: localhost
		says   string // the go command
		code   string // of doctor
		alarm  string // of the server
	}{
		{"none", pki.Issue(tlstest.Leaf{}), "", "", "", ""},
		{"unknown authority", stranger.Issue(tlstest.Leaf{}), "", "signed by unknown authority", "tls-unknown-authority", ""},
		{"missing intermediate", pki.Issue(tlstest.Leaf{NoIntermediate: true, IssuerURL: issuer.URL}), "", "signed by unknown authority", "tls-missing-intermediate", "is missing"},
		{"self-signed", pki.Issue(tlstest.Leaf{SelfSigned: true}), "", "signed by unknown authority", "tls-self-signed", "self-signed"},
		{"expired", pki.Issue(tlstest.Leaf{From: now.Add(-48 * time.Hour), Until: now.Add(-25 * time.Hour)}), "", "certificate has expired or is not yet valid: current time", "tls-expired", "expired on"},
		{"not yet valid", pki.Issue(tlstest.Leaf{From: now.Add(25 * time.Hour), Until: now.Add(48 * time.Hour)}), "", "is before", "tls-not-yet-valid", "not valid before"},
		{"another name", pki.Issue(tlstest.Leaf{Hosts: []string{"other.example"}}), "", "valid for other.example, not localhost", "tls-wrong-name", ""},
		{"a name and no address", pki.Issue(tlstest.Leaf{Hosts: []string{"localhost"}}), "127.0.0.1", "doesn't contain any IP SANs", "tls-no-address", ""},
		{"common name only", pki.Issue(tlstest.Leaf{NoNames: true}), "", "relies on legacy Common Name field", "tls-no-names", "names no host"},
		{"for clients alone", pki.Issue(tlstest.Leaf{Client: true}), "", "incompatible key usage", "tls-key-usage", "not for servers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert, key := pki.Write(t.TempDir(), "server", c.cert)
			i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key, "--tls-trust="+root)
			if c.client == "" {
				c.client = "localhost"
			}
			proxy := "https://" + c.client + i.url[strings.LastIndex(i.url, ":"):]
			out, err := download(t, w, proxy, "SSL_CERT_FILE="+root, "SSL_CERT_DIR="+empty)
			if (err == nil) != (c.says == "") || !strings.Contains(out, c.says) {
				t.Errorf("go mod download: %v, want %q\n%s", err, c.says, out)
			}
			environ := slices.DeleteFunc(goEnv(t.TempDir(), proxy, w.log.Key()), func(v string) bool { return strings.HasSuffix(v, "=") })
			inTime(t, func() {
				codes, _, report := examineJSON(t, append(environ, "SSL_CERT_FILE="+root, "SSL_CERT_DIR="+empty), "example.com/greet@v1.0.0")
				if strings.Join(codes, " ") != c.code {
					t.Errorf("doctor finds %q, want %q alone\n%s", codes, c.code, report)
				}
			})
			status := i.command(t, "tls", "status", "--admin="+i.admin)
			if strings.Contains(status, "ALARM") != (c.alarm != "") || !strings.Contains(status, c.alarm) {
				t.Errorf("modgate tls status, want alarm %q:\n%s", c.alarm, status)
			}
			if refused := strings.Contains(status, "clients that refused a certificate"); refused != (c.says != "") {
				t.Errorf("told of refusing clients: %v\n%s", refused, status)
			}
		})
	}
}

// TestMutualTLS has an admin listener that wants client certificates, on a
// server whose own certificates come by tls-alpn-01: the CA, which has no client
// certificate, and the go command are not asked for one.
func TestMutualTLS(t *testing.T) {
	pki, w, dir := tlstest.New(t), newWorld(t), t.TempDir()
	pebble := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	operators := tlstest.New(t)
	i := w.start(t, "--listen="+pebble.TLSAddr, "--tls-mode=acme", "--tls-domains=localhost,127.0.0.1", "--tls-ca="+pebble.Directory, "--tls-profile=default",
		"--tls-ca-roots="+pki.WriteRoot(dir), "--tls-challenge=tls-alpn-01", "--tls-admin-clients="+operators.WriteRoot(t.TempDir()))
	i.await(t, "certificate obtained.*localhost")
	i.await(t, "certificate obtained.*127.0.0.1")
	root := writePEM(t, pebble.RootPEM(t))
	proxy, admin := "https://localhost"+i.url[strings.LastIndex(i.url, ":"):], https(i.admin)

	operator := operators.Issue(tlstest.Leaf{Client: true, Hosts: []string{"operator"}})
	for name, c := range map[string]struct {
		certs []tls.Certificate
		ok    bool
	}{
		"none":               {nil, false},
		"a stranger's":       {[]tls.Certificate{pki.Issue(tlstest.Leaf{Client: true})}, false},
		"that of a server":   {[]tls.Certificate{operators.Issue(tlstest.Leaf{})}, false},
		"that of an expired": {[]tls.Certificate{operators.Issue(tlstest.Leaf{Client: true, From: time.Now().Add(-2 * time.Hour), Until: time.Now().Add(-time.Hour)})}, false},
		"an operator's":      {[]tls.Certificate{operator}, true},
	} {
		resp, err := tlsClient(t, pebble.Pool(t), c.certs...).Get(admin + "/metrics")
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != c.ok {
			t.Errorf("client certificate %s: %v", name, err)
		}
	}
	cert, key := operators.Write(dir, "operator", operator)
	if out := i.command(t, "tls", "renew", "--admin="+admin, "--cacert="+root, "--cert="+cert, "--key="+key, "localhost"); out != "renewed\n" {
		t.Errorf("renewed by tls-alpn-01: %s\n%s", out, i.log())
	}
	if out, err := download(t, w, proxy, "SSL_CERT_FILE="+root); err != nil {
		t.Errorf("go mod download: %v\n%s", err, out)
	}
}
