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
		environ string // NAME=VALUE; separated by blanks, or by tabs where one has a blank
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
		{"patterns with a blank", "GOPROXY=https://go.corp\tGONOPROXY=none\tGOPRIVATE=git.corp, git.example", nil, "env-private-pattern"},
		{"pattern with a scheme", "GOPROXY=https://go.corp GONOPROXY=none GOPRIVATE=https://git.corp/*", nil, "env-private-pattern"},
		{"pattern with a port", "GOPROXY=https://go.corp GONOSUMDB=git.corp:8443/team", nil, "env-private-pattern"},
		{"pattern with dots", "GOPROXY=https://go.corp GOPRIVATE=git.corp/...", nil, "env-private-pattern"},
		{"pattern that is none", "GOPROXY=https://go.corp GOPRIVATE=[", nil, "env-private-pattern"},
		{"pattern with a line end of Windows", "GOPROXY=https://go.corp", []string{"/home/dev/.config/go/env", "GOPRIVATE=git.corp\r\n"}, "env-private-pattern"},
		{"ALL_PROXY", "GOPROXY=https://go.corp ALL_PROXY=socks5://proxy.corp", nil, ""},
		{"GODEBUG in the file of go env -w is not read", "GOPROXY=https://go.corp", []string{"/home/dev/.config/go/env", "GODEBUG=nonsense=1\n"}, ""},
		{"empty by go env -w", "PATH=/usr/local/go/bin", []string{"/home/dev/.config/go/env", "GOPROXY=\n", "/usr/local/go/VERSION", "go1.26.8", "/usr/local/go/bin/go", "", "/usr/local/go/go.env", "GOPROXY=https://go.corp\n"}, "env-goproxy-empty"},
		{"a line that go passes over", "GOPROXY=https://go.corp", []string{"/home/dev/.config/go/env", " GOSUMDB=off\n"}, ""},
		{"misnomer", "GOPROXY=https://go.corp GONOSUMCHECK=1", nil, "env-unknown-variable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := examine(t, machine(t, variables(test.environ), slices.Concat(bundle, test.files)...))
			got := slices.DeleteFunc(codes(r), func(c string) bool { return c == "dns-not-found" || c == "http-proxy-down" }) // no network here
			if strings.Join(got, " ") != test.want {
				t.Errorf("found %v, want %s", got, test.want)
			}
			checkTexts(t, r)
		})
	}
}

