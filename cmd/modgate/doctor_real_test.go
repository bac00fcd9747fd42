package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// examined is what modgate doctor --json says.
type examined struct {
	Findings []struct{ Code, Severity string }
}

// examineJSON runs modgate doctor --json and returns the codes of what is more
// than a note, the status, and all that was printed.
func examineJSON(t *testing.T, environ []string, args ...string) (codes []string, status int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), append([]string{"doctor", "--json"}, args...), environ, &stdout, &stderr)
	var e examined
	if json.Unmarshal(stdout.Bytes(), &e) != nil {
		t.Fatalf("no JSON: %v\n%s%s", err, stdout.String(), stderr.String())
	}
	for _, f := range e.Findings {
		if f.Severity != string(doctor.Note) {
			codes = append(codes, f.Code)
		}
	}
	return codes, statusOf(err), stdout.String() + stderr.String()
}

// recorder passes requests to a proxy on and remembers their paths.
type recorder struct {
	paths chan string
	next  http.Handler
}

func (r recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.paths <- req.URL.Path
	r.next.ServeHTTP(w, req)
}

// TestDoctorStatus has set-ups that are healthy, usable and broken, over plain
// HTTP and with certificates of the house.
func TestDoctorStatus(t *testing.T) {
	pki, dir, w := tlstest.New(t), t.TempDir(), newWorld(t)
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	root, empty := pki.WriteRoot(dir), filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	plain, secure := w.start(t), w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key)
	_, port, _ := strings.Cut(strings.TrimPrefix(secure.url, "http://"), ":")
	const m = "example.com/greet@v1.0.0"
	for _, test := range []struct {
		name, proxy string
		environ     []string
		status      int
		codes       string
	}{
		{"plain HTTP on loopback", plain.url, nil, 0, ""},
		{"a company's authority", "https://localhost:" + port, []string{"SSL_CERT_FILE=" + root, "SSL_CERT_DIR=" + empty}, 0, ""},
		{"a company's authority among those of the system", "https://localhost:" + port, []string{"SSL_CERT_FILE=" + root}, 0, ""},
		{"passed by", plain.url + "|direct", nil, 1, "env-goproxy-pipe"},
		{"a base path that is not the server's", plain.url + "/modules", nil, 2, "http-not-a-proxy"},
		{"the admin listener", plain.admin, nil, 2, "http-not-a-proxy"},
		{"nobody there", "http://127.0.0.1:1", nil, 2, "tcp-refused"},
		{"a stranger", "https://localhost:" + port, []string{"SSL_CERT_DIR=" + empty}, 2, "tls-unknown-authority"},
	} {
		environ := append(slices.DeleteFunc(goEnv(t.TempDir(), test.proxy, w.log.Key()), func(v string) bool { return strings.HasSuffix(v, "=") }), test.environ...)
		codes, status, out := examineJSON(t, environ, m)
		if status != test.status || strings.Join(codes, " ") != test.codes {
			t.Errorf("%s: status %d, %q\n%s", test.name, status, codes, out)
		}
	}
}

// TestDoctorOnACME is a server that gets its certificate from Pebble: as long as
// the CA refuses, clients are told so, and so is who runs it; then all is well,
// once the client trusts the root.
func TestDoctorOnACME(t *testing.T) {
	pki, w, dir := tlstest.New(t), newWorld(t), t.TempDir()
	pebble := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	roots := filepath.Join(dir, "pebble.pem")
	if err := os.WriteFile(roots, pebble.RootPEM(t), 0o600); err != nil {
		t.Fatal(err)
	}
	examine := func(port string, environ ...string) (string, int) {
		all := slices.DeleteFunc(goEnv(t.TempDir(), "https://localhost:"+port, w.log.Key()), func(v string) bool { return strings.HasSuffix(v, "=") })
		codes, status, _ := examineJSON(t, append(all, environ...), "example.com/greet@v1.0.0")
		return strings.Join(codes, " "), status
	}
	flags := []string{"--tls-mode=acme", "--tls-domains=localhost", "--tls-ca=" + pebble.Directory, "--tls-profile=default",
		"--tls-challenge=tls-alpn-01", "--tls-email=ops@corp.example"}
	stranger := w.start(t, flags...) // it does not trust the CA
	_, port, _ := strings.Cut(strings.TrimPrefix(stranger.url, "http://"), ":")
	if codes, status := examine(port); codes != "tls-no-certificate" || status != 2 {
		t.Errorf("before there is a certificate: %q, %d", codes, status)
	}
	if out, err := download(t, w, "https://localhost:"+port); err == nil || !strings.Contains(out, "remote error: tls: internal error") {
		t.Errorf("before there is a certificate the go command says %s, %v", out, err)
	}
	stranger.await(t, "cause=no_certificate code=tls-no-certificate")
	until(t, "the status has it", func() bool { return len(stranger.liveFindings(t)) > 0 })

	i := w.start(t, append(flags, "--listen="+pebble.TLSAddr, "--tls-ca-roots="+pki.WriteRoot(dir))...)
	i.await(t, "certificate obtained.*localhost")
	_, port, _ = strings.Cut(strings.TrimPrefix(i.url, "http://"), ":")
	if codes, status := examine(port); codes != "tls-unknown-authority" || status != 2 {
		t.Errorf("without the root: %q, %d", codes, status)
	}
	if codes, status := examine(port, "SSL_CERT_FILE="+roots); codes != "" || status != 0 {
		t.Errorf("with the root: %q, %d", codes, status)
	}
}

