package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// TestRefusalOverTLS: the go command asks twice for what is refused, the client
// reads the text once, and log and metrics have one decision.
func TestRefusalOverTLS(t *testing.T) {
	pki, dir, w := tlstest.New(t), t.TempDir(), newWorld(t)
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	rules := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(rules, []byte("rules: [{name: no-words, modules: example.com/words, action: deny, reason: too many}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key, "--policy-file="+rules, "--look-ahead=0")
	cmd := exec.Command("go", "mod", "download", "example.com/Words@v0.3.0")
	cmd.Env = append(goEnv(t.TempDir(), https(i.url), w.log.Key()), "SSL_CERT_FILE="+pki.WriteRoot(dir))
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Count(string(out), "blocked: example.com/Words@v0.3.0 by rule no-words") != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := i.metric(t, `modgate_policy_decisions_total{action="deny"}`); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
	for end := time.Now().Add(10 * time.Second); strings.Count(i.log(), "outcome=denied") < 2 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if lines, asked := strings.Count(i.log(), "msg=policy decision="), strings.Count(i.log(), "outcome=denied"); lines != 1 || asked != 2 {
		t.Errorf("%d lines about a decision, %d requests\n%s", lines, asked, i.log())
	}
}

// TestRulesOfTheManual reads the example that docs/policy.md gives.
func TestRulesOfTheManual(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(data), "```yaml\n")
	example, _, ended := strings.Cut(example, "```\n")
	if !ok || !ended {
		t.Fatal("there is no example")
	}
	p, err := readRules("docs/policy.md", []byte(example), "")
	if err != nil || p.Rules() != 2 {
		t.Errorf("%v, %d rules", err, p.Rules())
	}
}
