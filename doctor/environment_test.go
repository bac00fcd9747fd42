package doctor_test

import (
	"archive/zip"
	"bytes"
	"encoding/pem"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// someRoot returns the PEM of a root that nobody uses.
func someRoot(t *testing.T) string {
	t.Helper()
	p := tlstest.New(t)
	return string(certPEM(p.Root.Cert.Raw))
}

// On a machine with these settings and files, exactly these codes are found.
func TestEnvironmentTraps(t *testing.T) {
	root := someRoot(t)
	bundle := []string{"/etc/ssl/certs/ca-certificates.crt", root}
	other := someRoot(t)
	block, _ := pem.Decode([]byte(other))
	der := string(block.Bytes)
	netrc := "machine go.corp login ci password hunter2\n"
	for _, test := range []struct {
		name    string
		environ string // NAME=VALUE; separated by blanks unless one has a blank
		files   []string
		want    string
	}{
		{"healthy default", "GOPROXY=", nil, ""},
		{"healthy own proxy", "GOPROXY=https://go.corp", nil, ""},
		{"healthy with private", "GOPROXY=https://go.corp GOPRIVATE=git.corp GONOPROXY=none GONOSUMDB=git.corp", nil, ""},
		{"host alone", "GOPROXY=go.corp", nil, ""},
		{"pipe direct", "GOPROXY=https://go.corp|direct", nil, "env-goproxy-pipe"},
		{"pipe other", "GOPROXY=https://go.corp|https://proxy.golang.org", nil, "env-goproxy-pipe"},
		{"comma direct", "GOPROXY=https://go.corp,direct", nil, "env-goproxy-direct"},
		{"go env -w", "", []string{"/home/dev/.config/go/env", "GOPROXY=https://go.corp|direct\n"}, "env-goproxy-pipe"},
		{"environment wins", "GOPROXY=https://go.corp", []string{"/home/dev/.config/go/env", "GOPROXY=https://go.corp|direct\n"}, ""},
		{"GOENV=off", "GOENV=off GOPROXY=https://go.corp", []string{"/home/dev/.config/go/env", "GOFLAGS=-insecure\n"}, ""},
		{"off", "GOPROXY=off", nil, "env-goproxy-off"},
		{"direct", "GOPROXY=direct", nil, "env-goproxy-none"},
		{"insecure as an entry", "GOPROXY=https://go.corp,insecure", nil, "env-goproxy-word"},
		{"no URL", "GOPROXY=htps://go.corp", nil, "env-goproxy-invalid"},
		{"empty list", "GOPROXY=,", nil, "env-goproxy-empty"},
		{"rest", "GOPROXY=direct,https://go.corp", nil, "env-goproxy-none env-goproxy-rest"},
		{"password over http", "GOPROXY=http://me:hunter2@go.corp", nil, "env-goproxy-password"},
		{"GO111MODULE", "GOPROXY=https://go.corp GO111MODULE=off", nil, "env-go111module-off"},
		{"-insecure", "GOPROXY=https://go.corp GOFLAGS=-insecure", nil, "env-goflags-insecure"},
		{"GOINSECURE host", "GOPROXY=https://go.corp GOINSECURE=go.corp", nil, "env-goinsecure"},
		{"GOINSECURE all", "GOPROXY=https://go.corp GOINSECURE=*", nil, "env-goinsecure"},
		{"GOINSECURE repository", "GOPROXY=https://go.corp GOINSECURE=git.corp/*", nil, ""},
		{"GOSUMDB off", "GOPROXY=https://go.corp GOSUMDB=off", nil, "env-gosumdb-off"},
		{"GOSUMDB invalid", "GOPROXY=https://go.corp GOSUMDB=sum.corp", nil, "env-gosumdb-invalid"},
		{"GONOSUMDB all", "GOPROXY=https://go.corp GONOSUMDB=*", nil, "env-gonosumdb-wide"},
		{"GOPRIVATE all", "GOPROXY=https://go.corp GOPRIVATE=*", nil, "env-gonosumdb-wide"},
		{"GONOSUMDB empty", "GOPROXY=https://go.corp GOPRIVATE=git.corp GONOSUMDB=", nil, "env-empty-variable"},
		{"GONOSUMDB empty, nothing private", "GOPROXY=https://go.corp GONOSUMDB=", nil, ""},
		{"GODEBUG unknown", "GOPROXY=https://go.corp GODEBUG=x509ignoreCN=0", nil, "env-godebug-unknown"},
		{"GODEBUG known", "GOPROXY=https://go.corp GODEBUG=netdns=go,http2client=0,madvdontneed=1,cpu.avx2=off", nil, ""},
		{"GOTOOLCHAIN", "GOPROXY=https://go.corp GOTOOLCHAIN=latest", nil, "env-gotoolchain-invalid"},
		{"GOTOOLCHAIN good", "GOPROXY=https://go.corp GOTOOLCHAIN=go1.26.8+auto", nil, ""},
		{"GOAUTH off", "GOPROXY=https://go.corp GOAUTH=off", []string{"/home/dev/.netrc", netrc}, "env-goauth-off"},
		{"GOAUTH invalid", "GOPROXY=https://go.corp GOAUTH=off;netrc", nil, "env-goauth-invalid"},
		{"GOAUTH git", "GOPROXY=https://go.corp GOAUTH=git", nil, "env-goauth-invalid"},
		{"GOAUTH command", "GOPROXY=https://go.corp GOAUTH=corp-token", nil, "env-goauth-command"},
		{"GOAUTH command there", "GOPROXY=https://go.corp GOAUTH=corp-token", []string{"/usr/bin/corp-token", "#!"}, ""},
		{"netrc good", "GOPROXY=https://go.corp", []string{"/home/dev/.netrc", netrc}, ""},
		{"netrc without the port", "GOPROXY=https://go.corp:8443", []string{"/home/dev/.netrc", netrc}, "env-netrc-port"},
		{"netrc with the port", "GOPROXY=https://go.corp:8443", []string{"/home/dev/.netrc", "machine go.corp:8443 login ci password hunter2\n"}, ""},
		{"netrc over http", "GOPROXY=http://go.corp", []string{"/home/dev/.netrc", netrc}, "env-netrc-http"},
		{"NETRC missing", "GOPROXY=https://go.corp NETRC=/nowhere/netrc", nil, "env-netrc-missing"},
		{"proxy twice", "GOPROXY=https://go.corp HTTPS_PROXY=http://a.corp:1 https_proxy=http://b.corp:1", nil, "env-http-proxy-case"},
		{"NO_PROXY with scheme", "GOPROXY=https://go.corp NO_PROXY=https://go.corp,10.0.0.0/8,.corp", nil, "env-no-proxy-entry"},
		{"the module proxy as HTTP proxy", "GOPROXY=https://go.corp HTTPS_PROXY=https://go.corp", nil, "env-http-proxy-self"},
		{"proxy invalid", "GOPROXY=https://go.corp HTTPS_PROXY=http://[::1", nil, "env-http-proxy-invalid"},
		{"SSL_CERT_FILE missing", "GOPROXY=https://go.corp SSL_CERT_FILE=/nowhere.pem", nil, "trust-cert-file"},
		{"SSL_CERT_FILE without PEM", "GOPROXY=https://go.corp SSL_CERT_FILE=/r.der", []string{"/r.der", "\x30\x82"}, "trust-cert-file-empty"},
		{"SSL_CERT_FILE good", "GOPROXY=https://go.corp SSL_CERT_FILE=/r.pem", []string{"/r.pem", root}, ""},
		{"SSL_CERT_DIR missing", "GOPROXY=https://go.corp SSL_CERT_DIR=/nowhere", nil, "trust-cert-dir"},
		{"root by hand", "GOPROXY=https://go.corp", []string{"/usr/local/share/ca-certificates/corp.crt", root}, ""},
		{"root by hand, bundle not made anew", "GOPROXY=https://go.corp", []string{"/usr/local/share/ca-certificates/corp.crt", other}, "trust-not-installed"},
		{"root by hand, RHEL, DER", "GOPROXY=https://go.corp", []string{"/etc/pki/ca-trust/source/anchors/corp.cer", der}, "trust-not-installed"},
		{"no certificate by hand", "GOPROXY=https://go.corp", []string{"/usr/local/share/ca-certificates/README", "none"}, ""},
		{"old go", "GOPROXY=https://go.corp PATH=/usr/local/go/bin", []string{"/usr/local/go/VERSION", "go1.25.1\n", "/usr/local/go/bin/go", ""}, "env-go-old"},
		{"go", "GOPROXY=https://go.corp PATH=/usr/local/go/bin", []string{"/usr/local/go/VERSION", "go1.26.8\ntime x\n", "/usr/local/go/bin/go", ""}, ""},
		{"GOROOT/go.env", "PATH=/usr/local/go/bin", []string{"/usr/local/go/VERSION", "go1.26.8", "/usr/local/go/bin/go", "", "/usr/local/go/go.env", "GOPROXY=off\n"}, "env-goproxy-off"},
		{"misnomer", "GOPROXY=https://go.corp GONOSUMCHECK=1", nil, "env-unknown-variable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := examine(t, machine(t, strings.Fields(test.environ), slices.Concat(bundle, test.files)...))
			got := slices.DeleteFunc(codes(r), func(c string) bool { return c == "dns-not-found" || c == "http-proxy-down" }) // no network here
			if strings.Join(got, " ") != test.want {
				t.Errorf("found %v, want %s", got, test.want)
			}
			checkTexts(t, r)
		})
	}
}

