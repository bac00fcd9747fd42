package doctor_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// odderCertificates are those that fewer people meet.
func odderCertificates() []defect {
	under := func(change func(*x509.Certificate)) func(*world) string {
		return func(w *world) string {
			middle := w.authority("odd intermediate", w.pki.Root, change)
			return w.secure(w.chained(w.issue(middle, func(*x509.Certificate) {}), middle))
		}
	}
	return []defect{
		{name: "an authority for clients alone", want: "tls-key-usage", start: under(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
		{name: "an authority that is none", want: "tls-invalid", start: under(func(c *x509.Certificate) { c.IsCA = false })},
		{name: "a name that is excluded", want: "tls-invalid", start: under(func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"localhost"} })},
		{name: "an authority too many", want: "tls-invalid", start: func(w *world) string {
			upper := w.authority("upper", w.pki.Root, func(c *x509.Certificate) { c.MaxPathLenZero = true })
			lower := w.authority("lower", upper, func(*x509.Certificate) {})
			return w.secure(w.chained(w.issue(lower, func(*x509.Certificate) {}), lower, upper))
		}},
		{name: "an extension that nobody knows", want: "tls-invalid", start: func(w *world) string {
			return w.secure(w.chained(w.odd(func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
			}), w.pki.Intermediate))
		}},
		{name: "a serial number below zero", want: "tls-malformed", start: func(w *world) string {
			cert := w.chained(w.odd(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0x7fffffff) }), w.pki.Intermediate)
			der := cert.Certificate[0]
			der[strings.Index(string(der), "\x02\x04\x7f\xff\xff\xff")+2] = 0xff
			return w.raw(func(conn net.Conn) { tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake() })
		}},
		{name: "another address", want: "tls-wrong-name", start: func(w *world) string {
			return strings.Replace(w.secure(w.pki.Issue(tlstest.Leaf{Hosts: []string{"localhost", "10.0.0.1"}})), "localhost", "127.0.0.1", 1)
		}},
		{name: "expired intermediate, with its root", want: "tls-issuer-expired", start: func(w *world) string {
			old := w.authority("old intermediate", w.pki.Root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
			return w.secure(w.chained(w.issue(old, func(*x509.Certificate) {}), old, w.pki.Root))
		}},
		{name: "missing intermediate, of a house that does not say where it is", want: "tls-missing-intermediate", start: func(w *world) string {
			return w.secure(w.odd(func(*x509.Certificate) {}))
		}},
		{name: "another intermediate than the right one", want: "tls-missing-intermediate", start: func(w *world) string {
			issuer := w.plain(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { out.Write(w.pki.Intermediate.Cert.Raw) }))
			cert := w.odd(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{issuer + "/intermediate.cer"} })
			return w.secure(w.chained(cert, tlstest.New(w.t).Intermediate))
		}},
		{name: "healthy in another order", works: true, start: func(w *world) string {
			return w.secure(w.chained(w.odd(func(*x509.Certificate) {}), w.pki.Root, w.pki.Intermediate))
		}},
	}
}

// chained lets a certificate be sent with these authorities.
func (w *world) chained(cert tls.Certificate, authorities ...*tlstest.Authority) tls.Certificate {
	for _, a := range authorities {
		cert.Certificate = append(cert.Certificate, a.Cert.Raw)
	}
	return cert
}

