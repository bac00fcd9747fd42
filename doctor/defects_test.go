package doctor_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// defect is one way in which a proxy, or the way to it, can be broken.
type defect struct {
	name  string
	start func(*world) string // returns the URL of the proxy
	want  string              // the codes that doctor finds
	// What the go command says is recorded in testdata/go-says, unless:
	vary bool // it differs from run to run: what it may be is in varying
	mute bool // it cannot be brought into the same state, or its message has a secret
	// What is recorded is that it succeeds: the defect is that of something else.
	works bool
	// It speaks after timeouts of its own, of up to half a minute, so that it runs
	// beside all others.
	slow bool
	// It has no timeout, or one of a minute: what is recorded is that it waits.
	waits   bool
	command []string // of go, in a module; else it downloads the module
}

func defects() []defect {
	return slices.Concat(healthy(), settingDefects(), certificateDefects(), handshakeDefects(), wayDefects(), answerDefects(), sumdbDefects(),
		trapDefects(), companyDefects(), revocationDefects(), clockDefects(),
		odderCertificates(), odderProxies(), odderSettings(), odderAnswers())
}

func healthy() []defect {
	return []defect{
		{name: "healthy", start: func(w *world) string { return w.secure(w.good()) }, works: true},
		{name: "healthy http", start: func(w *world) string { return w.plain(w.mods.Config.Handler) }, works: true},
		{name: "healthy modgate", start: func(w *world) string { return w.fingerprinted() }, works: true},
		{name: "healthy through an HTTP proxy", works: true, start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://me:t0ken@"+w.tunnel(407, "t0ken"))
			return strings.Replace(w.secure(w.pki.Issue(tlstest.Leaf{Hosts: []string{"go.corp"}})), "localhost", "go.corp", 1)
		}},
		{name: "healthy through a SOCKS proxy", works: true, start: func(w *world) string {
			w.set("HTTPS_PROXY", "socks5://"+w.socks())
			return strings.Replace(w.secure(w.pki.Issue(tlstest.Leaf{Hosts: []string{"go.corp"}})), "localhost", "go.corp", 1)
		}},
		{name: "healthy with netrc", works: true, start: func(w *world) string {
			url := w.answers(func(out http.ResponseWriter, r *http.Request) {
				if _, password, _ := r.BasicAuth(); password != "t0ken" && r.URL.Path != doctor.FingerprintPath {
					http.Error(out, "who are you?", http.StatusUnauthorized)
					return
				}
				w.mods.Config.Handler.ServeHTTP(out, r)
			})
			w.netrc("machine " + strings.TrimPrefix(url, "https://") + " login me password t0ken\n")
			return url
		}},
	}
}

// settingDefects are settings with which the go command refuses to work.
func settingDefects() []defect {
	set := func(name, value string) func(*world) string {
		return func(w *world) string {
			url := w.secure(w.good())
			w.set("GOPROXY", url)
			w.set(name, strings.Replace(value, "https://go.corp", url, 1))
			return ""
		}
	}
	return []defect{
		{name: "GOPROXY=off", want: "env-goproxy-off", start: set("GOPROXY", "off")},
		{name: "GOPROXY with insecure", want: "env-goproxy-word", start: set("GOPROXY", "https://go.corp,insecure")},
		{name: "GOPROXY empty", want: "env-goproxy-empty", start: set("GOPROXY", ",")},
		{name: "GOPROXY with a password over http", want: "env-goproxy-password", start: func(w *world) string {
			w.set("GOPROXY", strings.Replace(w.plain(w.mods.Config.Handler), "http://", "http://me:t0ken@", 1))
			return ""
		}},
		{name: "GO111MODULE=off", want: "env-go111module-off", start: set("GO111MODULE", "off")},
		{name: "GOFLAGS=-insecure", want: "env-goflags-insecure", command: []string{"get", asked.String()}, start: set("GOFLAGS", "-insecure")}, // go get alone refuses it
		{name: "GOSUMDB=corp", want: "env-gosumdb-invalid", start: func(w *world) string {
			w.set("GOSUMDB", "sum.corp")
			return w.secure(w.good())
		}},
		{name: "netrc without the port", want: "env-netrc-port", start: func(w *world) string {
			w.netrc("machine localhost login me password t0ken\n")
			return w.answers(func(out http.ResponseWriter, r *http.Request) {
				if _, password, _ := r.BasicAuth(); password != "t0ken" {
					http.Error(out, "who are you?", http.StatusUnauthorized)
					return
				}
				w.mods.Config.Handler.ServeHTTP(out, r)
			})
		}},
		{name: "GOTOOLCHAIN=latest", want: "env-gotoolchain-invalid", start: set("GOTOOLCHAIN", "latest")},
		{name: "GOAUTH=off;netrc", want: "env-goauth-invalid", start: set("GOAUTH", "off;netrc")},
		{name: "GOAUTH=git", want: "env-goauth-invalid", start: set("GOAUTH", "git")},
	}
}