// TestDoctorKeepsSecrets gives the command secrets in every way that there is,
// a private module, and nobody who may hear of either.
func TestDoctorKeepsSecrets(t *testing.T) {
	dir := t.TempDir()
	mods := proxytest.New(t, proxytest.Simple(t, "example.com/m", "v1.0.0"))
	asked := recorder{make(chan string, 1000), mods.Config.Handler}
	public := httptest.NewServer(asked)
	t.Cleanup(public.Close)
	if err := os.WriteFile(filepath.Join(dir, ".netrc"), []byte("machine 127.0.0.1 login me password s3cretNetrc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := append(slices.DeleteFunc(goEnv(dir, strings.Replace(public.URL, "http://", "http://me:s3cretURL@", 1), "sum.golang.org"), func(v string) bool { return strings.HasSuffix(v, "=") }),
		"GOPRIVATE=git.corp.example/*", "HTTPS_PROXY=http://me:s3cretProxy@127.0.0.1:1", "GOAUTH=s3cret-helper --token s3cretAuth")
	bundle := filepath.Join(dir, "ticket.zip")
	_, _, out := examineJSON(t, environ, "--bundle", bundle, "git.corp.example/team/secret@v1.0.0")
	if strings.Contains(strings.ReplaceAll(out, "s3cret-helper", ""), "s3cret") {
		t.Errorf("a secret is printed:\n%s", out)
	}
	if !strings.Contains(out, "doctor: the archive for a ticket is "+bundle+"\n") {
		t.Errorf("where the archive is is not said:\n%s", out)
	}
	archive, err := zip.OpenReader(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	for _, file := range archive.File {
		in, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil || strings.Contains(strings.ReplaceAll(string(data), "s3cret-helper", ""), "s3cret") {
			t.Errorf("%s: %v\n%s", file.Name, err, data)
		}
	}
	close(asked.paths)
	for path := range asked.paths {
		if strings.Contains(path, "corp") {
			t.Errorf("the proxy has heard of a private module: %s", path)
		}
	}
}

// TestDoctorWithoutNameServers runs the real commands on a machine whose
// resolv.conf is empty and that has no network: in namespaces of its own.
func TestDoctorWithoutNameServers(t *testing.T) {
	within := []string{"-r", "-m", "-n", "sh", "-c"}
	if out, err := exec.Command("unshare", append(within, "true")...).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs unshare and user namespaces: %v %s", err, out)
		}
		t.Skipf("needs unshare and user namespaces: %v %s", err, out)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"resolv.conf": "", "go.mod": "module m\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	inside := func(command string) string {
		cmd := exec.Command("unshare", append(within, "mount --bind "+dir+"/resolv.conf /etc/resolv.conf && "+command)...)
		cmd.Dir = dir
		cmd.Env = slices.DeleteFunc(goEnv(dir, "https://go.corp.example", "sum.golang.org"), func(v string) bool { return strings.HasSuffix(v, "=") })
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s succeeds\n%s", command, out)
		}
		return string(out)
	}
	said := inside("go mod download example.com/m@v1.0.0")
	if !regexp.MustCompile(`dial tcp: lookup go\.corp\.example on \S+: `).MatchString(said) {
		t.Errorf("the go command says %s", said)
	}
	start := time.Now()
	report := inside("exec modgate doctor --json")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	var e examined
	if err := json.Unmarshal([]byte(report), &e); err != nil || len(e.Findings) != 1 || e.Findings[0].Code != "dns-no-server" {
		t.Errorf("%v\n%s", err, report)
	}
}

// Each command of ours that doctor names is one that there is.
func TestDoctorNamesCommandsThatExist(t *testing.T) {
	var texts []string
	for _, e := range doctor.Table() {
		for _, m := range e.Mend {
			texts = append(texts, m.Do)
		}
	}
	named := regexp.MustCompile(`\bmodgate ((?:[a-z]+ ?)+)((?: --[a-z-]+)*)`)
	n := 0
	for _, m := range named.FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
		root := newRoot(&process{stdout: io.Discard, stderr: io.Discard})
		cmd, rest, err := root.Find(strings.Fields(m[1]))
		if err != nil || cmd == root {
			if rootWord := strings.Fields(m[1])[0]; slices.Contains([]string{"does", "reads", "serves", "evicts", "fetches", "shows", "refuses", "is", "server", "of"}, rootWord) {
				continue // a sentence
			}
			t.Errorf("modgate %s%s: %v, %q", m[1], m[2], err, rest)
			continue
		}
		for _, flag := range strings.Fields(m[2]) {
			if cmd.Flags().Lookup(strings.TrimPrefix(flag, "--")) == nil && cmd.InheritedFlags().Lookup(strings.TrimPrefix(flag, "--")) == nil {
				t.Errorf("modgate %s has no %s", m[1], flag)
			}
		}
		n++
	}
	if n < 8 {
		t.Errorf("only %d commands were looked at", n)
	}
}