// variables splits what a test sets.
func variables(environ string) []string {
	if strings.Contains(environ, "\t") {
		return strings.Split(environ, "\t")
	}
	return strings.Fields(environ)
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
	const file, root = "/home/dev/.config/go/env", "/usr/local/go"
	inRoot := func(text string) []string {
		return []string{root + "/VERSION", "go1.26.8", root + "/bin/go", "", root + "/go.env", text}
	}
	for _, test := range []struct {
		system, environ string
		files           []string
		want            string
	}{
		{"linux", "GOPROXY=off", nil, "export GOPROXY=https://your-proxy.example"},
		{"linux", "", []string{file, "GOPROXY=off\n"}, "go env -w GOPROXY=https://your-proxy.example"},
		{"darwin", "", []string{"/home/dev/Library/Application Support/go/env", "GOPROXY=off\n"}, "go env -w GOPROXY=https://your-proxy.example"},
		{"windows", "GOPROXY=off", nil, `$env:GOPROXY = "https://your-proxy.example"`},
		{"windows", "AppData=/appdata", []string{"/appdata/go/env", "GOPROXY=off\n"}, "go env -w GOPROXY=https://your-proxy.example"},
		{"linux", "PATH=" + root + "/bin", inRoot("GOPROXY=off\n"), "go env -w GOPROXY=https://your-proxy.example"},
		{"linux", "GOENV=off PATH=" + root + "/bin", inRoot("GOPROXY=off\n"), "export GOPROXY=https://your-proxy.example"},
		{"linux", "GOPROXY=http://[::1]:1,insecure,direct", nil, "export 'GOPROXY=http://[::1]:1,direct'"},
		{"windows", "GOPROXY=http://[::1]:1,insecure,direct", nil, `$env:GOPROXY = "http://[::1]:1,direct"`},
		{"linux", "GOPROXY=http://[::1]:1 GO111MODULE=off", nil, "export GO111MODULE=on"},
		{"linux", "GOPROXY=http://[::1]:1 GOFLAGS=-insecure", nil, "unset GOFLAGS"},
		{"windows", "GOPROXY=http://[::1]:1 GOFLAGS=-insecure", nil, "Remove-Item Env:GOFLAGS"},
		{"linux", "GOPROXY=http://[::1]:1", []string{file, "GOFLAGS=-insecure\n"}, "go env -u GOFLAGS"},
		{"linux", "GOPROXY=http://[::1]:1 PATH=" + root + "/bin", inRoot("GOFLAGS=-insecure\n"), "go env -w GOFLAGS="},
		{"linux", "GOPROXY=http://[::1]:1 GOFLAGS=-insecure\t-mod=mod", nil, "export GOFLAGS=-mod=mod"},
		{"linux", "GOPROXY=http://[::1]:1 GOFLAGS=-insecure\t-ldflags=hunter2", nil, "take -insecure out of GOFLAGS"},
		{"linux", "GOPROXY=http://[::1]:1 GOSUMDB=sum.corp", nil, "export GOSUMDB=sum.golang.org"},
		{"linux", "GOPROXY=http://[::1]:1 PATH=" + root + "/bin", inRoot("GOSUMDB=sum.corp\n"), "go env -w GOSUMDB=sum.golang.org"},
		{"linux", "GOPROXY=http://[::1]:1 GOAUTH=off;netrc", nil, "export GOAUTH=netrc"},
		{"linux", "GOPROXY=http://[::1]:1", []string{file, "GOTOOLCHAIN=latest\n"}, "go env -w GOTOOLCHAIN=auto"},
		{"linux", "GOPROXY=https://go.corp https_proxy=http://[::1", nil, "export https_proxy=http://proxy.example:3128"},
		{"linux", "GOPROXY=https://go.corp https_proxy=https://go.corp", nil, "unset https_proxy"},
	} {
		// A variable may have a value with a blank, which is a tab here.
		environ := strings.Fields(strings.ReplaceAll(test.environ, "\t", "\x00"))
		for i, v := range environ {
			environ[i] = strings.ReplaceAll(v, "\x00", " ")
		}
		if got := first(test.system, environ, test.files...); got != test.want {
			t.Errorf("%s, %q, %q: %q, want %q", test.system, test.environ, test.files, got, test.want)
		}
	}
}