func certificateDefects() []defect {
	leaf := func(l tlstest.Leaf) func(*world) string {
		return func(w *world) string { return w.secure(w.pki.Issue(l)) }
	}
	return []defect{
		{name: "unknown authority", want: "tls-unknown-authority", start: func(w *world) string {
			other := w.authority("Other Company Root", nil, func(*x509.Certificate) {})
			return w.secure(w.issue(other, func(*x509.Certificate) {}))
		}},
		{name: "unknown authority with its root in the chain", want: "tls-unknown-authority", start: func(w *world) string {
			other := w.authority("Other Company Root", nil, func(*x509.Certificate) {})
			cert := w.issue(other, func(*x509.Certificate) {})
			cert.Certificate = append(cert.Certificate, other.Cert.Raw)
			return w.secure(cert)
		}},
		{name: "unknown authority, and its intermediate is missing too", want: "tls-unknown-authority", start: func(w *world) string {
			other := tlstest.New(w.t)
			issuer := w.plain(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { out.Write(other.Intermediate.Cert.Raw) }))
			return w.secure(w.issue(other.Intermediate, func(c *x509.Certificate) { c.IssuingCertificateURL = []string{issuer} }))
		}},
		{name: "root made anew under the old name", want: "tls-unknown-authority", start: func(w *world) string {
			return w.secure(tlstest.New(w.t).Issue(tlstest.Leaf{}))
		}},
		{name: "no authorities", want: "trust-cert-file-empty", start: func(w *world) string {
			w.check(os.WriteFile(w.trusted, nil, 0o600))
			return w.secure(w.good())
		}},
		{name: "self-signed", want: "tls-self-signed", start: leaf(tlstest.Leaf{SelfSigned: true})},
		{name: "missing intermediate", want: "tls-missing-intermediate", start: func(w *world) string {
			issuer := w.plain(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { out.Write(w.pki.Intermediate.Cert.Raw) }))
			return w.secure(w.odd(func(c *x509.Certificate) {
				c.IssuingCertificateURL = []string{"ldap:///CN=test", issuer + "/intermediate.cer"}
			}))
		}},
		{name: "expired", want: "tls-expired", start: leaf(tlstest.Leaf{From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-25 * time.Hour)})},
		{name: "not yet valid", want: "tls-not-yet-valid", start: leaf(tlstest.Leaf{From: time.Now().Add(25 * time.Hour), Until: time.Now().Add(48 * time.Hour)})},
		{name: "expired and unknown", want: "tls-expired tls-unknown-authority", start: func(w *world) string {
			return w.secure(tlstest.New(w.t).Issue(tlstest.Leaf{From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-25 * time.Hour)}))
		}},
		{name: "clock behind", want: "clock-wrong", mute: true, start: func(w *world) string {
			w.config.Now = func() time.Time { return time.Now().Add(-30 * time.Hour) }
			return w.secure(w.good())
		}},
		{name: "clock ahead, says another host too", want: "clock-wrong", mute: true, start: func(w *world) string {
			w.config.Now = func() time.Time { return time.Now().Add(30 * time.Hour) }
			w.config.ClockURLs = []string{w.plain(http.NotFoundHandler())}
			return w.secure(w.good())
		}},
		{name: "the clock of the server is wrong", want: "tls-expired", start: func(w *world) string {
			w.config.ClockURLs = []string{w.plain(http.NotFoundHandler())}
			return w.secureHandler(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
				out.Header().Set("Date", time.Now().Add(-30*time.Hour).UTC().Format(http.TimeFormat))
				w.mods.Config.Handler.ServeHTTP(out, r)
			}), w.pki.Issue(tlstest.Leaf{From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-25 * time.Hour)}))
		}},
		{name: "the clock of the server is wrong, and nothing else", want: "", works: true, start: func(w *world) string {
			w.config.ClockURLs = []string{w.plain(http.NotFoundHandler())}
			return w.answers(func(out http.ResponseWriter, r *http.Request) {
				out.Header().Set("Date", time.Now().Add(-30*time.Hour).UTC().Format(http.TimeFormat))
				w.mods.Config.Handler.ServeHTTP(out, r)
			})
		}},
		{name: "clock a little behind", want: "clock-wrong", mute: true, start: func(w *world) string {
			w.config.Now = func() time.Time { return time.Now().Add(10 * time.Minute) }
			w.config.ClockURLs = []string{w.plain(http.NotFoundHandler())}
			return w.secure(w.good())
		}},
		{name: "expired before its authority was made anew", want: "tls-expired", start: leaf(tlstest.Leaf{
			ByRoot: true, From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-25 * time.Hour),
		})},
		{name: "issuer expired", want: "tls-issuer-expired", start: func(w *world) string {
			old := w.authority("old intermediate", w.pki.Root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
			cert := w.issue(old, func(*x509.Certificate) {})
			cert.Certificate = append(cert.Certificate, old.Cert.Raw)
			return w.secure(cert)
		}},
		{name: "name outside the authority's constraints", want: "tls-invalid", start: func(w *world) string {
			narrow := w.authority("narrow", w.pki.Root, func(c *x509.Certificate) {
				c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"corp.example"}, true
			})
			cert := w.issue(narrow, func(*x509.Certificate) {})
			cert.Certificate = append(cert.Certificate, narrow.Cert.Raw)
			return w.secure(cert)
		}},
		{name: "wrong name", want: "tls-wrong-name", start: leaf(tlstest.Leaf{Hosts: []string{"other.example", "third.example"}})},
		{name: "address without a name for it", want: "tls-no-address", start: func(w *world) string {
			return strings.Replace(w.secure(w.pki.Issue(tlstest.Leaf{Hosts: []string{"localhost"}})), "localhost", "127.0.0.1", 1)
		}},
		{name: "common name only", want: "tls-no-names", start: leaf(tlstest.Leaf{NoNames: true})},
		{name: "for clients alone", want: "tls-key-usage", start: leaf(tlstest.Leaf{Client: true})},
		{name: "middlebox by fingerprint", want: "tls-middlebox", start: func(w *world) string { return w.middlebox("Corp Inspection CA", w.fingerprinted()) }},
		{name: "middlebox by name", want: "tls-middlebox", start: func(w *world) string { return w.middlebox("Zscaler Root CA", w.secure(w.good())) }},
	}
}

