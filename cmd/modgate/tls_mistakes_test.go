package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// A storage that cannot be written is told at the start.
func TestTLSStorageUnwritable(t *testing.T) {
	_, err := launch(nil, t.TempDir(), "--tls-mode=internal", "--tls-storage=/proc/modgate")
	if err == nil || !strings.Contains(err.Error(), "tls.storage: ") || !strings.Contains(err.Error(), "→ name a directory") {
		t.Error(err)
	}
}

// TestTLSStorageFile: the word for the default is no directory of that name.
func TestTLSStorageFile(t *testing.T) {
	t.Chdir(t.TempDir())
	i, err := launch(nil, t.TempDir(), "--tls-mode=internal", "--tls-storage=file")
	if err != nil {
		t.Fatal(err)
	}
	if err := i.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("file"); err == nil {
		t.Error("there is a directory with the name file")
	}
	if kept, err := os.ReadDir(filepath.Join(i.dir, ".modgate", "tls")); err != nil || len(kept) == 0 {
		t.Errorf("nothing is kept below the cache: %v", err)
	}
}

// TestTLSMistakes are those that only the files can tell.
func TestTLSMistakes(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	cert, _ := pki.Write(dir, "one", pki.Issue(tlstest.Leaf{}))
	_, key := pki.Write(dir, "two", pki.Issue(tlstest.Leaf{}))
	for _, command := range [][]string{{"serve", "--listen=127.0.0.1:0", "--admin-listen="}, {"config", "--check"}} {
		var stderr bytes.Buffer
		args := append(command, "--config=off", "--cache-dir="+t.TempDir(), "--tls-mode=files", "--tls-files="+cert+":"+key+","+dir+"/none")
		if err := run(t.Context(), args, nil, io.Discard, &stderr); err == nil {
			t.Errorf("%s: no error", command[0])
		}
		for _, want := range []string{"tls.files: ", "not that of the first certificate", "no such file", "→ name pairs of PEM files"} {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%s: no %q in %q", command[0], want, stderr.String())
			}
		}
	}
}

// What else only files can tell.
func TestTLSMistakesOfOtherFiles(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	for want, flags := range map[string][]string{
		"tls.admin_clients: cannot be read": {"--tls-mode=files", "--tls-files=" + cert + ":" + key, "--tls-admin-clients=" + dir + "/none"},
		"tls.admin_clients: holds no cert":  {"--tls-mode=files", "--tls-files=" + cert + ":" + key, "--tls-admin-clients=" + key},
		"the command of tls.dns_settings":   {"--tls-mode=acme", "--tls-domains=go.corp.example", "--tls-challenge=dns-01", "--tls-dns-provider=exec", "--tls-dns-settings=command=" + dir + "/none"},
	} {
		for _, command := range [][]string{{"serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}, {"config", "--check"}} {
			var stderr bytes.Buffer
			args := append(append(command, "--config=off", "--cache-dir="+t.TempDir()), flags...)
			if err := run(t.Context(), args, nil, io.Discard, &stderr); err == nil || !strings.Contains(stderr.String(), want) {
				t.Errorf("%s: %v, want %q in %q", command[0], err, want, stderr.String())
			}
		}
	}
}

// Port 80 without the right to it: the error says so. The server has a user
// namespace of its own, in which it is root, and has no right to ports.
func TestTLSPortWithoutPrivilege(t *testing.T) {
	first, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(first)) != "1024" {
		t.Skipf("NOT TESTED: everybody may open port 80 here (%v)", err)
	}
	if out, err := exec.Command("unshare", "-Ur", "true").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: no user namespaces here (%v: %s)", err, out)
	}
	pki, dir := tlstest.New(t), t.TempDir()
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	modgate, err := exec.LookPath("modgate")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-Ur", modgate, "serve", "--config=off", "--listen=127.0.0.1:0", "--admin-listen=", "--cache-dir="+dir,
		"--tls-mode=files", "--tls-files="+cert+":"+key, "--tls-http-listen=127.0.0.1:80")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "tls.http_listen: ") || !strings.Contains(string(out), "CAP_NET_BIND_SERVICE") || !strings.Contains(string(out), "--tls-http-listen") {
		t.Errorf("%v\n%s", err, out)
	}
}
