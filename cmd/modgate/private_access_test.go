package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const teamRules = `
owner: team@corp.example
rules:
  - {name: team, modules: git.corp.example/team, groups: dev, action: allow}
  - {name: not-yours, modules: git.corp.example/team, action: deny, reason: only its team reads it}
`

// tokenOf returns the environment of a go command that shows this token, "" for none.
func (g *guarded) tokenOf(t *testing.T, token string) []string {
	t.Helper()
	netrc, line := filepath.Join(t.TempDir(), "netrc"), ""
	if token != "" {
		line = "machine " + strings.TrimPrefix(g.url, "https://") + " login me password " + token + "\n"
	}
	if err := os.WriteFile(netrc, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"SSL_CERT_FILE=" + g.root, "NETRC=" + netrc, "GOPROXY=" + g.url + ",direct"}
}

// TestPrivateModuleOfOthers: the team works with its private module; a go command of
// another group, or without a token, is refused it with a text, does not go around
// the server, and reads the same of what does not exist.
func TestPrivateModuleOfOthers(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	g := guard(t, c.world, c.start, teamRules, "--auth-required=false")
	team := c.developer(t, g.url, g.tokenOf(t, g.tokens["dev"])...)
	for _, args := range [][]string{{"get", libPath + "/sub@v1.0.0"}, {"mod", "tidy"}, {"get", libPath + "@latest"}, {"list", "-m", "-u", "all"}, {"build", "-buildvcs=false", "."}} {
		if out, err := team(args...); err != nil {
			t.Fatalf("the team: go %v: %v\n%s\n%s", args, err, out, lastLines(g.log(), 20))
		}
	}
	looked := len(c.git.Requests())
	var all strings.Builder
	for _, who := range []struct{ name, token string }{{"another group", g.tokens["ci"]}, {"no token", ""}} {
		for _, args := range [][]string{
			{"get", libPath + "@latest"}, {"get", libPath + "@v1.0.0"}, {"get", libPath + "/sub@latest"}, {"get", libPath + "@main"}, {"mod", "download", libPath + "@v1.0.0"},
			{"list", "-m", "-versions", libPath}, {"get", "git.corp.example/team/none@latest"}, {"get", "git.corp.example/team/none@v1.0.0"},
		} {
			out, err := c.developer(t, g.url, g.tokenOf(t, who.token)...)(args...)
			if err == nil || regexp.MustCompile(`dial|lookup|git ls-remote|exec:`).MatchString(out) {
				t.Errorf("%s: go %v: %v\n%s", who.name, args, err, out)
			}
			fmt.Fprintf(&all, "-- %s: go %s --\n%s", who.name, strings.Join(args, " "), strings.ReplaceAll(out, g.url, "https://modgate.corp.example"))
		}
	}
	golden(t, filepath.Join("testdata", "private_access.golden"), all.String())
	if now := len(c.git.Requests()); now != looked {
		t.Errorf("%d more requests for who may not read", now-looked)
	}
	// A pinned build asks for the go.mod and the zip alone.
	for _, file := range []string{".mod", ".zip"} {
		if status, body, _ := g.ask(t, "GET", "/"+libPath+"/@v/v1.0.0"+file, g.tokens["ci"]); status != 403 || !strings.Contains(body, "by rule not-yours") {
			t.Errorf("%s: %d %s", file, status, body)
		}
	}
	g.await(t, `action=deny rule=not-yours .*caller=ci`)
	c.wantNoLeak(t)
}
