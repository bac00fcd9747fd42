package doctor_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// world is a client machine that trusts one authority, and the servers that it
// talks to, which are wrong in one way.
type world struct {
	t       *testing.T
	pki     *tlstest.PKI
	mods    *proxytest.Server // serves example.com/m@v1.0.0 and its checksums
	mod     *proxytest.Module
	sums    *sumdbtest.Log
	home    string
	trusted string // the file with the root
	config  doctor.Config
	names   map[string]string // name → address, or several with blanks between
	named   bool              // the go command finds the names, too, in a namespace of its own
}

var asked = module.Version{Path: "example.com/m", Version: "v1.0.0"}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, pki: tlstest.New(t), mod: proxytest.Simple(t, asked.Path, asked.Version)}
	w.mods = proxytest.New(t, w.mod)
	var err error
	if w.sums, err = sumdbtest.New("sum.example"); err != nil {
		t.Fatal(err)
	}
	w.sums.Add(asked, w.mod.H1, w.mod.ModH1)
	w.mods.SumDB(w.sums.Name(), w.sums)
	home := t.TempDir()
	w.home, w.trusted = home, w.pki.WriteRoot(home)
	certs := filepath.Join(home, "certs")
	if err := os.Mkdir(certs, 0o755); err != nil {
		t.Fatal(err)
	}
	// Else the go command leaves a child behind that writes into the directory.
	telemetry := filepath.Join(home, ".config", "go", "telemetry")
	w.check(os.MkdirAll(telemetry, 0o755))
	w.check(os.WriteFile(filepath.Join(telemetry, "mode"), []byte("off"), 0o644))
	w.names = map[string]string{"localhost": "127.0.0.1"}
	w.config = doctor.Config{
		Module: asked, OS: "linux", Resolver: hosts(w.names), Now: time.Now, ClockURLs: []string{}, Dial: new(net.Dialer).DialContext,
		Timeout: 16 * time.Second, Patience: 16 * time.Second, // a busy machine must not look like a silent server
		Environ: []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOENV=off", "GOROOT=", "GOTOOLCHAIN=local", "GOFLAGS=-modcacherw",
			"GOSUMDB=" + w.sums.Key(), "SSL_CERT_FILE=" + w.trusted, "SSL_CERT_DIR=" + certs,
		},
	}
	return w
}

// impatient is for a world in which somebody is silent.
func (w *world) impatient() {
	w.config.Timeout, w.config.Patience = 4*time.Second, 4*time.Second
}

// quick fails a test if what do does takes long. That others have the machine does
// not count: a clock beside it that ticks late says for how long nobody could do
// anything.
func quick(t *testing.T, do func()) {
	t.Helper()
	const tick = 10 * time.Millisecond
	done, late := make(chan struct{}), make(chan time.Duration)
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		sum, last := time.Duration(0), time.Now()
		for {
			select {
			case <-done:
				late <- sum
				return
			case now := <-ticker.C:
				if behind := now.Sub(last) - tick; behind > tick/2 {
					sum += behind
				}
				last = now
			}
		}
	}()
	start := time.Now()
	do()
	took := time.Since(start)
	close(done)
	if waited := <-late; took-waited >= 10*time.Second {
		t.Errorf("it took %v, of which %v were waiting for the machine", took, waited)
	}
}

// set sets a variable of the client's environment.
func (w *world) set(name, value string) { w.config.Environ = append(w.config.Environ, name+"="+value) }

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// netrc writes the client's netrc.
func (w *world) netrc(text string) {
	name := filepath.Join(w.t.TempDir(), "netrc")
	w.check(os.WriteFile(name, []byte(text), 0o600))
	w.set("NETRC", name)
}

// hosts resolves names from a table.
type hosts map[string]string

func (h hosts) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if _, ok := h[host]; ok {
		var all []netip.Addr
		for a := range strings.FieldsSeq(h[host]) {
			all = append(all, netip.MustParseAddr(a))
		}
		return all, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// secure serves the modules over TLS and returns the URL.
func (w *world) secure(cert tls.Certificate, change ...func(*tls.Config)) string {
	return w.secureHandler(w.mods.Config.Handler, cert, change...)
}

// good is a certificate with which nothing is wrong.
func (w *world) good() tls.Certificate { return w.pki.Issue(tlstest.Leaf{}) }

func (w *world) secureHandler(h http.Handler, cert tls.Certificate, change ...func(*tls.Config)) string {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, f := range change {
		f(s.TLS)
	}
	s.StartTLS()
	w.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return "https://localhost:" + portOf(s.Listener)
}

// bare serves the modules over TLS with exactly this configuration.
func (w *world) bare(c *tls.Config) string {
	l := w.listen()
	s := &http.Server{Handler: w.mods.Config.Handler, ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(tls.NewListener(l, c))
	w.t.Cleanup(func() { s.Close() })
	return "https://localhost:" + portOf(l)
}

func (w *world) listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return l
}

// closedPort is one that nobody listens on, and that no other test can get.
const closedPort = "1"

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// raw gives each connection to f, and closes it afterwards.
func (w *world) raw(f func(net.Conn)) string {
	l := w.listen()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer conn.Close(); f(conn) })
		}
	})
	w.t.Cleanup(func() { l.Close(); all.Wait() })
	return "https://localhost:" + portOf(l)
}