func handshakeDefects() []defect {
	with := func(change func(*tls.Config)) func(*world) string {
		return func(w *world) string { return w.secure(w.good(), change) }
	}
	return []defect{
		{name: "TLS 1.1", want: "tls-old-version", start: func(w *world) string {
			return w.bare(&tls.Config{Certificates: []tls.Certificate{w.good()}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}})
		}},
		{name: "no cipher in common", want: "tls-no-cipher", start: func(w *world) string {
			return w.bare(&tls.Config{Certificates: []tls.Certificate{w.good()}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}})
		}},
		{name: "no certificate for the name", want: "tls-no-certificate", start: func(w *world) string {
			return w.bare(&tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return nil, fmt.Errorf("no certificate available for %q", hello.ServerName)
			}})
		}},
		{name: "no application protocol", want: "tls-no-protocol", start: func(w *world) string {
			return w.bare(&tls.Config{Certificates: []tls.Certificate{w.good()}, NextProtos: []string{"acme-tls/1"}})
		}},
		{name: "client certificate, TLS 1.3", want: "tls-client-certificate", vary: true, start: with(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })},
		{name: "client certificate, TLS 1.2", want: "tls-client-certificate", vary: true, start: with(func(c *tls.Config) {
			c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		})},
		{name: "closed in the handshake", want: "tls-cut", vary: true, start: func(w *world) string {
			return w.raw(func(conn net.Conn) { conn.Read(make([]byte, 4096)) })
		}},
		{name: "reset in the handshake", want: "tls-cut", vary: true, start: func(w *world) string {
			return w.raw(func(conn net.Conn) { conn.Read(make([]byte, 10)); conn.(*net.TCPConn).SetLinger(0) })
		}},
		{name: "silent in the handshake", want: "tls-silent", slow: true, start: func(w *world) string {
			w.impatient()
			return w.raw(func(conn net.Conn) {
				conn.SetDeadline(time.Now().Add(2 * time.Minute))
				for buf := make([]byte, 4096); ; {
					if _, err := conn.Read(buf); err != nil {
						return
					}
				}
			})
		}},
		{name: "plain HTTP", want: "tls-plain-http", start: func(w *world) string {
			return strings.Replace(w.plain(w.mods.Config.Handler), "http:", "https:", 1)
		}},
		{name: "something else", want: "tls-refused", start: func(w *world) string {
			return w.raw(func(conn net.Conn) { fmt.Fprint(conn, "SSH-2.0-OpenSSH_9.2\r\n"); conn.Read(make([]byte, 4096)) })
		}},
		{name: "http to TLS", want: "http-to-tls", start: func(w *world) string {
			return strings.Replace(w.secure(w.good()), "https:", "http:", 1)
		}},
	}
}

