package doctor_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// Who meets a port that nobody listens on is told what to do, by whatever way.
func TestRefusedHasARemedy(t *testing.T) {
	for _, test := range []struct{ name, url, setting string }{
		{"http", "http://127.0.0.1:", ""},
		{"https", "https://localhost:", ""},
		{"taken out of the HTTP proxy", "https://localhost:", "NO_PROXY=localhost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.config.URL = test.url + closedPort
			w.config.Environ = append(w.config.Environ, test.setting, "HTTPS_PROXY=http://127.0.0.1:9")
			if test.setting == "" {
				w.set("HTTPS_PROXY", "")
			}
			r := examine(t, w.config)
			if len(r.Findings) != 1 || r.Findings[0].Code != "tcp-refused" || len(r.Findings[0].Mend) == 0 || !strings.Contains(r.Findings[0].Mend[0], "port "+closedPort) {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
}

// A root that was appended to a copy of the system's bundle counts as the company's:
// an intermediate authority of the same house is what is missing then.
func TestMissingIntermediateBelowAnAppendedRoot(t *testing.T) {
	var system bytes.Buffer
	for range 25 {
		system.WriteString(someRoot(t))
	}
	for _, test := range []struct{ name, below, want string }{
		{"of that house", "Acme Issuing CA", "tls-missing-intermediate"},
		{"of another", "Elsewhere Issuing CA", "tls-unknown-authority"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			root := w.authority("Acme Root CA", nil, func(*x509.Certificate) {})
			w.config.Root = t.TempDir()
			write := func(name string, data ...[]byte) {
				name = filepath.Join(w.config.Root, name)
				w.check(os.MkdirAll(filepath.Dir(name), 0o755))
				w.check(os.WriteFile(name, bytes.Join(data, nil), 0o644))
			}
			write("/etc/ssl/certs/ca-certificates.crt", system.Bytes())
			write("/bundle.pem", system.Bytes(), certPEM(root.Cert.Raw))
			w.set("SSL_CERT_FILE", "/bundle.pem")
			w.set("SSL_CERT_DIR", "/etc/ssl/certs")
			issuing := w.authority(test.below, root, func(c *x509.Certificate) { c.Subject.Organization = nil })
			w.config.URL = w.secure(w.issue(issuing, func(*x509.Certificate) {}))
			r := examine(t, w.config)
			if got := codes(r); len(got) != 1 || string(got[0]) != test.want {
				t.Fatalf("found %q, want %q\n%s", got, test.want, text(r))
			}
			said := r.Findings[0].Cause + strings.Join(r.Findings[0].Mend, "\n")
			if !strings.Contains(said, "intermediate.crt > fullchain.crt") || strings.Contains(said, "complete") {
				t.Errorf("that the server may have to send more is not said: %s", said)
			}
		})
	}
}

// A chain of which more than one certificate is sent is one that somebody has put
// together: what is missing here is the root.
func TestUnknownAuthorityOfAWholeChain(t *testing.T) {
	w := newWorld(t)
	w.config.URL = w.secure(tlstest.New(t).Issue(tlstest.Leaf{}))
	r := examine(t, w.config)
	if len(r.Findings) != 1 || r.Findings[0].Code != "tls-unknown-authority" || !strings.HasPrefix(r.Findings[0].Mend[0], "get the root certificate") {
		t.Errorf("%+v", r.Findings)
	}
}

// A typing error in SSL_CERT_FILE is the one cause, of a modgate as well.
func TestCertFileIsTheOneCause(t *testing.T) {
	w := newWorld(t)
	w.config.URL = w.fingerprinted()
	w.set("SSL_CERT_FILE", "/nowhere/root.pem")
	if got := codes(examine(t, w.config)); len(got) != 1 || got[0] != "trust-cert-file" {
		t.Errorf("found %q", got)
	}
}

// The go command splits patterns at commas alone.
func TestPatternsBehindBlanks(t *testing.T) {
	r := examine(t, machine(t, []string{"GOPROXY=https://go.corp", "GONOPROXY=none", "GOPRIVATE=git.corp,git.example  *.corp.example"}, "/etc/ssl/certs/ca-certificates.crt", someRoot(t)))
	for _, f := range r.Findings {
		if f.Code == "env-private-pattern" && strings.Contains(f.Mend[0], "GOPRIVATE=git.corp,git.example,*.corp.example") {
			return
		}
	}
	t.Errorf("%+v", r.Findings)
}

// Nothing renews a file, and what is to be pasted can be.
func TestExpiredFilesAreReplaced(t *testing.T) {
	for keyFile, want := range map[string]string{"/tls/server.key": "put a certificate that is still good into go.corp", "": "modgate tls renew go.corp"} {
		_, c := serverWorld(t)
		c.Certificates = []tlsmgr.Status{{Name: "go.corp", NotAfter: time.Now().Add(-time.Hour), KeyFile: keyFile}}
		r := examineServer(t, c)
		if len(r.Findings) != 1 || r.Findings[0].Code != "server-certificate-expired" || !strings.HasPrefix(r.Findings[0].Mend[0], want) {
			t.Errorf("%q: %+v", keyFile, r.Findings)
		}
	}
}

// What is said of a command does not keep a shell from running it.
func TestPrintedCommandsCanBePasted(t *testing.T) {
	r := doctor.Report{Findings: []doctor.Finding{{Code: "x-y", Severity: doctor.Fail, Mend: []string{"export A=b   (this shell alone; C unset)", "see (there)"}}}}
	got := text(&r)
	if !strings.Contains(got, "first: export A=b   # this shell alone; C unset\n") || !strings.Contains(got, "do    export A=b   # this shell alone; C unset\n") || !strings.Contains(got, "see (there)\n") {
		t.Error(got)
	}
}
