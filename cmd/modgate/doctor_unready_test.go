package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// TestDoctorOnUnready has servers that cannot start, get no certificate, or lose
// the one that they have: what the go command says of each, what doctor finds from
// there, and what it finds on the server. It runs in a network of its own, where
// the port of https is free, and answers for all of its names that there are none.
func TestDoctorOnUnready(t *testing.T) {
	const inside = "MODGATE_TEST_UNREADY"
	if os.Getenv(inside) == "" {
		inNetwork(t, inside+"=1")
		return
	}
	answerAll(t, 3)
	f, dir := newFleet(t), t.TempDir()
	old := tlstest.New(t)
	roots := writePEM(t, slices.Concat(f.pebble.RootPEM(t), pemOf(t, old.WriteRoot(dir))))
	storage := func(name string) string { return "--tls-storage=" + filepath.Join(dir, name) }
	inRedis := func(args ...string) []string {
		return []string{"--tls-storage=redis://" + sharedtest.NewRedis(t, args...).Addr + "/0", "--tls-storage-key=" + strings.Repeat("k", 32)}
	}
	for _, test := range []struct {
		name           string
		flags          func(*testing.T) []string
		says           string // the go command; "" if it works
		client, server string // what doctor finds, there and on the server
	}{
		{"a wildcard without dns-01", func(*testing.T) []string {
			return []string{"--tls-domains=*.corp.example", "--tls-challenge=http-01", "--tls-http-listen=127.0.0.1:0", storage("a")}
		}, "connect: connection refused", "tcp-refused", "server-config"},
		{"an illegal name", func(*testing.T) []string { return []string{"--tls-domains=go_1.corp.example", storage("a")} }, "connect: connection refused", "tcp-refused", "server-config"},
		{"the storage is a file", func(t *testing.T) []string {
			if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{storage("file")}
		}, "connect: connection refused", "tcp-refused", "server-directory"},
		{"the disk of the storage is full", func(t *testing.T) []string {
			full := filepath.Join(dir, "full")
			if out, err := exec.Command("sh", "-c", "mkdir -p \"$0\" && mount -t tmpfs -o size=24k,mode=700 tmpfs \"$0\"", full).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Cleanup(func() { exec.Command("umount", full).Run() })
			fillDisk(t, full)
			return []string{storage("full")}
		}, "remote error: tls: internal error", "tls-no-certificate", "server-disk"},
		{"the Redis of the storage is full", func(t *testing.T) []string { return inRedis("--maxmemory", "1", "--appendonly", "yes") }, "remote error: tls: internal error", "tls-no-certificate", "server-redis-no-room"},
		{"the Redis of the storage is gone", func(*testing.T) []string {
			return []string{"--tls-storage=redis://127.0.0.1:1/0", "--tls-storage-key=" + strings.Repeat("k", 32)}
		}, "remote error: tls: internal error", "tls-no-certificate", "server-shared-down"},
		{"the Redis of the storage evicts", func(t *testing.T) []string {
			return inRedis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes")
		}, "", "", "server-redis-evicts"},
		{"expired, and the CA is gone", func(t *testing.T) []string {
			gone := "https://127.0.0.1:1/dir"
			at := filepath.Join(dir, "old", "certificates", "127.0.0.1-1-dir", "localhost")
			cert, key := old.Write(t.TempDir(), "localhost", old.Issue(tlstest.Leaf{From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-time.Hour)}))
			if out, err := exec.Command("sh", "-c", `mkdir -p -m 700 "$0" && cp "$1" "$0/localhost.crt" && install -m 600 "$2" "$0/localhost.key" && echo {} > "$0/localhost.json"`, at, cert, key).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return []string{storage("old"), "--tls-ca=" + gone}
		}, "certificate has expired or is not yet valid", "tls-expired", "acme-ca-down server-certificate-expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := append(f.flags("127.0.0.1:443", "--tls-profile=default"), test.flags(t)...)
			var admin []string
			i, err := launch(nil, t.TempDir(), flags...)
			if err == nil {
				t.Cleanup(func() { i.stop() })
				admin = []string{"--admin=" + i.admin}
				if test.says == "" {
					forwardTo(t, f.pebble.TLSAddr, "127.0.0.1:443")
					i.await(t, "certificate obtained")
				} else {
					i.await(t, "no certificate obtained|the storage of certificates does not work")
				}
			} else if test.client != "tcp-refused" {
				t.Fatal(err)
			}
			out, err := download(t, f.world, "https://localhost", "SSL_CERT_FILE="+roots)
			if (err == nil) != (test.says == "") || !strings.Contains(out, test.says) {
				t.Errorf("the go command says %s, %v; want %q", out, err, test.says)
			}
			environ := slices.DeleteFunc(goEnv(t.TempDir(), "https://localhost", f.world.log.Key()), func(v string) bool { return strings.HasSuffix(v, "=") })
			inTime(t, func() {
				if codes, _, out := examineJSON(t, append(environ, "SSL_CERT_FILE="+roots), "example.com/greet@v1.0.0"); strings.Join(codes, " ") != test.client {
					t.Errorf("a client finds %q, want %q\n%s", codes, test.client, out)
				}
			})
			inTime(t, func() {
				if codes, out := examineMachine(t, admin, flags...); strings.Join(codes, " ") != test.server {
					t.Errorf("the server finds %q, want %q\n%s", codes, test.server, out)
				}
			})
		})
	}
}

// inTime fails a test if doctor takes longer than people wait for it.
func inTime(t *testing.T, do func()) {
	t.Helper()
	start := time.Now()
	do()
	if took := time.Since(start); took >= 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func pemOf(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
