package doctor_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// companyDefects are programs that stand between developers and the world in
// real companies.
func companyDefects() []defect {
	squid := func(login, host string) func(*world) string {
		return func(w *world) string {
			w.set("HTTPS_PROXY", "http://"+login+w.squid(""))
			return strings.Replace(w.secure(w.pki.Issue(tlstest.Leaf{Hosts: []string{host}})), "localhost", host, 1)
		}
	}
	return []defect{
		{name: "healthy through squid", start: squid("me:t0ken@", "go.corp"), works: true},
		{name: "squid wants a password", want: "http-proxy-auth", start: squid("", "go.corp")},
		{name: "squid wants another password", want: "http-proxy-auth", start: squid("me:wr0ng@", "go.corp")},
		{name: "squid denies CONNECT", want: "http-proxy-denied", start: squid("me:t0ken@", "blocked.corp")},
		{name: "squid does not reach the server", want: "http-proxy-cannot", start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://me:t0ken@"+w.squid(""))
			return "https://go.corp:" + closedPort
		}},
		{name: "squid opens TLS", want: "tls-middlebox", start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://me:t0ken@"+w.squid("Corp Inspection CA"))
			return w.fingerprintedAs("go.corp")
		}},
		{name: "mitmproxy opens TLS", want: "tls-middlebox", start: func(w *world) string {
			url, _ := w.mitmproxy(w.fingerprinted())
			return url
		}},
		{name: "mitmproxy opens TLS, and its root is trusted", works: true, start: func(w *world) string {
			url, root := w.mitmproxy(w.fingerprinted())
			w.set("SSL_CERT_FILE", root)
			return url
		}},
	}
}

// program returns where a program is that the test needs, or skips the test;
// where everything must be tested, its absence is a failure.
func (w *world) program(name string) string {
	w.t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/lib/squid"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		w.t.Fatalf("needs %s: make setup", name)
	}
	w.t.Skipf("needs %s: make setup", name)
	return ""
}

// open is a directory that the users of services may read as well.
func (w *world) open() string {
	dir, err := os.MkdirTemp("", "modgate-doctor-")
	w.check(err)
	w.t.Cleanup(func() { os.RemoveAll(dir) })
	w.check(os.Chmod(dir, 0o777))
	return dir
}

// write writes a file that everybody may read.
func (w *world) write(dir, name, text string) string {
	file := filepath.Join(dir, name)
	w.check(os.WriteFile(file, []byte(text), 0o644))
	w.check(os.Chmod(file, 0o644))
	return file
}

// freePort returns a port that nobody has, for programs that want to be told.
func (w *world) freePort() string { return strconv.Itoa(tlstest.Port(w.t)) }

// run starts a program that ends with the test, and waits for its port.
func (w *world) run(port, program string, args ...string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), program, args...)
	log, err := os.Create(filepath.Join(w.t.TempDir(), "log"))
	w.check(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	w.check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	w.t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(log.Name())
			ended <- err
			w.t.Fatalf("%s has ended: %v\n%s", program, err, text)
		case <-deadline:
			w.t.Fatalf("%s does not listen", program)
		case <-tick.C:
		}
	}
}