// Without any authority, that is the finding.
func TestNoAuthorities(t *testing.T) {
	r := examine(t, machine(t, []string{"GOPROXY=https://go.corp"}))
	if got := codes(r); !slices.Equal(got, []string{"dns-not-found", "trust-empty"}) {
		t.Error(got)
	}
	r = examine(t, machine(t, []string{"GOPROXY=https://go.corp", "SSL_CERT_FILE=/r.pem"}))
	if got := codes(r); !slices.Equal(got, []string{"dns-not-found", "trust-cert-file"}) {
		t.Error(got)
	}
	c := machine(t, []string{"GOPROXY=https://go.corp", "SSL_CERT_FILE=/r.pem"})
	c.OS = "darwin"
	if got := codes(examine(t, c)); !slices.Equal(got, []string{"dns-not-found", "trust-ignored"}) {
		t.Error(got)
	}
}

// What only the machine of another place can do is not advised.
func TestAdviceIsForThisMachine(t *testing.T) {
	advice := func(os string, files ...string) string {
		c := machine(t, []string{"GOPROXY=https://go.corp", "GITLAB_CI=true"}, files...)
		c.OS = os
		for _, f := range examine(t, c).Findings {
			if f.Code == doctor.DNSNotFound {
				return strings.Join(f.Mend, "\n")
			}
		}
		return ""
	}
	if s := advice("linux"); !strings.Contains(s, "getent hosts go.corp") || strings.Contains(s, "scutil") {
		t.Error(s)
	}
	if s := advice("darwin"); strings.Contains(s, "getent") || !strings.Contains(s, "scutil") {
		t.Error(s)
	}
}

