package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// tunnel is an HTTP proxy that brings every connection to address, whatever
// name the client asks for: as if the DNS of the machine led there.
func tunnel(t *testing.T, address string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT alone", http.StatusMethodNotAllowed)
			return
		}
		far, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer far.Close()
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer near.Close()
		io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(far, near); far.Close() }()
		io.Copy(near, far)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}

// wayToObtain is one of the ways in which a server gets its certificates.
type wayToObtain struct {
	name    string
	flags   []string
	domains []string
	clients []string // hosts that the go command calls the server by
	root    string   // file that the go command trusts
}

// TestDownloadOverEveryCertificate gets certificates in every way that there is,
// from real CAs, and lets the go command download a module over each.
func TestDownloadOverEveryCertificate(t *testing.T) {
	pki, w := tlstest.New(t), newWorld(t)
	caRoot := pki.WriteRoot(t.TempDir())
	for _, ways := range []func(*testing.T, *tlstest.PKI) []wayToObtain{waysOfPebble, waysOfDNS, waysOfAccounts, waysOfStepCA} {
		for _, way := range ways(t, pki) {
			t.Run(way.name, func(t *testing.T) {
				flags := append(way.flags, "--tls-mode=acme", "--tls-domains="+strings.Join(way.domains, ","), "--tls-ca-roots="+caRoot)
				i := w.start(t, flags...)
				for _, name := range way.domains {
					i.await(t, `certificate obtained.* name=`+regexp.QuoteMeta(name)+` `)
				}
				port := i.url[strings.LastIndex(i.url, ":"):]
				through := tunnel(t, "127.0.0.1"+port)
				for _, host := range way.clients {
					if out, err := download(t, w, "https://"+host+port, "SSL_CERT_FILE="+way.root, "HTTPS_PROXY="+through); err != nil {
						t.Errorf("go mod download from %s: %v\n%s", host, err, out)
					}
				}
				if out := i.command(t, "tls", "status", "--admin="+i.admin); strings.Contains(out, "ALARM") {
					t.Error(out)
				}
			})
		}
	}
}

func writePEM(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// waysOfPebble are names and addresses by both challenges that come to us.
func waysOfPebble(t *testing.T, pki *tlstest.PKI) []wayToObtain {
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	flags, root := []string{"--tls-profile=default", "--tls-ca=" + p.Directory}, writePEM(t, p.RootPEM(t))
	names := []string{"go.corp.test", "127.0.0.1"}
	return []wayToObtain{
		{"http-01, a name and an address", append(flags[:2:2], "--tls-challenge=http-01", "--tls-http-listen="+p.HTTPAddr), names, names, root},
		{"tls-alpn-01, a name and an address", append(flags[:2:2], "--tls-challenge=tls-alpn-01", "--listen="+p.TLSAddr), names, names, root},
		{"dns-01 by a program, a wildcard", append(flags[:2:2], "--tls-challenge=dns-01", "--tls-dns-provider=exec", "--tls-dns-settings=command="+p.DNSHook(t, t.TempDir())),
			[]string{"*.hook.test"}, []string{"go.hook.test"}, root},
	}
}

// waysOfDNS are those by records of a BIND.
func waysOfDNS(t *testing.T, pki *tlstest.PKI) []wayToObtain {
	bind := tlstest.StartBind(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{DNS: bind.Addr})
	return []wayToObtain{{
		"dns-01 by rfc2136, a name, a zone and a wildcard",
		[]string{"--tls-profile=default", "--tls-ca=" + p.Directory, "--tls-challenge=dns-01", "--tls-dns-provider=rfc2136",
			"--tls-dns-settings=server=" + bind.Addr + ",key_name=" + bind.KeyName + ",key=" + bind.Key, "--tls-dns-resolvers=" + bind.Addr},
		[]string{"app.zone.test", "zone.test", "*.zone.test"}, []string{"app.zone.test", "zone.test", "go.zone.test"}, writePEM(t, p.RootPEM(t)),
	}}
}

// waysOfAccounts are those of a CA that wants to know the account.
func waysOfAccounts(t *testing.T, pki *tlstest.PKI) []wayToObtain {
	mac := "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	secret := filepath.Join(t.TempDir(), "mac")
	if err := os.WriteFile(secret, []byte(mac+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{EAB: map[string]string{"kid-1": mac}})
	return []wayToObtain{{
		"external account", []string{"--tls-profile=default", "--tls-ca=" + p.Directory, "--listen=" + p.TLSAddr, "--tls-eab-key-id=kid-1", "--tls-eab-mac-key=file:" + secret},
		[]string{"go.corp.test"}, []string{"go.corp.test"}, writePEM(t, p.RootPEM(t)),
	}}
}

// waysOfStepCA are those of a private CA.
func waysOfStepCA(t *testing.T, pki *tlstest.PKI) []wayToObtain {
	dns, bind := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{}), tlstest.StartBind(t) // the first for its DNS alone
	ca, byBind, root := tlstest.StartStepCA(t, pki, dns.DNSAddr), tlstest.StartStepCA(t, pki, bind.Addr), pki.WriteRoot(t.TempDir())
	names := []string{"go.corp.test", "127.0.0.1"}
	return []wayToObtain{
		{"step-ca, http-01", []string{"--tls-ca=" + ca.Directory("acme"), "--tls-challenge=http-01", "--tls-http-listen=" + ca.HTTPAddr}, names, names, root},
		{"step-ca, tls-alpn-01", []string{"--tls-ca=" + ca.Directory("acme"), "--listen=" + ca.TLSAddr}, names, names, root},
		{"step-ca, five minutes", []string{"--tls-ca=" + ca.Directory("short"), "--listen=" + ca.TLSAddr}, names, names, root},
		{"step-ca, dns-01, a wildcard", []string{"--tls-ca=" + byBind.Directory("acme"), "--tls-challenge=dns-01", "--tls-dns-provider=rfc2136",
			"--tls-dns-settings=server=" + bind.Addr + ",key_name=" + bind.KeyName + ",key=" + bind.Key, "--tls-dns-resolvers=" + bind.Addr},
			[]string{"app.zone.test", "*.zone.test"}, []string{"app.zone.test", "go.zone.test"}, root},
	}
}
