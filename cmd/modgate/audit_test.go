package main

import (
	"bytes"
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
	const seven, eight, denied = `,"client":"10.0.0.7:1"`, `,"client":"10.0.0.8:2"`, `,"decision":"abc","rule":"r"`
	for want, log := range map[string]string{
		"fetched 1 time by 1 client, not given 0 times":   line("01", "GET", "304", seven),
		"fetched 0 times by 0 clients, not given 0 times": line("01", "HEAD", "200", seven) + line("02", "HEAD", "403", seven+denied),
		"fetched 0 times by 0 clients, not given 1 time":  line("01", "GET", "403", seven+denied) + line("02", "GET", "403", seven+denied),
		"fetched 0 times by 0 clients, not given 2 times": line("01", "GET", "403", seven+denied) + line("01", "GET", "403", eight+denied) + line("02", "GET", "403", seven+denied),
		"fetched 0 times by 0 clients, not given 3 times": line("01", "GET", "403", seven+denied) + line("04", "GET", "403", seven+denied) + line("08", "GET", "403", seven+denied),
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