func wayDefects() []defect {
	return []defect{
		{name: "refused", want: "tcp-refused", start: func(*world) string { return "https://localhost:" + closedPort }},
		{name: "filtered", want: "tcp-filtered", slow: true, start: func(w *world) string {
			w.impatient()
			return w.full()
		}},
		{name: "one address of two", want: "tcp-one-address", works: true, start: func(w *world) string {
			w.named, w.names["go.corp"] = true, "127.0.0.2 127.0.0.1"
			return strings.Replace(w.secure(w.pki.Issue(tlstest.Leaf{Hosts: []string{"go.corp"}})), "localhost", "go.corp", 1)
		}},
		{name: "no such name", want: "dns-not-found", vary: true, start: func(*world) string { return "https://nowhere.example" }},
		{name: "HTTP proxy down", want: "http-proxy-down", start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://127.0.0.1:"+closedPort)
			return "https://go.corp"
		}},
		{name: "HTTP proxy wants a password", want: "http-proxy-auth", start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://"+w.tunnel(407, "t0ken"))
			return "https://go.corp"
		}},
		{name: "HTTP proxy wants a password, plain http", want: "http-proxy-auth", start: func(w *world) string {
			w.set("HTTP_PROXY", "http://"+w.tunnel(407, "t0ken"))
			return "http://go.corp"
		}},
		{name: "HTTP proxy refuses", want: "http-proxy-denied", start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://"+w.tunnel(403, ""))
			return "https://go.corp"
		}},
	}
}