// What changes a value depends on where it is from, and on the shell.
func TestAdviceChangesTheValueWhereItIsFrom(t *testing.T) {
	bundle := []string{"/etc/ssl/certs/ca-certificates.crt", someRoot(t)}
	first := func(system string, environ []string, files ...string) string {
		c := machine(t, environ, append(files, bundle...)...)
		c.OS = system
		if f := examine(t, c).Findings[0]; len(f.Mend) > 0 {
			return f.Mend[0]
		}
		return ""
	}
	for _, test := range []struct{ got, want string }{
		{first("linux", []string{"GOPROXY=off"}), "export GOPROXY=https://your-proxy.example"},
		{first("linux", nil, "/home/dev/.config/go/env", "GOPROXY=off\n"), "go env -w GOPROXY=https://your-proxy.example"},
		{first("darwin", nil, "/home/dev/Library/Application Support/go/env", "GOPROXY=off\n"), "go env -w GOPROXY=https://your-proxy.example"},
		{first("windows", []string{"GOPROXY=off"}), `$env:GOPROXY = "https://your-proxy.example"`},
		{first("windows", []string{"GOPROXY=http://[::1]:1", "GO111MODULE=off"}), "Remove-Item Env:GO111MODULE"},
		{first("windows", []string{"AppData=/appdata"}, "/appdata/go/env", "GOPROXY=off\n"), "go env -w GOPROXY=https://your-proxy.example"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}

// checkTexts looks for secrets and for words in braces that nobody replaced.
func checkTexts(t *testing.T, r *doctor.Report) {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", "t0ken"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("a secret is printed:\n%s", b.String())
		}
	}
	for _, f := range r.Findings {
		for _, text := range append([]string{f.Title, f.Cause}, f.Mend...) {
			if text = strings.ReplaceAll(text, "${{", ""); strings.Contains(text, "{host}") || strings.Contains(text, "{value}") || strings.Contains(text, "{file}") || strings.Contains(text, "{variable}") || strings.Contains(text, "{url}") || strings.Contains(text, "{port}") {
				t.Errorf("%s: %s", f.Code, text)
			}
		}
	}
}

