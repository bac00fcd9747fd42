package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
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

// A replay asks for each caller of the log by its own groups: what a team may have is
// not refused to it.
func TestReplayByGroups(t *testing.T) {
	t.Parallel()
	line := func(host, status, more string) string {
		return `{"time":"2026-11-20T10:00:00Z","msg":"request","method":"GET","kind":"zip","module":"example.com/team","version":"v1.0.0","status":` + status + `,"client":"` + host + `:1"` + more + "}\n"
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	rules := file("rules.yaml", "rules:\n  - {name: team, modules: example.com/team, groups: team, action: allow}\n  - {name: not-yours, modules: example.com/team, action: deny, reason: r}\n")
	sum := func(digit string) string { return strings.Repeat(digit, 64) }
	// alice has two tokens, of which one takes the place of the other.
	tokens := file("tokens.yaml", "tokens:\n  - {name: alice, sha256: "+sum("a")+"}\n  - {name: alice, sha256: "+sum("b")+", groups: [team]}\n  - {name: bob, sha256: "+sum("c")+", groups: [other]}\n")
	log := file("access.log", line("10.0.0.1", "200", `,"caller":"alice"`)+line("10.0.0.1", "200", `,"caller":"bob"`)+
		line("10.0.0.1", "403", `,"decision":"x","rule":"not-yours"`)+line("10.0.0.1", "200", `,"caller":"gone"`))
	for _, test := range []struct {
		more         []string
		want, warned string
	}{
		{[]string{"--auth-file", tokens}, "deny      example.com/team@v1.0.0: rule not-yours, id ID, 2 requests by 2 clients\n" +
			"deny      example.com/team@v1.0.0 for the groups other: rule not-yours, id ID, 1 request by 1 client\n" +
			"1 version: 1 refused, 0 noted, 0 undecided\n", "in no group: gone: auth.file has no token of that name now"},
		{nil, "deny      example.com/team@v1.0.0: rule not-yours, id ID, 4 requests by 4 clients\n" +
			"1 version: 1 refused, 0 noted, 0 undecided\n", "in no group: alice, bob, gone: no auth.file says"},
		{[]string{"--auth-file", tokens, "--as", "team"}, "1 version: 0 refused, 0 noted, 0 undecided\n", ""},
	} {
		var out, errs bytes.Buffer
		args := append([]string{"policy", "test", "--policy-file", rules, "--replay", log, "--upstream=off", "--sumdb=off", "--cache-dir", filepath.Join(dir, "cache")}, test.more...)
		run(t.Context(), args, []string{"HOME=" + dir, "MODGATE_CONFIG=off"}, &out, &errs)
		got := regexp.MustCompile(`id \w+`).ReplaceAllString(out.String(), "id ID")
		if got != test.want || !strings.Contains(errs.String(), test.warned) || test.warned == "" && errs.Len() > 0 {
			t.Errorf("%v:\n%s%s", test.more, got, &errs)
		}
	}
}