// squid starts one that wants a password, does not let anybody through to
// blocked.corp, and opens TLS with an authority of that name unless it is "".
// It returns its address.
func (w *world) squid(authority string) string {
	program, port, dir := w.program("squid"), w.freePort(), w.open()
	w.write(dir, "hosts", "127.0.0.1 go.corp blocked.corp\n")
	w.write(dir, "passwd", "me:$apr1$abcdefgh$Kgv3QObzmVnbkvSJ.1mcN/\n") // t0ken
	conf := strings.NewReplacer("DIR", dir, "AUTH", w.program("basic_ncsa_auth")).Replace(`
auth_param basic program AUTH DIR/passwd
auth_param basic realm corp
acl known proxy_auth REQUIRED
acl closed dstdomain blocked.corp
http_access deny !known
http_access deny closed
http_access allow known
hosts_file DIR/hosts
cache deny all
pid_filename none
access_log none
cache_store_log none
cache_log DIR/log
coredump_dir DIR
shutdown_lifetime 0 seconds
`)
	listen := "http_port 127.0.0.1:" + port
	if authority != "" {
		ca := w.authority(authority, nil, func(*x509.Certificate) {})
		key, err := x509.MarshalPKCS8PrivateKey(ca.Key)
		w.check(err)
		w.write(dir, "ca.pem", string(certPEM(ca.Cert.Raw))+string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
		w.write(dir, "root.pem", string(certPEM(w.pki.Root.Cert.Raw)))
		generator := w.program("security_file_certgen")
		if out, err := exec.Command(generator, "-c", "-s", dir+"/made", "-M", "4MB").CombinedOutput(); err != nil {
			w.t.Fatalf("%v\n%s", err, out)
		}
		w.check(filepath.Walk(dir+"/made", func(name string, info os.FileInfo, err error) error {
			if err == nil {
				err = os.Chmod(name, info.Mode().Perm()|0o666|info.Mode().Perm()&0o100/0o100*0o111)
			}
			return err
		}))
		listen += " ssl-bump generate-host-certificates=on cert=" + dir + "/ca.pem"
		conf += fmt.Sprintf("sslcrtd_program %s -s %s/made -M 4MB\ntls_outgoing_options cafile=%s/root.pem\nssl_bump bump all\n", generator, dir, dir)
	}
	w.run(port, program, "-N", "-f", w.write(dir, "squid.conf", listen+conf))
	return "127.0.0.1:" + port
}

// mitmproxy starts one in front of a server, and returns its URL and its root.
func (w *world) mitmproxy(target string) (url, root string) {
	program, port, dir := w.program("mitmdump"), w.freePort(), w.open()
	trusted := w.write(dir, "upstream.pem", string(certPEM(w.pki.Root.Cert.Raw)))
	w.run(port, program, "-q", "--mode", "reverse:"+target, "--listen-host", "127.0.0.1", "--listen-port", port,
		"--set", "confdir="+dir, "--set", "ssl_verify_upstream_trusted_ca="+trusted)
	return "https://localhost:" + port, filepath.Join(dir, "mitmproxy-ca-cert.pem")
}

// revocationDefects are certificates that their authority has taken back, and
// some that it has not.
func revocationDefects() []defect {
	revoked := func(list, responder, staple bool) func(*world) string {
		return func(w *world) string { return w.revocable(revocations{list, responder, staple, true}) }
	}
	valid := func(list, responder, staple bool) func(*world) string {
		return func(w *world) string { return w.revocable(revocations{list, responder, staple, false}) }
	}
	return []defect{ // the go command does not ask, and says nothing
		{name: "revoked, says the list", want: "tls-revoked", works: true, start: revoked(true, false, false)},
		{name: "revoked, says the responder", want: "tls-revoked", works: true, start: revoked(false, true, false)},
		{name: "revoked, says what the server has stapled", want: "tls-revoked", works: true, start: revoked(false, false, true)},
		{name: "healthy, says the list", works: true, start: valid(true, false, false)},
		{name: "healthy, says the responder", works: true, start: valid(false, true, false)},
		{name: "healthy, says what is stapled", works: true, start: valid(false, false, true)},
		{name: "healthy, and the list is not to be had", works: true, start: func(w *world) string {
			return w.secure(w.whole(func(c *x509.Certificate) {
				c.CRLDistributionPoints = []string{"http://localhost:" + closedPort + "/ca.crl"}
			}))
		}},
	}
}

// whole is odd with the intermediate behind it.
func (w *world) whole(change func(*x509.Certificate)) tls.Certificate {
	cert := w.odd(change)
	cert.Certificate = append(cert.Certificate, w.pki.Intermediate.Cert.Raw)
	return cert
}

// revocations says where an authority publishes what it has taken back, and
// whether our certificate is among that.
type revocations struct{ list, responder, staple, revoked bool }

// revocable serves the modules with a certificate of such an authority.
func (w *world) revocable(r revocations) string { return w.secure(w.published(r)) }

// published makes a certificate of such an authority.
func (w *world) published(r revocations) tls.Certificate {
	ca := w.pki.Intermediate
	signer := ca.Key
	serial := big.NewInt(time.Now().UnixNano())
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	answer := func() []byte {
		template := ocsp.Response{SerialNumber: serial, ThisUpdate: at, NextUpdate: at.Add(24 * time.Hour), Status: ocsp.Good}
		if r.revoked {
			template.Status, template.RevokedAt, template.RevocationReason = ocsp.Revoked, at, ocsp.KeyCompromise
		}
		data, err := ocsp.CreateResponse(ca.Cert, ca.Cert, template, signer)
		w.check(err)
		return data
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at, NextUpdate: at.Add(24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: at}}}
	if r.revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: at, ReasonCode: 1})
	}
	crl, err := x509.CreateRevocationList(rand.Reader, list, ca.Cert, signer)
	w.check(err)
	published := w.plain(http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/ca.crl" {
			out.Write(crl)
			return
		}
		body, err := io.ReadAll(req.Body)
		if question, bad := ocsp.ParseRequest(body); err != nil || bad != nil || question.SerialNumber.Cmp(serial) != 0 {
			w.t.Errorf("the responder is asked for something else: %v %v", err, bad)
		}
		out.Write(answer())
	}))
	cert := w.whole(func(c *x509.Certificate) {
		c.SerialNumber = serial
		if r.list {
			c.CRLDistributionPoints = []string{"ldap:///CN=list", published + "/ca.crl"}
		}
		if r.responder {
			c.OCSPServer = []string{published + "/ocsp"}
		}
	})
	if r.staple {
		cert.OCSPStaple = answer()
	}
	return cert
}

// clockDefects stand in a world whose clocks and certificates are 30 hours off
// ours, so that the real go command meets a wrong clock as well.
func clockDefects() []defect {
	at := func(offset time.Duration) func(*world) string {
		return func(w *world) string {
			then := time.Now().Add(offset)
			dated := func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
					out.Header().Set("Date", time.Now().Add(offset).UTC().Format(http.TimeFormat))
					h.ServeHTTP(out, r)
				})
			}
			w.config.ClockURLs = []string{w.plain(dated(http.NotFoundHandler()))}
			root := w.authority("Company Root", nil, func(*x509.Certificate) {}) // valid at both times
			w.check(os.WriteFile(w.trusted, certPEM(root.Cert.Raw), 0o600))
			return w.secureHandler(dated(w.mods.Config.Handler), w.issue(root, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = then.Add(-time.Hour), then.Add(time.Hour)
			}))
		}
	}
	return []defect{
		{name: "our clock is 30 hours behind that of all others", want: "clock-wrong", start: at(30 * time.Hour)},
		{name: "our clock is 30 hours ahead of that of all others", want: "clock-wrong", start: at(-30 * time.Hour)},
	}
}

// What opens TLS on the way is told also where its root is trusted.
func TestTrustedMiddleboxIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url, root := w.mitmproxy(w.fingerprinted())
	w.set("GOPROXY", url)
	w.set("SSL_CERT_FILE", root)
	if said := text(examine(t, w.config)); !strings.Contains(said, "TLS is opened on the way, by CN=mitmproxy,O=mitmproxy") {
		t.Error(said)
	}
}