// plain serves a handler over plain HTTP.
func (w *world) plain(h http.Handler) string {
	s := httptest.NewServer(h)
	w.t.Cleanup(s.Close)
	return "http://localhost:" + portOf(s.Listener)
}

// answers serves over TLS what h answers.
func (w *world) answers(h http.HandlerFunc) string { return w.secureHandler(h, w.good()) }

// fault serves the modules over TLS, one of them with a fault.
func (w *world) fault(path string, f proxytest.Fault) string {
	w.mods.SetFault(path, f)
	return w.secure(w.good())
}

// elsewhere makes a public host answer by h, over TLS.
func (w *world) elsewhere(host string, h http.HandlerFunc) {
	address := strings.TrimPrefix(w.secureHandler(h, w.pki.Issue(tlstest.Leaf{Hosts: []string{host}})), "https://localhost")
	w.names[host] = "192.0.2.1"
	w.config.Dial = func(ctx context.Context, network, to string) (net.Conn, error) {
		if strings.HasPrefix(to, "192.0.2.1:") {
			to = "127.0.0.1" + address
		}
		return new(net.Dialer).DialContext(ctx, network, to)
	}
}

// odd makes a certificate that tlstest does not, signed by the intermediate.
func (w *world) odd(change func(*x509.Certificate)) tls.Certificate {
	return w.issue(w.pki.Intermediate, change)
}

func (w *world) issue(by *tlstest.Authority, change func(*x509.Certificate)) tls.Certificate {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, by.Cert, key.Public(), by.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// authority makes an authority below by; a root if by is nil.
func (w *world) authority(name string, by *tlstest.Authority, change func(*x509.Certificate)) *tlstest.Authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter: time.Now().Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	change(template)
	a := &tlstest.Authority{Cert: template, Key: key}
	if by == nil {
		by = a
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Cert, key.Public(), by.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	if a.Cert, err = x509.ParseCertificate(der); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// middlebox opens TLS with certificates of its own authority and passes
// requests on to the server at target. It returns its URL.
func (w *world) middlebox(authority, target string) string {
	root := w.authority(authority, nil, func(*x509.Certificate) {})
	cert := w.issue(root, func(*x509.Certificate) {})
	cert.Certificate = append(cert.Certificate, root.Cert.Raw)
	inside := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.pki.Pool()}}
	w.t.Cleanup(inside.CloseIdleConnections)
	return w.secureHandler(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.Path, nil)
		resp, err := inside.RoundTrip(req)
		if err != nil {
			http.Error(out, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		out.WriteHeader(resp.StatusCode)
		io.Copy(out, resp.Body)
	}), cert)
}

// fingerprinted serves the modules and, as modgate does, what its certificate is.
func (w *world) fingerprinted() string { return w.fingerprintedAs("localhost") }

// fingerprintedAs does so under another name, for who goes through an HTTP proxy.
func (w *world) fingerprintedAs(host string) string {
	cert := w.pki.Issue(tlstest.Leaf{Hosts: []string{host}})
	url := w.secureHandler(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Path != doctor.FingerprintPath {
			w.mods.Config.Handler.ServeHTTP(out, r)
			return
		}
		json.NewEncoder(out).Encode(doctor.Fingerprint{Certificates: []doctor.Identity{{Issuer: cert.Leaf.Issuer.String(), Serial: fmt.Sprintf("%x", cert.Leaf.SerialNumber)}}})
	}), cert)
	return strings.Replace(url, "localhost", host, 1)
}

// tunnel is an HTTP proxy for CONNECT. status answers instead of it, unless the
// right password comes.
func (w *world) tunnel(status int, password string) string {
	address := w.raw(func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, given, _ := strings.Cut(proxyAuth(req), ":")
		if req.Method != http.MethodConnect || status != http.StatusOK && (password == "" || given != password) {
			fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nProxy-Authenticate: Basic realm=x\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>", status, http.StatusText(status))
			return
		}
		_, port, _ := net.SplitHostPort(req.Host)
		to, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return
		}
		defer to.Close()
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(to, conn); to.Close() }()
		io.Copy(conn, to)
	})
	return strings.TrimPrefix(address, "https://")
}

// socks is a SOCKS5 proxy (RFC 1928) that knows names alone, and leads all of
// them to this machine.
func (w *world) socks() string {
	address := w.raw(func(conn net.Conn) {
		head := make([]byte, 3) // version, one method, none
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		conn.Write([]byte{5, 0})
		request := make([]byte, 5) // version, connect, reserved, type, length of the name
		if _, err := io.ReadFull(conn, request); err != nil || request[3] != 3 {
			return
		}
		rest := make([]byte, int(request[4])+2)
		if _, err := io.ReadFull(conn, rest); err != nil {
			return
		}
		port := int(rest[len(rest)-2])<<8 | int(rest[len(rest)-1])
		to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return
		}
		defer to.Close()
		conn.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 0})
		go func() { io.Copy(to, conn); to.Close() }()
		io.Copy(conn, to)
	})
	return strings.TrimPrefix(address, "https://")
}

func proxyAuth(r *http.Request) string {
	req := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	user, password, _ := req.BasicAuth()
	return user + ":" + password
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
