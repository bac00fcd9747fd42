package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// TestPrivateWhileGitIsDown: what somebody has had before, everybody gets while
// the repositories cannot be reached, lists and newest versions too. What nobody
// has had is trouble, not absent.
func TestPrivateWhileGitIsDown(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	i := c.start(t, "--ttl-private=0s")
	work := func(who string) {
		t.Helper()
		run := c.developer(t, i.url)
		for _, args := range [][]string{{"get", libPath + "/sub@v1.0.0"}, {"mod", "tidy"}, {"list", "-m", "-u", "all"}, {"get", libPath + "@latest"}, {"mod", "download"}} {
			out, err := run(args...)
			if err != nil {
				t.Fatalf("%s: go %v: %v\n%s\n%s", who, args, err, out, lastLines(i.log(), 20))
			}
			if args[0] == "list" && !strings.Contains(out, libPath+" v1.0.0 [v1.1.0]") {
				t.Errorf("%s: go list -m -u all shows no update of the private module:\n%s", who, out)
			}
		}
	}
	work("first developer")
	kinds := []string{gittest.Meta, gittest.Refs, gittest.ListRef, gittest.Fetch}
	for _, kind := range kinds {
		c.git.SetFault("*", kind, proxytest.Status(http.StatusServiceUnavailable, "down"))
	}
	work("another developer, while git is down")
	resp, err := http.Get(i.url + "/" + libPath + "/@v/list")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Age") == "" {
		t.Errorf("list while git is down: %d, Age %q", resp.StatusCode, resp.Header.Get("Age"))
	}
	run := c.developer(t, i.url)
	if out, err := run("get", libPath+"@v1.9.9"); err == nil || !strings.Contains(out, "git.corp.example is in trouble (HTTP status 503)") {
		t.Errorf("a version that nobody has had: %v\n%s", err, out)
	}
	for _, kind := range kinds {
		c.git.SetFault("*", kind, nil)
	}
	c.lib.Tag(t, "v1.9.9", "main")
	if out, err := run("get", libPath+"@v1.9.9"); err != nil {
		t.Errorf("after git has come back: %v\n%s", err, out)
	}
}

// TestPrivateSecretChanges: a password in a file of its own may change while
// nothing else does, and no signal is sent.
func TestPrivateSecretChanges(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	secret := filepath.Join(t.TempDir(), "token")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("s3cret")
	c.allow(t, "file:"+secret)
	i := c.start(t, "--ttl-private=0s")
	version := i.url + "/" + libPath + "/@v/"
	if code, body := get(t, version+"v1.0.0.info"); code != http.StatusOK {
		t.Fatalf("%d %s\n%s", code, body, lastLines(i.log(), 20))
	}
	c.git.SetAccounts(gittest.Account{Prefix: "git.corp.example", User: "ci", Password: "renewed"})
	if code, body := get(t, version+"v1.1.0.info"); code != http.StatusBadGateway || !strings.Contains(body, "refuses the credentials") {
		t.Errorf("with the old password: %d %s", code, body)
	}
	write("renewed")
	if code, body := get(t, version+"v1.1.0.info"); code != http.StatusOK {
		t.Errorf("with the new password: %d %s", code, body)
	}
	if strings.Contains(i.log(), "renewed") || strings.Contains(i.log(), "s3cret") {
		t.Error("a password is in the log")
	}
}