func answerDefects() []defect {
	status := func(code int, text string) func(*world) string {
		return func(w *world) string {
			return w.answers(func(out http.ResponseWriter, _ *http.Request) { http.Error(out, text, code) })
		}
	}
	redirect := func(to func(*world, *http.Request) string) func(*world) string {
		return func(w *world) string {
			return w.answers(func(out http.ResponseWriter, r *http.Request) { http.Redirect(out, r, to(w, r), http.StatusFound) })
		}
	}
	const signIn = "<html><head><title>Sign in to Corp Wi-Fi</title></head></html>"
	page := func(code int) func(*world) string {
		return func(w *world) string {
			return w.answers(func(out http.ResponseWriter, _ *http.Request) {
				out.Header().Set("Content-Type", "text/html")
				out.WriteHeader(code)
				fmt.Fprint(out, signIn)
			})
		}
	}
	const zip, info, mod, list = "/example.com/m/@v/v1.0.0.zip", "/example.com/m/@v/v1.0.0.info", "/example.com/m/@v/v1.0.0.mod", "/example.com/m/@v/list"
	return []defect{
		{name: "401", want: "http-unauthorized", start: status(401, "who are you?")},
		{name: "403", want: "http-forbidden", start: status(403, "refused by rule no-agpl: see https://wiki.corp/go")},
		{name: "401 with a page", want: "http-unauthorized", start: page(401)},
		{name: "403 with a page", want: "http-forbidden", start: page(403)},
		{name: "404 with a page", want: "http-not-a-proxy", start: page(404)},
		{name: "502 with a page", want: "http-server-error", start: page(502)},
		{name: "511", want: "http-html", start: page(511)},
		{name: "401 that repeats the password", want: "http-unauthorized", mute: true, start: func(w *world) string {
			url := w.answers(func(out http.ResponseWriter, r *http.Request) {
				_, password, _ := r.BasicAuth()
				http.Error(out, "wrong password "+password, http.StatusUnauthorized)
			})
			w.netrc("machine " + strings.TrimPrefix(url, "https://") + " login me password t0ken\n")
			return url
		}},
		{name: "404 to everything", want: "http-not-a-proxy", start: status(404, "404 page not found")},
		{name: "a base path that the proxy does not have", want: "http-not-a-proxy", start: func(w *world) string {
			w.config.Module = module.Version{}
			return w.answers(func(out http.ResponseWriter, r *http.Request) {
				http.Error(out, "not found: not a path of the GOPROXY protocol: \""+strings.TrimPrefix(r.URL.Path, "/")+"\"", http.StatusNotFound)
			}) + "/modules"
		}},
		{name: "429", want: "http-too-many", start: status(429, "slow down")},
		{name: "503", want: "http-server-error", start: status(503, "upstream is down")},
		{name: "418", want: "http-status", start: status(418, "teapot")},
		{name: "captive portal", want: "http-html", start: func(w *world) string {
			return w.answers(func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, signIn) })
		}},
		{name: "captive portal by redirect", want: "http-html", start: func(w *world) string {
			return w.answers(func(out http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/login" {
					http.Redirect(out, r, "/login", http.StatusFound)
					return
				}
				fmt.Fprint(out, signIn)
			})
		}},
		{name: "redirect loop", want: "http-redirect-loop", start: redirect(func(_ *world, r *http.Request) string { return r.URL.Path })},
		{name: "redirect to plain http", want: "http-redirect-plain", start: redirect(func(_ *world, r *http.Request) string { return "http://localhost:1" + r.URL.Path })},
		{name: "redirect to a blocked host", want: "http-redirect-blocked", start: redirect(func(_ *world, r *http.Request) string { return "https://127.0.0.1:1" + r.URL.Path })},
		{name: "zip cut", want: "http-cut", start: func(w *world) string { return w.fault(zip, proxytest.Short(100)) }},
		{name: "zip reset", want: "http-cut", vary: true, start: func(w *world) string { return w.fault(zip, proxytest.Reset(100)) }},
		{name: "no answer", want: "http-silent", waits: true, start: func(w *world) string {
			w.impatient()
			return w.fault(info, proxytest.Stall(-1))
		}},
		{name: "module not found", want: "module-not-found", start: func(w *world) string {
			return w.fault(info, proxytest.Status(404, "not found: example.com/m@v1.0.0: no such version"))
		}},
		{name: "a proxy without the well-known module", mute: true, start: func(w *world) string {
			w.config.Module = module.Version{}
			return w.answers(func(out http.ResponseWriter, r *http.Request) {
				http.Error(out, "not found: golang.org/x/sync@v0.1.0: no such module", http.StatusNotFound)
			})
		}},
		{name: "info is no JSON", want: "proxy-bad-answer", start: func(w *world) string { return w.fault(info, proxytest.Bytes("application/json", []byte("oops"))) }},
		{name: "info of another version", want: "proxy-bad-answer", start: func(w *world) string {
			return w.fault(info, proxytest.Bytes("application/json", []byte(`{"Version":"v1.0.1"}`)))
		}},
		{name: "mod is none", want: "proxy-bad-answer", start: func(w *world) string { return w.fault(mod, proxytest.Bytes("text/plain", []byte("module (("))) }},
		{name: "list is none", want: "proxy-bad-answer", works: true, start: func(w *world) string { return w.fault(list, proxytest.Bytes("text/plain", []byte("hello world\n"))) }},
		{name: "zip is none", want: "proxy-bad-answer", start: func(w *world) string {
			return w.fault(zip, proxytest.Bytes("application/zip", bytes.Repeat([]byte("no zip "), 1000)))
		}},
	}
}