// Whatever holds a secret is shown without it, in the report and in what goes
// into a ticket.
func TestNoSecrets(t *testing.T) {
	for _, environ := range [][]string{
		{"GOPROXY=https://me:hunter2@go.corp"},
		{"GOPROXY=https://hunter2@go.corp,https://me:t0ken@other.corp|direct"},
		{"GOPROXY=http://me:hunter2@go.corp", "GOPROXYAUTH=t0ken", "GONOSUMCHECK=hunter2"},
		{"GOPROXY=https://go.corp", "HTTPS_PROXY=http://me:hunter2@proxy.corp:1", "https_proxy=http://me:t0ken@proxy.corp:1"},
		{"GOPROXY=https://go.corp", "HTTPS_PROXY=me:hunter2@proxy.corp:1", "HTTP_PROXY=me:t0ken@[::1"},
		{"GOPROXY=https://go.corp", "HTTPS_PROXY=me:hunter2@[::1"},
		{"GOPROXY=https://go.corp", "HTTPS_PROXY=http://me:hunter2%40t0ken@proxy.corp"},
		{"GOPROXY=https://go.corp", "NO_PROXY=https://me:hunter2@go.corp,t0ken@x y"},
		{"GOPROXY=https://go.corp", "GOAUTH=corp-token --secret hunter2; off t0ken"},
		{"GOPROXY=https://go.corp", "GOSUMDB=sum.corp https://me:hunter2@sum.corp"},
		{"GOPROXY=https://go.corp", "GOFLAGS=-ldflags=-X=main.token=hunter2 -mod=vendor '-gcflags=a t0ken'"},
	} {
		c := machine(t, environ, "/etc/ssl/certs/ca-certificates.crt", someRoot(t),
			"/home/dev/.netrc", "machine go.corp login ci password hunter2\nmachine other.corp login ci password t0ken\n",
			"/home/dev/.config/go/env", "GOPROXY=https://me:t0ken@go.corp\nGOFLAGS=-ldflags=hunter2\n")
		r := examine(t, c)
		checkTexts(t, r)
		var bundle bytes.Buffer
		if err := r.WriteBundle(&bundle, "modgate test"); err != nil {
			t.Fatal(err)
		}
		archive, err := zip.NewReader(bytes.NewReader(bundle.Bytes()), int64(bundle.Len()))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range archive.File {
			in, err := file.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(in)
			if err != nil || bytes.Contains(data, []byte("hunter2")) || bytes.Contains(data, []byte("t0ken")) {
				t.Errorf("%q: %s: %v\n%s", environ, file.Name, err, data)
			}
		}
	}
}
