package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// treeState says what is below dir: names, modes, times of change and contents.
// Directories are among it: who makes a file and removes it again has changed
// them.
func treeState(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %d", name, info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(data))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// methods remembers by what methods a server was asked.
type methods struct {
	next http.Handler

	mu  sync.Mutex // guards all
	all []string
}

func (m *methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.all = append(m.all, r.Method)
	m.mu.Unlock()
	m.next.ServeHTTP(w, r)
}

// onlyReads fails the test if something else than a reading request came, or none.
func (m *methods) onlyReads(t *testing.T, who string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.all) == 0 || slices.ContainsFunc(m.all, func(method string) bool { return method != http.MethodGet && method != http.MethodHead }) {
		t.Errorf("%s was asked by %q", who, m.all)
	}
}

// TestDoctorChangesNothing has doctor look at a client and at the machine of a
// server, running and not, with all kinds of certificates: home, cache,
// configuration and storage are byte for byte what they were, times of change and
// directories included, and nobody is sent more than reading requests. The archive
// for a ticket is the one new file.
func TestDoctorChangesNothing(t *testing.T) {
	w, home := newWorld(t), t.TempDir()
	asked := &methods{next: w.upstream.Config.Handler}
	proxy := httptest.NewServer(asked)
	t.Cleanup(proxy.Close)
	for name, text := range map[string]string{
		".netrc": "machine git.corp login me password hunter2\n", ".config/go/env": "GOFLAGS=-mod=mod\n", "modcache/cache/lock": "", "goenv": "GOPRIVATE=git.corp\n",
	} {
		name = filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	same := func(what, dir string, do func()) {
		t.Helper()
		before := treeState(t, dir)
		do()
		if after := treeState(t, dir); after != before {
			t.Errorf("%s: there was\n%s\nand is\n%s", what, before, after)
		}
	}
	bundle := filepath.Join(t.TempDir(), "ticket.zip")
	environ := slices.DeleteFunc(goEnv(home, proxy.URL, w.log.Key()), func(v string) bool { return strings.HasSuffix(v, "=") || strings.HasPrefix(v, "GOENV") })
	same("client", home, func() {
		if codes, status, out := examineJSON(t, append(environ, "GOENV="+home+"/goenv"), "--bundle", bundle, "example.com/greet@v1.0.0"); status != 0 {
			t.Errorf("%q %s", codes, out)
		}
	})
	asked.onlyReads(t, "the proxy")
	if info, err := os.Stat(bundle); err != nil || info.Mode() != 0o600 {
		t.Error(info, err)
	}

	pki, dir := tlstest.New(t), t.TempDir()
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	for name, text := range map[string]string{"policy.yaml": "default: allow\n", "auth.yaml": "tokens:\n  - name: ci\n    sha256: \"" + strings.Repeat("3f", 32) + "\"\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := []string{"--upstream=" + proxy.URL, "--sumdb=" + w.log.Key(), "--cache-dir=" + dir + "/cache", "--policy-file=" + dir + "/policy.yaml", "--auth-file=" + dir + "/auth.yaml"}
	for what, flags := range map[string][]string{
		"files": {"--tls-mode=files", "--tls-files=" + cert + ":" + key}, "internal": {"--tls-mode=internal", "--tls-domains=localhost", "--tls-storage=" + dir + "/tls"},
	} {
		flags = append(flags, settings...)
		doctor := func(more ...string) {
			t.Helper()
			var out, errOut bytes.Buffer
			err := run(t.Context(), slices.Concat([]string{"doctor", "--server"}, more, flags), machineEnv(t, nil), &out, &errOut)
			if status := statusOf(err); status > 1 {
				t.Errorf("%s: %v\n%s%s", what, err, out.String(), errOut.String())
			}
		}
		same(what+", before the first start", dir, func() { doctor() })
		i, err := launch(nil, dir+"/cache", flags...)
		if err != nil {
			t.Fatal(err)
		}
		get(t, strings.Replace(i.admin, "https", "http", 1)+"/-/status")
		same(what+", while it runs", dir, func() { doctor("--admin=" + i.admin) })
		if err := i.stop(); err != nil {
			t.Error(err)
		}
		same(what+", after it has run", dir, func() { doctor("--bundle", filepath.Join(t.TempDir(), "ticket.zip")) })
	}
	asked.onlyReads(t, "the upstream")
}
