package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/internal/conn"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// tlsClient trusts pool, shows certs and follows no redirect.
func tlsClient(t *testing.T, pool *x509.CertPool, certs ...tls.Certificate) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// getBy returns the answer to a GET by c, and its body.
func getBy(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// https returns the address of i as one of TLS.
func https(url string) string { return "https" + strings.TrimPrefix(url, "http") }

// download lets the go command download a module from proxy, in a fresh home.
func download(t *testing.T, w *world, proxy string, environ ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.26\n\nrequire example.com/greet v1.0.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "mod", "download", "all")
	cmd.Dir = dir
	cmd.Env = append(goEnv(dir, proxy, w.log.Key()), environ...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// logged returns what the group of the pattern matches in the log.
func (i *instance) logged(t *testing.T, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(i.log())
	if m == nil {
		t.Fatalf("no %s in\n%s", pattern, i.log())
	}
	return m[1]
}

// TestTLSFiles is a server with certificates in files, as everybody sees it: the
// go command, a browser that forgot the s, an operator.
func TestTLSFiles(t *testing.T) {
	pki, dir, w := tlstest.New(t), t.TempDir(), newWorld(t)
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	root := pki.WriteRoot(dir)
	i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key, "--tls-http-listen=127.0.0.1:0", "--tls-admin-clients="+root)
	proxy, admin := https(i.url), https(i.admin)

	if out, err := download(t, w, proxy, "SSL_CERT_FILE="+root); err != nil {
		t.Errorf("go mod download: %v\n%s", err, out)
	}
	out, err := download(t, w, proxy)
	if err == nil || !strings.Contains(out, "certificate signed by unknown authority") {
		t.Errorf("without the root: %v\n%s", err, out)
	}
	client := tlsClient(t, pki.Pool())
	resp, body := getBy(t, client, proxy+"/example.com/greet/@v/v1.0.0.mod")
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || !strings.HasPrefix(body, "module example.com/greet") {
		t.Errorf("%s %s %q", resp.Proto, resp.Status, body)
	}
	if resp, body := getBy(t, http.DefaultClient, i.url); resp.StatusCode != 400 || !strings.Contains(body, "HTTP request to an HTTPS server") {
		t.Errorf("plain HTTP on the port of TLS: %d %q", resp.StatusCode, body)
	}
	if _, err := client.Get(admin + "/metrics"); err == nil {
		t.Error("the admin listener answers without a client certificate")
	}
	operator := tlsClient(t, pki.Pool(), pki.Issue(tlstest.Leaf{Client: true, Hosts: []string{"operator"}}))
	var status struct {
		TLS *tlsStatus
	}
	_, body = getBy(t, operator, admin+"/-/status")
	if err := json.Unmarshal([]byte(body), &status); err != nil || status.TLS == nil || len(status.TLS.Certificates) != 1 {
		t.Fatalf("%v\n%s", err, body)
	}
	if s := status.TLS.Certificates[0]; s.Name != cert || s.NotAfter.IsZero() || s.Names[0] != "localhost" {
		t.Errorf("%+v", s)
	}
	if r := status.TLS.Refused; r.Clients != 1 || r.Last != "127.0.0.1" {
		t.Errorf("%+v", r)
	}
	_, metrics := getBy(t, operator, admin+"/metrics")
	for _, want := range []string{`modgate_tls_handshake_failures_total{cause="plain_http"} 1`, `modgate_tls_certificate_expiry_timestamp_seconds{name="` + cert + `"} 1.`, "modgate_tls_alarms 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
	operatorCert, operatorKey := pki.Write(dir, "operator", pki.Issue(tlstest.Leaf{Client: true, Hosts: []string{"operator"}}))
	out = i.command(t, "tls", "status", "--admin="+admin, "--cacert="+root, "--cert="+operatorCert, "--key="+operatorKey)
	if !strings.Contains(out, cert) || !strings.Contains(out, "clients that refused") || strings.Contains(out, "ALARM") {
		t.Errorf("modgate tls status:\n%s", out)
	}
	if out = i.command(t, "tls", "status", "--admin="+admin, "--cacert="+root); !strings.Contains(out, "certificate required") && !strings.Contains(out, "broken pipe") && !strings.Contains(out, "reset") {
		t.Errorf("modgate tls status without a certificate:\n%s", out)
	}
	if !strings.Contains(i.log(), "https://localhost:") {
		t.Errorf("the address is not told with a name of the certificate:\n%s", i.log())
	}
}

// TestHTTPListen sends the go command from http:// to https://.
func TestHTTPListen(t *testing.T) {
	pki, dir, w := tlstest.New(t), t.TempDir(), newWorld(t)
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key, "--tls-http-listen=127.0.0.1:0")
	line := i.logged(t, `http_listen=(\S+)`)
	resp, _ := getBy(t, tlsClient(t, nil), "http://"+line+"/a%2Fb?c")
	if want := https(i.url) + "/a%2Fb?c"; resp.StatusCode != 308 || resp.Header.Get("Location") != want {
		t.Errorf("%d to %q, want %q", resp.StatusCode, resp.Header.Get("Location"), want)
	}
	if resp, body := getBy(t, http.DefaultClient, "http://"+line+"/readyz"); resp.StatusCode != 200 || body != "ready\n" {
		t.Errorf("/readyz: %d %q", resp.StatusCode, body)
	}
	if out, err := download(t, w, "http://"+line, "SSL_CERT_FILE="+pki.WriteRoot(dir)); err != nil {
		t.Errorf("go mod download over the redirect: %v\n%s", err, out)
	}
}

// TestTLSInternal is a server with an authority of its own: what its commands
// print makes the go command trust it, before and after a restart.
func TestTLSInternal(t *testing.T) {
	dir, w := t.TempDir(), newWorld(t)
	storage, root := filepath.Join(dir, "tls"), filepath.Join(dir, "root.pem")
	caRoot := func() (string, error) {
		var stdout, stderr bytes.Buffer
		err := run(t.Context(), []string{"ca", "root", "--config=off", "--tls-mode=internal", "--tls-storage=" + storage}, nil, &stdout, &stderr)
		return stdout.String(), errors.Join(err, errors.New(stderr.String()))
	}
	if _, err := caRoot(); !strings.Contains(err.Error(), "there is no authority") {
		t.Errorf("before the first start: %v", err)
	}
	var before string
	for range 2 {
		i, err := launch(nil, t.TempDir(), append(w.flags(), "--tls-mode=internal", "--tls-storage="+storage)...)
		if err != nil {
			t.Fatal(err)
		}
		text, stderr := caRoot()
		if !strings.Contains(stderr.Error(), "SHA-256 fingerprint: ") {
			t.Error(stderr)
		}
		if _, served := get(t, i.admin+"/-/ca.pem"); served != text || !strings.HasPrefix(text, "-----BEGIN CERTIFICATE-----") {
			t.Errorf("/-/ca.pem:\n%s\nmodgate ca root:\n%s", served, text)
		}
		if before != "" && text != before {
			t.Error("another root after the restart")
		}
		before = text
		if err := os.WriteFile(root, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := download(t, w, https(i.url), "SSL_CERT_FILE="+root); err != nil {
			t.Errorf("go mod download: %v\n%s", err, out)
		}
		if err := i.stop(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"root.key", "intermediate.key"} {
		if info, err := os.Stat(filepath.Join(storage, "pki", name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// TestTLSACME obtains certificates from a real ACME server, by each challenge
// that needs no DNS, and lets the go command use them, before and after a
// renewal by hand.
func TestTLSACME(t *testing.T) {
	pki, w := tlstest.New(t), newWorld(t)
	pebble := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	dir := t.TempDir()
	caRoot, root := pki.WriteRoot(dir), filepath.Join(dir, "pebble.pem")
	if err := os.WriteFile(root, pebble.RootPEM(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			i := w.start(t, "--listen="+pebble.TLSAddr, "--tls-mode=acme", "--tls-domains=localhost,go.corp.test", "--tls-ca="+pebble.Directory, "--tls-profile=default",
				"--tls-ca-roots="+caRoot, "--tls-challenge="+challenge, "--tls-http-listen="+pebble.HTTPAddr, "--tls-email=ops@corp.example")
			proxy := "https://localhost" + i.url[strings.LastIndex(i.url, ":"):]
			i.await(t, "certificate obtained.*localhost")
			if out, err := download(t, w, proxy, "SSL_CERT_FILE="+root); err != nil {
				t.Errorf("go mod download: %v\n%s", err, out)
			}
			i.await(t, "certificate obtained.*go.corp.test")
			before := i.command(t, "tls", "status", "--admin="+i.admin)
			if !strings.Contains(before, "go.corp.test") || !strings.Contains(before, "Pebble") || strings.Contains(before, "ALARM") {
				t.Error(before)
			}
			if out := i.command(t, "tls", "renew", "--admin="+i.admin, "localhost"); out != "renewed\n" {
				t.Error(out)
			}
			if after := i.command(t, "tls", "status", "--admin="+i.admin); after == before {
				t.Errorf("the status is as before:\n%s", after)
			}
			if out := i.command(t, "tls", "renew", "--admin="+i.admin, "other.test"); !strings.Contains(out, "not among tls.domains") {
				t.Error(out)
			}
			if out, err := download(t, w, proxy, "SSL_CERT_FILE="+root); err != nil {
				t.Errorf("go mod download after the renewal: %v\n%s", err, out)
			}
		})
	}
}

// command runs a command against i and returns what it prints.
func (i *instance) command(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	run(t.Context(), append(args, "--config=off"), nil, &out, &out)
	return out.String()
}

// await waits until the log matches the pattern.
func (i *instance) await(t *testing.T, pattern string) {
	t.Helper()
	for range 600 {
		if regexp.MustCompile(pattern).MatchString(i.log()) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no %s in\n%s", pattern, i.log())
}

// A pair of files that is replaced is served within seconds to who connects
// then, and who is connected notices nothing.
func TestTLSReload(t *testing.T) {
	pki, w, dir := tlstest.New(t), newWorld(t), t.TempDir()
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key)
	url := https(i.url) + "/example.com/greet/@v/v1.0.0.mod"
	client := tlsClient(t, pki.Pool())
	serialOf := func(resp *http.Response) string { return resp.TLS.PeerCertificates[0].SerialNumber.String() }
	resp, body := getBy(t, client, url)
	before := serialOf(resp)
	pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	for n := 0; ; n++ {
		if now, err := serial(i, pki.Pool()); err == nil && now != before {
			break
		}
		if n == 600 {
			t.Fatalf("the new certificate is not served:\n%s", i.log())
		}
		time.Sleep(50 * time.Millisecond)
	}
	resp, again := getBy(t, client, url)
	if serialOf(resp) != before || again != body {
		t.Errorf("the connection that was there: serial %s, was %s; body %q", serialOf(resp), before, again)
	}
	if out, err := download(t, w, https(i.url), "SSL_CERT_FILE="+pki.WriteRoot(dir)); err != nil {
		t.Errorf("go mod download: %v\n%s", err, out)
	}
}

// A client that stops one answer over HTTP/2 is cut, and the others on its
// connection are not, nor is one that comes late.
func TestStalledStreamIsCut(t *testing.T) {
	pki := tlstest.New(t)
	const patience = 200 * time.Millisecond
	ended := make(chan error, 1)
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/big":
				_, err := io.Copy(w, bytes.NewReader(make([]byte, 64<<20)))
				ended <- err
			case "/late":
				<-time.After(4 * patience) // as for a slow upstream
				fallthrough
			default:
				io.WriteString(w, "small")
			}
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pki.Issue(tlstest.Leaf{})}},
	}
	conn.BoundStreams(s, patience)
	l, err := listen(t.Context(), "listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serveOn(s, l)
	defer s.Close()
	client := tlsClient(t, pki.Pool())
	resp, err := client.Get("https://" + l.Addr().String() + "/big")
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the answer was written to nobody")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the answer is not cut")
	}
	for _, path := range []string{"/small", "/late"} {
		if _, body := getBy(t, client, "https://"+l.Addr().String()+path); body != "small" {
			t.Errorf("%s on the same connection: %q", path, body)
		}
	}
}

// A client on a slow line gets everything over HTTP/2, although the kernel takes
// far more at once than leaves within the patience.
func TestSlowLineGetsEverything(t *testing.T) {
	const patience, size = 400 * time.Millisecond, 8 << 20
	pki := tlstest.New(t)
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(w, bytes.NewReader(make([]byte, size)))
		}),
		ConnContext: conn.Context,
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{pki.Issue(tlstest.Leaf{})}},
	}
	conn.BoundStreams(s, patience)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serveOn(s, conn.NewListener(inner, patience))
	defer s.Close()
	client := tlsClient(t, pki.Pool())
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &slowLine{c, time.NewTicker(patience / 16)}, c.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	begin := time.Now()
	resp, err := client.Get("https://" + inner.Addr().String())
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
		t.Errorf("%d bytes of %d after %v: %v", n, size, time.Since(begin), err)
	}
}

// slowLine brings little at a time.
type slowLine struct {
	net.Conn
	pace *time.Ticker
}

func (l *slowLine) Read(p []byte) (int, error) {
	<-l.pace.C
	return l.Conn.Read(p[:min(len(p), 64<<10)])
}

func (l *slowLine) Close() error {
	l.pace.Stop()
	return l.Conn.Close()
}