// odderProxies are HTTP proxies that are named wrongly, or are none.
func odderProxies() []defect {
	through := func(scheme string, address func(*world) string) func(*world) string {
		return func(w *world) string {
			at := address(w)
			w.set("HTTPS_PROXY", scheme+at[strings.Index(at, "://")+3:])
			return "https://go.corp"
		}
	}
	known := func(w *world) string {
		w.named, w.names["go.corp"] = true, "127.0.0.1"
		return strings.Replace(w.secure(w.pki.Issue(tlstest.Leaf{Hosts: []string{"go.corp"}})), "localhost", "go.corp", 1)
	}
	return []defect{
		{name: "https:// for an HTTP proxy that speaks plain HTTP", want: "http-proxy-plain", vary: true, start: through("https://", func(w *world) string { return "x://" + w.tunnel(http.StatusForbidden, "") })},
		{name: "https:// for a squid", want: "http-proxy-plain", start: func(w *world) string {
			w.set("HTTPS_PROXY", "https://"+w.squid(""))
			return "https://go.corp"
		}},
		{name: "http:// for an HTTP proxy that speaks TLS", want: "http-proxy-tls", vary: true, start: through("http://", func(w *world) string { return w.secure(w.good()) })},
		{name: "an HTTP proxy that is not trusted", want: "http-proxy-certificate", start: through("https://", func(w *world) string { return w.secure(tlstest.New(w.t).Issue(tlstest.Leaf{})) })},
		{name: "an HTTP proxy without a name", want: "http-proxy-down", vary: true, start: through("http://", func(*world) string { return "x://proxy.invalid:3128" })},
		{name: "a SOCKS proxy that is down", want: "http-proxy-down", start: through("socks5://", func(*world) string { return "x://127.0.0.1:" + closedPort })},
		{name: "an HTTP proxy that hangs up", want: "http-proxy-cut", vary: true, start: through("http://", func(w *world) string {
			return w.raw(func(conn net.Conn) { conn.Read(make([]byte, 100)) })
		})},
		{name: "an HTTP proxy that is silent", want: "http-proxy-cut", waits: true, start: func(w *world) string {
			w.impatient()
			return through("http://", func(w *world) string {
				return w.raw(func(conn net.Conn) {
					conn.SetDeadline(time.Now().Add(2 * time.Minute))
					for buf := make([]byte, 4096); ; {
						if _, err := conn.Read(buf); err != nil {
							return
						}
					}
				})
			})(w)
		}},
		{name: "settings for browsers as an HTTP proxy", want: "env-http-proxy-invalid", start: through("http://", func(*world) string { return "x://127.0.0.1:" + closedPort + "/proxy.pac" })},
		{name: "healthy by NO_PROXY", works: true, start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://127.0.0.1:"+closedPort)
			w.set("no_proxy", "10.0.0.0/8,.corp")
			return known(w)
		}},
		{name: "refused, and NO_PROXY has it", want: "tcp-refused", start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://127.0.0.1:3128")
			w.set("NO_PROXY", "go.corp")
			known(w)
			return "https://go.corp:" + closedPort
		}},
	}
}

