package doctor_test

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// trapDefects are settings that do not do what people think. Most of them the go
// command does not mind, which is the trap: that it works is recorded.
func trapDefects() []defect {
	set := func(settings ...string) func(*world) string {
		return func(w *world) string { return w.trapped(w.good(), settings...) }
	}
	untrusted := func(settings ...string) func(*world) string {
		return func(w *world) string { return w.trapped(tlstest.New(w.t).Issue(tlstest.Leaf{}), settings...) }
	}
	// byFile has the settings in the file of go env -w.
	byFile := func(lines string) func(*world) string {
		return func(w *world) string {
			w.set("GOPROXY", w.secure(w.good()))
			name := filepath.Join(w.home, "env")
			w.check(os.WriteFile(name, []byte(lines), 0o644))
			w.set("GOENV", name)
			return ""
		}
	}
	return []defect{
		{name: "trap: |direct", want: "env-goproxy-pipe", works: true, start: set("GOPROXY=URL|direct")},
		{name: "trap: ,direct", want: "env-goproxy-direct", works: true, start: set("GOPROXY=URL,direct")},
		{name: "trap: |direct by go env -w", want: "env-goproxy-pipe", works: true, start: func(w *world) string {
			name := filepath.Join(w.home, "env")
			w.check(os.WriteFile(name, []byte("GOPROXY="+w.secure(w.good())+"|direct\n"), 0o644))
			w.set("GOENV", name)
			return ""
		}},
		{name: "trap: an empty GOPROXY by go env -w", want: "env-goproxy-empty", start: func(w *world) string {
			w.secure(w.good())
			name := filepath.Join(w.home, "env")
			w.check(os.WriteFile(name, []byte("GOPROXY=\n"), 0o644))
			w.set("GOENV", name)
			return ""
		}},
		{name: "trap: GOINSECURE for a proxy", want: "env-goinsecure", works: true, start: set("GOINSECURE=localhost")},
		{name: "trap: GOINSECURE for a proxy that is not trusted", want: "env-goinsecure tls-unknown-authority", start: untrusted("GOINSECURE=*")},
		{name: "trap: GONOSUMDB empty", want: "env-empty-variable", works: true, start: set("GOPRIVATE=git.corp", "GONOPROXY=none", "GONOSUMDB=")},
		{name: "trap: GONOSUMDB=*", want: "env-gonosumdb-wide", works: true, start: set("GONOSUMDB=*")},
		{name: "trap: GOSUMDB=off", want: "env-gosumdb-off", works: true, start: set("GOSUMDB=off")},
		{name: "trap: a GODEBUG key that does not exist", want: "env-godebug-unknown", works: true, start: set("GODEBUG=x509ignoreCN=0")},
		{name: "trap: GODEBUG against a certificate with a common name alone", want: "env-godebug-unknown tls-no-names", start: func(w *world) string {
			return w.trapped(w.pki.Issue(tlstest.Leaf{NoNames: true}), "GODEBUG=x509ignoreCN=0")
		}},
		{name: "trap: a variable that go does not know", want: "env-unknown-variable", works: true, start: set("GONOSUMCHECK=1")},
		{name: "trap: a blank in GOPRIVATE", want: "env-private-pattern", works: true, start: set("GONOPROXY=none", "GOPRIVATE=git.corp, git.example")},
		{name: "trap: https:// in GOPRIVATE", want: "env-private-pattern", works: true, start: set("GONOPROXY=none", "GOPRIVATE=https://git.corp/*")},
		{name: "trap: a line end of Windows in GOPRIVATE", want: "env-private-pattern", works: true, start: byFile("GONOPROXY=none\nGOPRIVATE=git.corp\r\n")},
		{name: "trap: ALL_PROXY", works: true, start: set("ALL_PROXY=socks5://127.0.0.1:" + closedPort)},
		{name: "trap: the same proxy twice", want: "env-http-proxy-case", works: true, start: set("HTTPS_PROXY=http://127.0.0.1:"+closedPort, "https_proxy=http://127.0.0.2:"+closedPort)},
		{name: "trap: https:// in NO_PROXY", want: "env-no-proxy-entry http-proxy-down", start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://127.0.0.1:"+closedPort)
			w.set("NO_PROXY", "https://go.corp")
			return "https://go.corp"
		}},
		{name: "trap: the module proxy as an HTTP proxy", want: "env-http-proxy-self", vary: true, start: func(w *world) string {
			w.named, w.names["go.corp"] = true, "127.0.0.1"
			url := strings.Replace(w.secure(w.pki.Issue(tlstest.Leaf{Hosts: []string{"go.corp"}})), "localhost", "go.corp", 1)
			w.set("HTTPS_PROXY", url)
			return url
		}},
		{name: "trap: an HTTP proxy that is no URL", want: "env-http-proxy-invalid", vary: true, start: func(w *world) string {
			w.set("HTTPS_PROXY", "http://[::1")
			return "https://go.corp"
		}},
		{name: "trap: SSL_CERT_DIR of nothing", want: "trust-cert-dir", works: true, start: set("SSL_CERT_DIR=/nowhere")},
		{name: "trap: SSL_CERT_FILE of nothing, and SSL_CERT_DIR has the root", want: "trust-cert-file", works: true, start: func(w *world) string {
			w.write(filepath.Join(w.home, "certs"), "root.pem", string(certPEM(w.pki.Root.Cert.Raw)))
			return w.trapped(w.good(), "SSL_CERT_FILE=/nowhere/root.pem")
		}},
		{name: "trap: a machine without authorities", want: "trust-empty", start: func(w *world) string {
			w.named, w.names["go.corp"] = true, "127.0.0.1"
			w.config.Root = w.t.TempDir()
			w.config.Environ = slices.DeleteFunc(w.config.Environ, func(v string) bool { return strings.HasPrefix(v, "SSL_CERT_") })
			return w.secure(w.good())
		}},
		{name: "trap: SSL_CERT_FILE that is no PEM", want: "trust-cert-file-empty", start: func(w *world) string {
			name := filepath.Join(w.home, "root.der")
			w.check(os.WriteFile(name, w.pki.Root.Cert.Raw, 0o644))
			return w.trapped(w.good(), "SSL_CERT_FILE="+name)
		}},
		{name: "trap: GOAUTH=off, and netrc has a password", want: "env-goauth-off", start: func(w *world) string {
			url := w.locked()
			w.netrc("machine " + strings.TrimPrefix(url, "https://") + " login me password t0ken\n")
			w.set("GOAUTH", "off")
			return url
		}},
		{name: "trap: GOAUTH with a command that is not there", want: "env-goauth-command", start: func(w *world) string {
			w.set("GOAUTH", "corp-token")
			return w.locked()
		}},
		{name: "trap: NETRC of nothing", want: "env-netrc-missing", start: func(w *world) string {
			w.set("NETRC", "/nowhere/netrc")
			return w.locked()
		}},
		{name: "trap: netrc for http", want: "env-netrc-http", start: func(w *world) string {
			url := w.plain(http.HandlerFunc(w.lock))
			w.netrc("machine " + strings.TrimPrefix(url, "http://") + " login me password t0ken\n")
			return url
		}},
	}
}

// trapped serves the modules with a certificate and makes settings, in which URL is
// where they are.
func (w *world) trapped(cert tls.Certificate, settings ...string) string {
	url := w.secure(cert)
	w.set("GOPROXY", url)
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		w.set(name, strings.Replace(value, "URL", url, 1))
	}
	return ""
}

// locked serves the modules to who has the password.
func (w *world) locked() string { return w.answers(w.lock) }

func (w *world) lock(out http.ResponseWriter, r *http.Request) {
	if _, password, _ := r.BasicAuth(); password != "t0ken" {
		http.Error(out, "who are you?", http.StatusUnauthorized)
		return
	}
	w.mods.Config.Handler.ServeHTTP(out, r)
}
