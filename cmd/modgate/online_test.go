package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// publicMirror is the upstream of the default configuration.
const publicMirror = "https://proxy.golang.org"

// needPublicMirror skips the test if Go's public mirror does not answer.
// MODGATE_TEST_ONLINE=1 takes for granted that it does, 0 that it does not.
func needPublicMirror(t *testing.T) {
	t.Helper()
	switch os.Getenv("MODGATE_TEST_ONLINE") {
	case "1":
		return
	case "":
		if testing.Short() {
			t.Skip("ONLINE SUITE NOT RUN: -short")
		}
		client := &http.Client{Timeout: 5 * time.Second}
		resp, err := client.Get(publicMirror + "/golang.org/x/mod/@v/v0.20.0.info")
		if err != nil {
			t.Skipf("ONLINE SUITE NOT RUN: the public mirror does not answer: %v", err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		t.Skipf("ONLINE SUITE NOT RUN: the public mirror answers %s", resp.Status)
	default:
		t.Skip("ONLINE SUITE NOT RUN: MODGATE_TEST_ONLINE is not 1")
	}
}

// gocmd runs the go command in dir.
func gocmd(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

var sample = regexp.MustCompile(`(?m)^(modgate_\S+?)(?:\{[^}]*\})? (\S+)$`)

// metrics returns the metrics of a server, added up over their labels.
func metrics(t *testing.T, i *instance) map[string]float64 {
	t.Helper()
	_, text := get(t, i.admin+"/metrics")
	sum := map[string]float64{}
	for _, m := range sample.FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum[m[1]] += v
	}
	return sum
}

// TestOnline is the main job for real: a small project through a server with
// the default configuration, the public mirror and the public checksum
// database, by clients with empty caches.
func TestOnline(t *testing.T) {
	needPublicMirror(t)
	i, err := launch(proxySettings(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := i.stop(); err != nil {
			t.Error(err)
		}
	}()
	project := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(project, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module app\n\ngo 1.22\n\nrequire (\n\tgithub.com/BurntSushi/toml v1.5.0\n\tgolang.org/x/mod v0.20.0\n)\n")
	write("main.go", "package main\n\nimport (\n\t_ \"github.com/BurntSushi/toml\"\n\t_ \"golang.org/x/mod/semver\"\n)\n\nfunc main() {}\n")

	client := func() []string { return goEnv(t.TempDir(), i.url, "sum.golang.org") }
	first := client()
	gocmd(t, project, first, "mod", "tidy")
	gocmd(t, project, first, "build", "-o", os.DevNull, ".")
	gocmd(t, project, first, "mod", "verify")
	sum, err := os.ReadFile(filepath.Join(project, "go.sum"))
	if err != nil || !strings.Contains(string(sum), "github.com/BurntSushi/toml v1.5.0 h1:W5quZX/G/csjUnuI8SUYlsHs9M38FC7znL0lIO+DvMg=") {
		t.Errorf("go.sum: %s, %v", sum, err)
	}
	before := metrics(t, i)
	if before["modgate_upstream_requests_total"] == 0 || before["modgate_verifications_total"] == 0 {
		t.Errorf("nothing was fetched or verified: %v", before)
	}

	gocmd(t, project, client(), "mod", "download") // with a go.sum
	if err := os.Remove(filepath.Join(project, "go.sum")); err != nil {
		t.Fatal(err)
	}
	third := client() // without one: every hash comes from the checksum database
	gocmd(t, project, third, "mod", "tidy")
	again, err := os.ReadFile(filepath.Join(project, "go.sum"))
	if err != nil || string(again) != string(sum) {
		t.Errorf("go.sum through the cache: %s, %v; was %s", again, err, sum)
	}
	after := metrics(t, i)
	if n := after["modgate_upstream_requests_total"] - before["modgate_upstream_requests_total"]; n != 0 {
		t.Errorf("a warm repeat made %v upstream requests", n)
	}
	gocmd(t, project, third, "list", "-m", "-versions", "golang.org/x/mod")
}

// proxySettings are the variables with which this machine reaches the world.
func proxySettings() []string {
	var env []string
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
