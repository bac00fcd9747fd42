package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// TestExplainAsAsksTheServer asks a running server, whose admin listener wants a
// certificate, how it decides for callers of groups, and holds that against what the
// callers get.
func TestExplainAsAsksTheServer(t *testing.T) {
	pki, operators, dir, w := tlstest.New(t), tlstest.New(t), t.TempDir(), newWorld(t)
	root := pki.WriteRoot(dir)
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	ours, ourKey := operators.Write(dir, "operator", operators.Issue(tlstest.Leaf{Client: true}))
	theirs, theirKey := pki.Write(dir, "stranger", pki.Issue(tlstest.Leaf{Client: true}))
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	rules := file("rules.yaml", "rules:\n  - {name: team, modules: example.com/greet, groups: release, action: allow}\n  - {name: not-yours, modules: example.com/greet, action: deny, reason: ask the team}\n")
	sum := func(token string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(token))) }
	const release, other = "modgate_s3cret-release-0123456789abcdef", "modgate_s3cret-other-0123456789abcdef"
	tokens := file("tokens.yaml", "tokens:\n  - {name: ci, sha256: "+sum(release)+", groups: [release]}\n  - {name: dev, sha256: "+sum(other)+", groups: [other]}\n")
	i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key, "--tls-admin-clients="+operators.WriteRoot(filepath.Join(t.TempDir())), "--policy-file="+rules, "--auth-file="+tokens)
	admin := strings.Replace(i.admin, "http://127.0.0.1", "https://localhost", 1)
	explain := func(args ...string) (text string, status int) {
		var out, errOut bytes.Buffer
		err := run(t.Context(), append([]string{"policy", "explain", "--config=off", "--admin=" + admin, "--cacert=" + root}, args...), []string{"HOME=" + dir}, &out, &errOut)
		text = out.String() + errOut.String()
		if err != nil {
			text += err.Error()
		}
		return text, statusOf(err)
	}
	shown := []string{"--cert=" + ours, "--key=" + ourKey}
	const m = "example.com/greet@v1.0.0"
	for _, test := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"a group that may", append(shown, m, "--as=release"), 0, "team"},
		{"one of two groups", append(shown, m, "--as=other,release"), 0, "team"},
		{"a group that may not", append(shown, m, "--as=other"), 1, "not-yours"},
		{"nobody", append(shown, m), 1, "not-yours"},
		{"a group that there is not", append(shown, m, "--as=no-such-group"), 1, "not-yours"},
		{"the name of a token is no group", append(shown, m, "--as=ci"), 1, "not-yours"},
		{"who shows no certificate", []string{m, "--as=release"}, 1, ""},
		{"who shows one of another authority", []string{"--cert=" + theirs, "--key=" + theirKey, m, "--as=release"}, 1, ""},
	} {
		text, status := explain(test.args...)
		if status != test.status || !strings.Contains(text, test.want) || strings.Contains(text, "s3cret") {
			t.Errorf("%s: %d\n%s", test.name, status, text)
		}
		if answered := strings.Contains(text, "asked: "); answered != (test.want != "") {
			t.Errorf("%s: answered %t\n%s", test.name, answered, text)
		}
	}
	for token, want := range map[string]int{release: 200, other: 403, "modgate_none": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, https(i.url)+"/example.com/greet/@v/v1.0.0.zip", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("me", token)
		resp, err := tlsClient(t, pki.Pool()).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("a caller gets %d, want %d", resp.StatusCode, want)
		}
	}
}