func sumdbDefects() []defect {
	return []defect{
		{name: "checksum database broken at the proxy", want: "sumdb-broken", start: func(w *world) string {
			return w.fault("/sumdb/sum.example/supported", proxytest.Status(500, "no"))
		}},
		{name: "checksum database does not answer a lookup", want: "sumdb-broken", start: func(w *world) string {
			return w.fault("/sumdb/sum.example/lookup/example.com/m@v1.0.0", proxytest.Status(502, "bad gateway"))
		}},
		{name: "checksum database not mirrored and not reached", want: "sumdb-unreachable", vary: true, start: func(w *world) string {
			return w.fault("/sumdb/sum.example/supported", proxytest.Status(404, "no"))
		}},
		{name: "another module than the checksum database has", want: "sumdb-mismatch", start: func(w *world) string {
			other := proxytest.Build(w.t, asked, map[string][]byte{"go.mod": []byte("module example.com/m\n"), "evil.go": []byte("package m\n")})
			w.mods.SetFile("/example.com/m/@v/v1.0.0.zip", other.Zip)
			return w.secure(w.good())
		}},
		{name: "checksum database of long ago", want: "sumdb-behind", works: true, start: func(w *world) string {
			w.elsewhere("sum.example", func(out http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/latest" {
					w.t.Errorf("the database itself is asked for %s", r.URL.Path)
				}
				fmt.Fprint(out, "go.sum database tree\n50000000\nx=\n")
			})
			return w.secure(w.good())
		}},
		{name: "private modules are not asked for", want: "", mute: true, start: func(w *world) string {
			w.set("GOPRIVATE", "example.com/*")
			return w.answers(func(out http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "example.com") {
					w.t.Errorf("a private name left the machine: %s", r.URL.Path)
				}
			})
		}},
		{name: "private modules are not looked up", want: "", works: true, start: func(w *world) string {
			w.set("GOPRIVATE", "example.com/*")
			w.set("GONOPROXY", "none")
			return w.secureHandler(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/sumdb/") {
					w.t.Errorf("the checksum database was asked: %s", r.URL.Path)
				}
				w.mods.Config.Handler.ServeHTTP(out, r)
			}), w.good())
		}},
	}
}
