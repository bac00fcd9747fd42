package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A recall must find who has a version: also by an answer that said "unchanged",
// and not by one that gave nothing away.
func TestAuditCounts(t *testing.T) {
	t.Parallel()
	line := func(second, method, status, more string) string {
		return `{"time":"2026-11-20T10:00:` + second + `Z","msg":"request","method":"` + method + `","kind":"zip","module":"example.com/m","version":"v1.0.0","status":` + status + more + "}\n"
	}
	small := func(second, kind, status, more string) string {
		return strings.Replace(line(second, "GET", status, more), `"kind":"zip"`, `"kind":"`+kind+`"`, 1)
	}
	const seven, eight, denied = `,"client":"10.0.0.7:1"`, `,"client":"10.0.0.8:2"`, `,"decision":"abc","rule":"r"`
	for want, log := range map[string]string{
		"fetched 1 time by 1 client, not given 0 times":   line("01", "GET", "304", seven),
		"fetched 2 times by 2 clients, not given 0 times": line("01", "GET", "302", seven) + line("01", "GET", "302", eight), // to the bucket
		"fetched 0 times by 0 clients, not given 0 times": line("01", "HEAD", "200", seven) + line("02", "HEAD", "403", seven+denied),
		"fetched 0 times by 0 clients, not given 1 time":  line("01", "GET", "403", seven+denied) + line("02", "GET", "403", seven+denied),
		"fetched 0 times by 0 clients, not given 2 times": line("01", "GET", "403", seven+denied) + line("01", "GET", "403", eight+denied) + line("02", "GET", "403", seven+denied),
		"fetched 0 times by 0 clients, not given 3 times": line("01", "GET", "403", seven+denied) + line("04", "GET", "403", seven+denied) + line("08", "GET", "403", seven+denied),
		// The go command asks for the .info first, and no further if that is refused.
		"fetched 1 time by 1 client, not given 2 times": small("01", "info", "403", seven+denied) + small("01", "info", "403", seven+denied) + small("09", "mod", "403", seven+denied) +
			small("20", "info", "200", seven) + small("20", "mod", "404", seven) + line("21", "GET", "200", seven),
	} {
		file := filepath.Join(t.TempDir(), "access.log")
		if err := os.WriteFile(file, []byte(log), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd := auditCommand(&process{stdout: &out})
		cmd.SetArgs([]string{"who", "example.com/m@v1.0.0", file})
		if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), ": "+want+"\n") {
			t.Errorf("%v\n%swant %s", err, out.String(), want)
		}
	}
}

// Rules that are in force refuse again, in a replay, what they have refused.
func TestReplayOfRefusals(t *testing.T) {
	t.Parallel()
	line := func(kind, version, status, more string) string {
		return `{"time":"2026-11-20T10:00:00Z","msg":"request","method":"GET","kind":"` + kind + `","module":"example.com/m","version":"` + version + `","status":` + status + `,"client":"10.0.0.7:1"` + more + "}\n"
	}
	const denied = `,"decision":"abc","rule":"r"`
	dir := t.TempDir()
	rules, log := filepath.Join(dir, "rules.yaml"), filepath.Join(dir, "access.log")
	err := errors.Join(os.WriteFile(rules, []byte("rules: [{name: r, modules: example.com/m, versions: v1.0.0, action: deny, reason: b}]\n"), 0o600),
		os.WriteFile(log, []byte(line("info", "v1.0.0", "403", denied)+line("info", "v1.0.0", "403", denied)+line("info", "main", "403", denied)+line("info", "v1.1.0", "200", "")+line("zip", "v1.1.0", "200", "")), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	out, err := modgate(t, "policy", "test", "--policy-file", rules, "--replay", log, "--upstream=off", "--sumdb=off", "--cache-dir", filepath.Join(dir, "cache"))
	if !errors.Is(err, errReported) || !strings.Contains(out, "deny      example.com/m@v1.0.0: rule r") || !strings.Contains(out, "1 request by 1 client\n2 versions: 1 refused") {
		t.Errorf("%v\n%s", err, out)
	}
}