// odderSettings are those that few people have, and slips.
func odderSettings() []defect {
	set := func(name, value string) func(*world) string {
		return func(w *world) string {
			url := w.secure(w.good())
			w.set("GOPROXY", url)
			w.set(name, strings.NewReplacer("https://go.corp", url, "HOME", w.home).Replace(value))
			return ""
		}
	}
	with := func(mode os.FileMode) func(*world) string {
		return func(w *world) string {
			url := w.secure(w.good())
			w.netrc("machine " + strings.TrimPrefix(url, "https://") + " login me password t0ken\n")
			w.check(os.Chmod(w.config.Environ[len(w.config.Environ)-1][len("NETRC="):], mode))
			return url
		}
	}
	return []defect{
		{name: "healthy with a comma at the end", works: true, start: set("GOPROXY", "https://go.corp,")},
		{name: "healthy with blanks", works: true, start: set("GOPROXY", " https://go.corp , ")},
		{name: "healthy with a directory before it", works: true, start: set("GOPROXY", "file://HOME/certs,https://go.corp")},
		{name: "healthy GONOSUMDB=none", works: true, start: set("GONOSUMDB", "none")},
		{name: "GOPROXY=file:// of nothing", want: "env-goproxy-file", start: set("GOPROXY", "file:///nowhere")},
		{name: "GOPROXY=file:// of a host", want: "env-goproxy-invalid", start: set("GOPROXY", "file://nowhere")},
		{name: "GOPROXY=file:// without the module", want: "module-not-found", vary: true, start: set("GOPROXY", "file://HOME/certs")},
		{name: "GOPROXY=https//", want: "env-goproxy-invalid", vary: true, start: set("GOPROXY", "https//go.corp")},
		{name: "GOPROXY in quotes", want: "env-goproxy-invalid", vary: true, start: set("GOPROXY", `"https://go.corp"`)},
		{name: "GOPROXY with a semicolon", want: "env-goproxy-invalid", vary: true, start: set("GOPROXY", "https://go.corp;direct")},
		{name: "GOPROXY=Direct", want: "env-goproxy-word", start: set("GOPROXY", "Direct")},
		{name: "GOFLAGS without a dash", want: "env-goflags-invalid", start: set("GOFLAGS", "mod=mod")},
		{name: "GOFLAGS with half a quote", want: "env-goflags-invalid", start: set("GOFLAGS", "'-ldflags=-s -w")},
		{name: "GOAUTH=netrc;", want: "env-goauth-invalid", start: set("GOAUTH", "netrc;")},
		{name: "GOSUMDB with an address that is none", want: "env-gosumdb-invalid", start: set("GOSUMDB", "sum.golang.org http://[::1")},
		{name: "GOTOOLCHAIN that is not on the PATH", want: "env-gotoolchain-missing", start: set("GOTOOLCHAIN", "go1.99.1+path")},
		{name: "SSL_CERT_FILE is a directory", want: "trust-cert-file", vary: true, start: set("SSL_CERT_FILE", "HOME")},
		{name: "SSL_CERT_FILE of nothing", want: "trust-cert-file", start: set("SSL_CERT_FILE", "/nowhere/root.pem")},
		{name: "netrc for all to read", want: "env-netrc-mode", works: true, start: with(0o644)},
		{name: "healthy with netrc for its owner", works: true, start: with(0o400)},
	}
}

// odderAnswers are redirects to hosts with troubles of their own, and other
// passwords.
func odderAnswers() []defect {
	to := func(other func(*world) string) func(*world) string {
		return func(w *world) string {
			url := other(w)
			return w.answers(func(out http.ResponseWriter, r *http.Request) {
				http.Redirect(out, r, url+r.URL.Path, http.StatusFound)
			})
		}
	}
	return []defect{
		{name: "redirect to a host that is not trusted", want: "http-redirect-certificate", start: to(func(w *world) string { return w.secure(tlstest.New(w.t).Issue(tlstest.Leaf{})) })},
		{name: "redirect to a host that refuses", want: "http-forbidden", start: to(func(w *world) string {
			return w.answers(func(out http.ResponseWriter, _ *http.Request) { http.Error(out, "AccessDenied", http.StatusForbidden) })
		})},
		{name: "redirect to a page", want: "http-html", start: to(func(w *world) string {
			return w.answers(func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, "<html>sign in</html>") })
		})},
		{name: "captive portal over http", want: "http-html", start: func(w *world) string {
			return w.plain(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, "<!DOCTYPE html><title>Wi-Fi</title>") }))
		}},
		{name: "an empty answer", want: "proxy-bad-answer", start: func(w *world) string { return w.answers(func(http.ResponseWriter, *http.Request) {}) }},
		{name: "a redirect to nowhere", want: "http-status", start: func(w *world) string {
			return w.answers(func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusFound) })
		}},
		{name: "another password", want: "http-unauthorized", start: func(w *world) string {
			url := w.answers(func(out http.ResponseWriter, _ *http.Request) {
				http.Error(out, "who are you?", http.StatusUnauthorized)
			})
			w.netrc("machine " + strings.TrimPrefix(url, "https://") + " login me password t0ken\n")
			return url
		}},
		{name: "netrc for all machines", want: "http-unauthorized", start: func(w *world) string {
			w.netrc("default login me password t0ken\n")
			return w.answers(func(out http.ResponseWriter, _ *http.Request) {
				http.Error(out, "who are you?", http.StatusUnauthorized)
			})
		}},
	}
}
