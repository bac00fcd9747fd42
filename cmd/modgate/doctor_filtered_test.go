package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
)

// TestDoctorIsQuickWhereManyAreSilent runs the real command in a network of its own,
// in which packets to 192.0.2.0/24 vanish, and so do questions to name servers. Each
// thing that a server can have to do with is there at least once, and none answers:
// neither does the server itself.
func TestDoctorIsQuickWhereManyAreSilent(t *testing.T) {
	const inside = "MODGATE_TEST_FILTERED"
	if os.Getenv(inside) == "" {
		inNetwork(t, inside+"=1")
		return
	}
	script := "ip link add name nowhere type veth peer name end && ip link set end arp off up && ip link set nowhere arp off up && ip address add 192.0.2.1/24 dev nowhere"
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	answerAll(t, -1)
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, by its backlog, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	private := filepath.Join(dir, "private.yaml")
	rules := "repositories:\n  - match: git.corp/team\n    url: https://192.0.2.41/team.git\n  - match: git.corp/other\n    url: ssh://git@192.0.2.42/other.git\n" +
		"credentials:\n  - match: 192.0.2.41\n    username: me\n    password: s3cret-s3cret\n"
	if err := os.WriteFile(private, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GOROOT="}
	examineAll := func(args ...string) (codes []string, took time.Duration, out string) {
		var stdout, stderr bytes.Buffer
		start := time.Now()
		err := run(t.Context(), append([]string{"doctor", "--json"}, args...), environ, &stdout, &stderr)
		took = time.Since(start)
		var e examined
		if jerr := json.Unmarshal(stdout.Bytes(), &e); jerr != nil {
			t.Fatalf("%v, %v: %s%s", err, jerr, stdout.String(), stderr.String())
		}
		for _, f := range e.Findings {
			if f.Severity != string(doctor.Note) && f.Code != string(doctor.DiskLow) {
				codes = append(codes, f.Code)
			}
		}
		slices.Sort(codes)
		return slices.Compact(codes), took, stdout.String()
	}
	check := func(name, want string, args ...string) {
		t.Helper()
		codes, took, out := examineAll(args...)
		t.Logf("%s: %v, %q", name, took, codes)
		if took >= 10*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		if !slices.Equal(codes, strings.Fields(want)) {
			t.Errorf("%s: %q, want %q", name, codes, strings.Fields(want))
		}
		if strings.Contains(out, "s3cret") {
			t.Errorf("%s: a secret is shown", name)
		}
	}
	check("server", "acme-ca-down acme-port dns-silent server-shared-down tcp-filtered", "--server",
		"--upstream=https://192.0.2.11,https://192.0.2.12,https://up.corp",
		"--sumdb=sum.golang.org", "--private=git.corp/*", "--direct-file="+private, "--cache-dir="+filepath.Join(dir, "cache"),
		"--cache-redis-addr=192.0.2.21:6379,192.0.2.22:6379,192.0.2.23:6379", "--cache-redis-mode=cluster",
		"--cache-s3-bucket=modules", "--cache-s3-endpoint=https://192.0.2.31", "--cache-s3-access-key=me", "--cache-s3-secret-key=s3cret-s3cret",
		"--tls-mode=acme", "--tls-domains=192.0.2.51,192.0.2.52,go.corp", "--tls-ca=https://192.0.2.61/directory", "--tls-challenge=http-01",
		"--tls-storage=redis://192.0.2.71:6379/0", "--tls-storage-key="+strings.Repeat("s3cret-s", 4), "--listen=:443", "--tls-http-listen=:80",
		"--admin="+fmt.Sprintf("http://%s", l.Addr()))
	environ = append(environ, "GOPROXY=https://192.0.2.11,https://192.0.2.12|https://up.corp,https://192.0.2.13")
	check("client", "env-goproxy-pipe tcp-filtered")
	environ = append(environ, "GOPROXY=https://up.corp,https://192.0.2.12,https://other.corp")
	check("client by name", "dns-silent")
}
