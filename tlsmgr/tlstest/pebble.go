package tlstest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Pebble is an ACME server of Let's Encrypt for tests, with a DNS in which
// every name leads to 127.0.0.1. A restart makes it forget all it knew, with
// its root.
type Pebble struct {
	// Directory is the URL of the ACME directory.
	Directory string
	// HTTPAddr and TLSAddr are where it looks for challenges.
	HTTPAddr, TLSAddr string
	// DNS is the management URL of pebble-challtestsrv, DNSAddr where that
	// answers DNS.
	DNS, DNSAddr string

	pki        *PKI
	dir        string
	environ    []string
	resolver   string
	listen     string
	management string
	process    *Process
	orders     int // of processes that have ended
}

// PebbleConfig says how a Pebble should be. The zero value is a patient one.
type PebbleConfig struct {
	// NonceReject is how many of a hundred requests it refuses for their nonce.
	NonceReject string
	// EAB are the MAC keys of external accounts by key id. With any, accounts
	// must be bound.
	EAB map[string]string
	// DNS is where it asks for names, host:port. Default: the DNS of its own.
	DNS string
	// HTTPAddr and TLSAddr are where it looks for challenges, as another Pebble
	// does. Default: ports of its own.
	HTTPAddr, TLSAddr string
	// Blocked are names that it does not sign, beside blocked-domain.example.
	Blocked []string
}

// StartPebble starts a Pebble that ends with the test. Its own server has a
// certificate of pki.
func StartPebble(tb testing.TB, pki *PKI, c PebbleConfig) *Pebble {
	tb.Helper()
	p := &Pebble{pki: pki, dir: tb.TempDir()}
	Need(tb, "pebble")
	dns, dnsManagement := Port(tb), Port(tb)
	httpPort, tlsPort := Port(tb), Port(tb)
	p.listen, p.management = Loopback(Port(tb)), Loopback(Port(tb))
	p.HTTPAddr, p.TLSAddr, p.DNSAddr = Loopback(httpPort), Loopback(tlsPort), Loopback(dns)
	p.Directory, p.DNS = "https://"+p.listen+"/dir", "http://"+Loopback(dnsManagement)
	challenges := Start(tb, p.dir, nil, "pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", p.DNSAddr,
		"-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-management", Loopback(dnsManagement))
	challenges.Await(tb, Loopback(dnsManagement))
	if c.HTTPAddr != "" {
		p.HTTPAddr, p.TLSAddr = c.HTTPAddr, c.TLSAddr
		httpPort, tlsPort = portOf(tb, c.HTTPAddr), portOf(tb, c.TLSAddr)
	}
	cert, key := pki.Write(p.dir, "pebble", pki.Issue(Leaf{}))
	settings := map[string]any{
		"listenAddress": p.listen, "managementListenAddress": p.management, "certificate": cert, "privateKey": key,
		"httpPort": httpPort, "tlsPort": tlsPort, "domainBlocklist": append([]string{"blocked-domain.example"}, c.Blocked...),
		"externalAccountBindingRequired": len(c.EAB) > 0, "externalAccountMACKeys": c.EAB,
		"retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{
			"default": map[string]any{"description": "90 days", "validityPeriod": 7776000},
			"tiny":    map[string]any{"description": "20 seconds", "validityPeriod": 20},
		},
	}
	data, err := json.Marshal(map[string]any{"pebble": settings})
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, "config.json"), data, 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
	p.resolver = c.DNS
	if p.resolver == "" {
		p.resolver = p.DNSAddr
	}
	if c.NonceReject == "" {
		c.NonceReject = "0"
	}
	p.environ = []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "PEBBLE_WFE_NONCEREJECT=" + c.NonceReject}
	p.start(tb)
	return p
}

func (p *Pebble) start(tb testing.TB) {
	tb.Helper()
	p.process = Start(tb, p.dir, p.environ, "pebble", "-config", "config.json", "-dnsserver", p.resolver)
	p.process.Await(tb, p.listen)
	p.process.Await(tb, p.management)
}

// Restart ends it and starts it anew: another CA at the same address, which
// knows no account.
func (p *Pebble) Restart(tb testing.TB) {
	tb.Helper()
	p.Stop()
	p.start(tb)
}

// Stop ends it.
func (p *Pebble) Stop() {
	p.orders = p.Orders()
	p.process.Stop()
	p.process = nil
}

// Orders returns how many certificates were ordered.
func (p *Pebble) Orders() int {
	if p.process == nil {
		return p.orders
	}
	return p.orders + len(regexp.MustCompile(`POST /order-plz`).FindAllString(p.process.Output(), -1))
}

// Log returns what it has written.
func (p *Pebble) Log() string { return p.process.Output() }

// client trusts what the PKI has signed.
func (p *Pebble) client(tb testing.TB) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.pki.Pool()}, DisableKeepAlives: true}
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// RootPEM returns the root that it signs by.
func (p *Pebble) RootPEM(tb testing.TB) []byte {
	tb.Helper()
	resp, err := p.client(tb).Get("https://" + p.management + "/roots/0")
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// Pool returns a pool of RootPEM.
func (p *Pebble) Pool(tb testing.TB) *x509.CertPool {
	tb.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.RootPEM(tb))
	return pool
}

// SetRenewalInfo lets it answer with the JSON text when it is asked when to
// renew cert.
func (p *Pebble) SetRenewalInfo(tb testing.TB, cert *x509.Certificate, text string) {
	tb.Helper()
	leaf := PEM(tls.Certificate{Certificate: [][]byte{cert.Raw}})
	p.post(tb, "https://"+p.management+"/set-renewal-info/", map[string]string{"certificate": string(leaf), "ariResponse": text})
}

// SetDNS posts to the management of the DNS: "set-servfail", {"host": …}.
func (p *Pebble) SetDNS(tb testing.TB, what string, body any) {
	tb.Helper()
	p.post(tb, p.DNS+"/"+what, body)
}

// DNSHook writes a program for the DNS provider exec into dir, which makes the
// records in the DNS of p and notes its calls in dir/calls. It returns its name.
func (p *Pebble) DNSHook(tb testing.TB, dir string) string {
	host, port, _ := strings.Cut(strings.TrimPrefix(p.DNS, "http://"), ":")
	script := `#!/bin/bash
case $1 in
present) path=/set-txt; body="{\"host\":\"$2.\",\"value\":\"$3\"}" ;;
cleanup) path=/clear-txt; body="{\"host\":\"$2.\"}" ;;
esac
exec 3<>/dev/tcp/` + host + "/" + port + `
printf 'POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' "$path" "${#body}" "$body" >&3
cat <&3 >/dev/null
echo "$1 $2" >>` + filepath.Join(dir, "calls") + "\n"
	name := filepath.Join(dir, "hook")
	if err := os.WriteFile(name, []byte(script), 0o700); err != nil {
		tb.Fatal(err)
	}
	return name
}

func (p *Pebble) post(tb testing.TB, url string, body any) {
	tb.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := p.client(tb).Post(url, "application/json", strings.NewReader(string(data)))
	if err != nil {
		tb.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		tb.Fatalf("%s: %s", url, resp.Status)
	}
}
