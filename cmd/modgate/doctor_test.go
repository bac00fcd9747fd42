package main

import (
	"bytes"
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

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// TestDoctorOnTLS asks a server over TLS from a machine that trusts it, and from
// one that does not.
func TestDoctorOnTLS(t *testing.T) {
	pki, dir, w := tlstest.New(t), t.TempDir(), newWorld(t)
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key)
	stranger := tlstest.New(t).WriteRoot(t.TempDir())
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	doctor := func(root string) (string, int) {
		var out, errOut bytes.Buffer
		environ := append(goEnv(t.TempDir(), https(i.url), w.log.Key()), "PATH="+os.Getenv("PATH"), "SSL_CERT_FILE="+root, "SSL_CERT_DIR="+empty)
		err := run(t.Context(), []string{"doctor", "example.com/greet@v1.0.0"}, environ, &out, &errOut)
		return out.String() + errOut.String(), statusOf(err)
	}
	if out, status := doctor(pki.WriteRoot(dir)); status != 0 || !strings.Contains(out, "All is well") || strings.Contains(out, "opened on the way") {
		t.Errorf("status %d\n%s", status, out)
	}
	if out, status := doctor(stranger); status != 2 || !strings.Contains(out, "[tls-unknown-authority]") {
		t.Errorf("status %d\n%s", status, out)
	}
	c := tlsClient(t, pki.Pool())
	if resp, body := getBy(t, c, https(i.url)+"/-/fingerprint"); resp.StatusCode != 200 || !strings.Contains(body, "test intermediate") || strings.Contains(body, "localhost") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestDoctorKnowsWhatTheServerAsksFor has a client that was not told of private
// modules. The line that doctor prints, run as it stands, makes it well.
func TestDoctorKnowsWhatTheServerAsksFor(t *testing.T) {
	w := newWorld(t)
	i := w.start(t, "--private=git.corp.example/*,*.secret.example")
	dir := t.TempDir()
	environ := slices.DeleteFunc(goEnv(dir, i.url, w.log.Key()), func(v string) bool {
		return strings.HasSuffix(v, "=") || strings.HasPrefix(v, "GOENV") || strings.HasPrefix(v, "GOPROXY")
	})
	environ = append(environ, "GOENV="+filepath.Join(dir, "goenv"))
	shell := func(command string) string {
		cmd := exec.Command("sh", "-c", command)
		cmd.Env = environ
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	shell("go env -w GOPROXY=" + i.url + " GOPRIVATE=mine.example")
	doctor := func() (string, int) {
		var out, errOut bytes.Buffer
		err := run(t.Context(), []string{"doctor", "example.com/greet@v1.0.0"}, environ, &out, &errOut)
		return out.String() + errOut.String(), statusOf(err)
	}
	out, status := doctor()
	line := regexp.MustCompile(`(?m)go env -w '?GONOSUMDB=.*$`).FindString(out)
	if status != 1 || !strings.Contains(out, "[env-private-missing]") || line != "go env -w 'GONOSUMDB=mine.example,git.corp.example/*,*.secret.example'" {
		t.Fatalf("status %d, %q\n%s", status, line, out)
	}
	const works = "the go command does not mind"
	if out, err := download(t, w, i.url, "GOPRIVATE=mine.example", "GONOPROXY="); err != nil {
		t.Errorf("%s no longer: %v\n%s", works, err, out)
	}
	shell(line)
	if out, status = doctor(); status != 1 || strings.Contains(out, "[env-private-missing]") || !strings.Contains(out, "[env-gonoproxy-set]") {
		t.Errorf("status %d\n%s", status, out)
	}
	shell("go env -w GONOPROXY=none")
	if out, status = doctor(); status != 0 || strings.Contains(out, "[env-") {
		t.Errorf("status %d\n%s", status, out)
	}
}

// Who calls doctor by mistake gets status 2, since 1 says that modules can be had,
// and is told what to write.
func TestDoctorMistakesOfTheCaller(t *testing.T) {
	for _, args := range []string{
		"--no-such-flag", "--json=perhaps", "ftp://proxy.example", "proxy.example", "https://proxy.example example.com/m@latest", "a b c", "--probe",
		"--server a b", "--server --probe", "--server --config=/nowhere/modgate.yaml --staging=nonsense --tls-mode=acme",
	} {
		var out, errOut bytes.Buffer
		err := run(t.Context(), append([]string{"doctor"}, strings.Fields(args)...), machineEnv(t, nil), &out, &errOut)
		if reported := out.Len() > 0; statusOf(err) != 2 || !reported && !strings.Contains(errOut.String(), "\n  → ") {
			t.Errorf("doctor %s: status %d\n%s", args, statusOf(err), errOut.String())
		}
	}
}

// What answers at the address of the admin listener and is something else is told
// of, and is not taken for a server with nothing to say.
func TestDoctorAsksNoStranger(t *testing.T) {
	w := newWorld(t)
	stranger := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { io.WriteString(out, `{"tls":null}`) }))
	t.Cleanup(stranger.Close)
	_, report := examineMachine(t, []string{"--admin=" + stranger.URL}, w.flags()...)
	if !strings.Contains(report, "server-not-running") || !strings.Contains(report, "is no admin listener of modgate") {
		t.Error(report)
	}
}