// The command changes the value where it is from, whatever is not the worst that
// was found.
func TestEachCommandFitsWhereTheValueIsFrom(t *testing.T) {
	bundle := []string{"/etc/ssl/certs/ca-certificates.crt", someRoot(t)}
	for _, test := range []struct {
		code       doctor.Code
		environ    string
		file       string // of go env -w
		want       string
		wantInFile string // where the same is set by go env -w
	}{
		{code: doctor.NoproxyBypass, environ: "GONOPROXY=git.corp", want: "export GONOPROXY=none", wantInFile: "go env -w GONOPROXY=none"},
		{code: doctor.NoproxyBypass, environ: "GOPRIVATE=git.corp", want: "export GONOPROXY=none", wantInFile: "go env -w GONOPROXY=none"},
		{code: doctor.GoproxyRest, environ: "GOPROXY=https://go.corp,direct,https://b.corp", want: "export 'GOPROXY=https://go.corp,https://b.corp'", wantInFile: "go env -w 'GOPROXY=https://go.corp,https://b.corp'"},
		{code: doctor.GoproxyPipe, environ: "GOPROXY=http://127.0.0.1:1|direct", want: "export GOPROXY=http://127.0.0.1:1", wantInFile: "go env -w GOPROXY=http://127.0.0.1:1"},
		{code: doctor.GoproxyPipe, environ: "GOPROXY=https://me:hunter2@go.corp|direct", want: "export GOPROXY=https://USER:PASSWORD@go.corp", wantInFile: "go env -w GOPROXY=https://USER:PASSWORD@go.corp"},
		{code: doctor.GoproxyNone, environ: "GOPROXY=direct", want: "export GOPROXY=https://your-proxy.example", wantInFile: "go env -w GOPROXY=https://your-proxy.example"},
		{code: doctor.InsecureUseless, environ: "GOINSECURE=*", want: "unset GOINSECURE", wantInFile: "go env -u GOINSECURE"},
		{code: doctor.SumdbOff, environ: "GOSUMDB=off", want: "export GOSUMDB=sum.golang.org", wantInFile: "go env -w GOSUMDB=sum.golang.org"},
		{code: doctor.NosumdbWide, environ: "GONOSUMDB=*", want: "export GONOSUMDB=your-private-pattern", wantInFile: "go env -w GONOSUMDB=your-private-pattern"},
		{code: doctor.PatternUseless, environ: "GOPRIVATE=https://git.corp", want: "export GOPRIVATE=git.corp", wantInFile: "go env -w GOPRIVATE=git.corp"},
		{code: doctor.AuthInvalid, environ: "GOAUTH=git", want: "export GOAUTH=netrc", wantInFile: "go env -w GOAUTH=netrc"},
		{code: doctor.DebugUnknown, environ: "GODEBUG=nonsense=1,http2client=0", want: "export GODEBUG=http2client=0"},
		{code: doctor.VariableEmpty, environ: "GONOSUMDB= GOPRIVATE=git.corp", want: "export GONOSUMDB=none"},
	} {
		mend := func(c doctor.Config) string {
			for _, f := range examine(t, c).Findings {
				if f.Code == test.code {
					return f.Mend[0]
				}
			}
			return "not found"
		}
		environ := strings.Fields(test.environ)
		if got := mend(machine(t, append([]string{"GOPROXY=http://127.0.0.1:1"}, environ...), bundle...)); got != test.want {
			t.Errorf("%s in the environment: %q, want %q", test.environ, got, test.want)
		}
		if test.wantInFile == "" {
			continue
		}
		files := append([]string{"/home/dev/.config/go/env", "GOPROXY=http://127.0.0.1:1\n" + strings.Join(environ, "\n") + "\n"}, bundle...)
		if got := mend(machine(t, nil, files...)); got != test.wantInFile {
			t.Errorf("%s by go env -w: %q, want %q", test.environ, got, test.wantInFile)
		}
	}
	c := machine(t, []string{"GOPROXY=off", "GITHUB_ACTIONS=true", "GITLAB_CI=true"}, bundle...)
	if mend := strings.Join(examine(t, c).Findings[0].Mend, "\n"); !strings.Contains(mend, `echo GOPROXY=https://your-proxy.example >> "$GITHUB_ENV"`) || !strings.Contains(mend, `GOPROXY: "https://your-proxy.example" under variables:`) {
		t.Error(mend)
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
		if f.Severity != doctor.Note && len(f.Mend) == 0 {
			t.Errorf("%s: nothing is said to be done", f.Code)
		}
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
		{"GOPROXY=https://go.corp", "GOFLAGS=-ldflags=-X hunter2 t0ken=1"},
		{"GOPROXY=https://go.corp", "GOFLAGS=-insecure -ldflags=hunter2 -mod=mod"},
		{"GOPROXY=https://me:hunter2@go.corp;https://me:t0ken@b.corp"},
		{"GOPROXY=\"https://me:hunter2@go.corp\""},
		{"GOPROXY=https://me:hunter2@go.corp,insecure,https//me:t0ken@b.corp"},
		{"GOPROXY=direct,https://me:hunter2@go.corp"},
		{"GOPROXY=file://me:hunter2@go.corp"},
		{"GOPROXY=https://go.corp", "ALL_PROXY=socks5://me:hunter2@proxy.corp:1", "all_proxy=http://me:t0ken@proxy.corp"},
		{"GOPROXY=https://go.corp", "GOPRIVATE=https://me:hunter2@git.corp, me:t0ken@git.corp"},
		{"GOPROXY=https://go.corp", "HTTPS_PROXY=http://me:hunter2@proxy.corp:1/wpad.pac"},
		{"GOPROXY=https://go.corp", "GOSUMDB=sum.golang.org http://me:hunter2@[::1"},
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
