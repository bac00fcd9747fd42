package upstream

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

func parseURL(t testing.TB, s string) *url.URL {
	t.Helper()
	return must[*url.URL](t)(url.Parse(s))
}

func TestRulesReportAllMistakes(t *testing.T) {
	err := second(Rules{
		Repositories: []Repository{
			{Match: "", URL: "https://x.example/y"},
			{Match: "*/x", URL: "https://x.example/y"},
			{Match: "git.corp.example/*", URL: "https://x.example/{2}"},
			{Match: "git.corp.example/a", URL: "http://x.example/y"},
			{Match: "git.corp.example/b", URL: "https://user:pw-canary@x.example/y"},
			{Match: "git.corp.example/c", URL: "ssh://-oProxyCommand=x/y"},
			{Match: "git.corp.example/d", URL: "file:///etc"},
			{Match: "git.corp.example/[", URL: "https://x.example/y"},
		},
		Credentials: []Credential{
			{Match: "", Password: "pw-canary"}, {Match: "a.example"}, {Match: "b.example", Password: "pw-canary", Netrc: "/x"},
			{Match: "c.example", SSHKey: "/k"}, {Match: "d.example", KnownHosts: "/k", Password: "p"}, {Match: "e.example", Username: "u", Netrc: "/x"}, {Match: "*.example", Password: "p"},
			{Match: "f.example", Helper: "!echo password=x"}, {Match: "g.example", Helper: " "},
		},
		Networks: []string{"10.0.0.0/33", "host", "127.0.0.0"},
	}.check("git.corp.example"))
	if err == nil {
		t.Fatal("no mistakes found")
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 20 {
		t.Errorf("%d mistakes, want 20:\n%v", n, err)
	}
	if strings.Contains(err.Error(), "pw-canary") {
		t.Errorf("a secret is shown: %v", err)
	}
}

func TestRepositoryRules(t *testing.T) {
	r := must[*rules](t)(Rules{Repositories: []Repository{
		{Match: "git.corp.example/mono", URL: "https://code.example/one/mono.git"},
		{Match: "git.corp.example/*/*", URL: "ssh://git@10.0.0.5:7999/{1}/{2}.git"},
		{Match: "*.lab.example/x-*", URL: "https://code.example/{1}/{2}/{root}"},
	}}.check("git.corp.example"))
	for path, want := range map[string]string{
		"git.corp.example/mono":          "git.corp.example/mono https://code.example/one/mono.git",
		"git.corp.example/mono/sub/v2":   "git.corp.example/mono https://code.example/one/mono.git",
		"git.corp.example/team/lib":      "git.corp.example/team/lib ssh://git@10.0.0.5:7999/team/lib.git",
		"git.corp.example/team/lib/v2/x": "git.corp.example/team/lib ssh://git@10.0.0.5:7999/team/lib.git",
		"git.corp.example/team":          "",
		"git.corp.example.evil/team/lib": "",
		"a.lab.example/x-1/y":            "a.lab.example/x-1 https://code.example/a.lab.example/x-1/a.lab.example/x-1",
		"lab.example/x-1":                "",
	} {
		root, u, err := r.repository(path)
		got := ""
		if u != nil {
			got = root + " " + u.String()
		}
		if err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", path, got, err, want)
		}
	}
}

func TestCredentialForTheLongestPrefix(t *testing.T) {
	r := must[*rules](t)(Rules{Credentials: []Credential{
		{Match: "git.corp.example", Password: "host"},
		{Match: "git.corp.example/team", Password: "team"},
		{Match: "git.corp.example/team/lib", Password: "lib"},
		{Match: "git.corp.example:8443/team", Password: "port"},
		{Match: "git.corp.example", SSHKey: "key", KnownHosts: "known"},
	}}.check("git.corp.example"))
	for u, want := range map[string]string{
		"https://git.corp.example/other/x.git/info/refs":     "host",
		"https://git.corp.example/team/x.git":                "team",
		"https://git.corp.example/teamster/x.git":            "host",
		"https://git.corp.example/team/lib.git/info/refs":    "lib",
		"https://git.corp.example/team/lib/sub?go-get=1":     "lib",
		"https://git.corp.example/team/library.git":          "team",
		"https://GIT.corp.example:443/team":                  "team",
		"https://git.corp.example:8443/team/lib.git":         "port",
		"https://git.corp.example:9443/team/lib.git":         "",
		"https://git.corp.example.evil.example/team/lib.git": "",
		"https://evil.example/git.corp.example/team":         "",
		"ssh://git@git.corp.example/team/lib.git":            "key",
		"ssh://git@git.corp.example:22/team/lib.git":         "key",
		"ssh://git@git.corp.example:2222/team/lib.git":       "",
	} {
		got := ""
		if c := r.credentialFor(parseURL(t, u)); c != nil {
			got = c.Password
			if c.SSHKey != "" {
				got = c.SSHKey
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", u, got, want)
		}
	}
}

// What a server might take for another path would get the credentials of the
// wrong one.
func TestRepoURLsMeanOnePath(t *testing.T) {
	for _, path := range []string{
		"/team/../other/x.git", "/team/%2e%2e/other/x.git", "/team/.%2E/other/x.git", "/team%2f..%2fother/x.git", "/team%2Fx.git",
		"/team/./x.git", "/team/..", "/team/..;/other/x.git", "/team/..;a=b/other", "/team/%5c../other", `/team\..\other`, "/team/%252e%252e/other", "/team/x%",
	} {
		u, err := url.Parse("https://git.corp.example" + path)
		if err == nil {
			err = checkRepoURL(u)
		}
		if err == nil {
			t.Errorf("%s is taken", path)
		}
	}
	for _, path := range []string{"/team/x.git", "/team/..x/y..git", "/~me/x", "/team/a%20b.git", "/t%C3%A9am/x", "/team/.github"} {
		if err := checkRepoURL(parseURL(t, "https://git.corp.example"+path)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestCredentialsNameFilesThatExist(t *testing.T) {
	file := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	absent := file + "-not"
	for _, c := range []Credential{{Password: "file:" + absent}, {Username: "file:" + absent, Password: "p"}, {SSHKey: absent, KnownHosts: file}, {SSHKey: "file:" + absent, KnownHosts: file}, {SSHKey: file, KnownHosts: absent}, {Netrc: absent}} {
		c.Match = gitHost
		if err := (Rules{Credentials: []Credential{c}}).Check(gitHost); err == nil || !strings.Contains(err.Error(), absent) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Credential{{Password: "file:" + file}, {Password: "env:X"}, {Password: "/x"}, {SSHKey: "env:X", KnownHosts: file}, {SSHKey: file, KnownHosts: "file:" + file}, {Netrc: file}, {Helper: "absent"}} {
		c.Match = gitHost
		if err := (Rules{Credentials: []Credential{c}}).Check(gitHost); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A path above repositories is absent, and nobody is asked for it.
func TestDirectAboveRepositories(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Rules.Repositories = []Repository{{Match: gitHost + "/team/*/*", URL: "https://" + gitHost + "/{1}/{2}.git"}}
	})
	for _, path := range []string{gitHost, gitHost + "/team", gitHost + "/team/sub"} {
		_, err := w.direct.Info(t.Context(), path, "latest")
		wantReason(t, path, err, notModule, "repositories below it")
	}
	if len(w.looked) > 0 {
		t.Errorf("looked up %q", w.looked)
	}
	_, _ = w.direct.Info(t.Context(), gitHost+"/other", "latest")
	if len(w.looked) == 0 {
		t.Error("a path that no rule is below was not asked for")
	}
}

// A refusal says once what to do.
func TestDirectRefusalsSayWhatToDo(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) { w.cfg.Rules.Networks = nil })
	_, err := w.direct.Info(t.Context(), lib, "v1.0.0")
	wantReason(t, "loopback", err, forbidden, "add it under networks in the file of direct.file (docs/private.md)")
	if n := strings.Count(err.Error(), "of this machine"); n != 1 {
		t.Errorf("the log says it %d times: %v", n, err)
	}
}

func TestNetrc(t *testing.T) {
	n := parseNetrc([]byte(`# comment
machine a.example login me password p1
machine b.example
	login you
	password p2 # and more
macdef init
machine evil.example login x password y

machine c.example:8443 account acc login c password p3
default login d password p4
machine e.example password p5
`))
	for u, want := range map[string]login{
		"https://a.example/x":      {"me", "p1"},
		"https://A.example/x":      {"me", "p1"},
		"https://b.example/x":      {"you", "p2"},
		"https://c.example/x":      {},
		"https://c.example:8443/x": {"c", "p3"},
		"https://e.example/x":      {"", "p5"},
		"https://evil.example/x":   {},
		"https://other.example/x":  {},
	} {
		if got := n.login(parseURL(t, u)); got != want {
			t.Errorf("%s: %v, want %v", u, got, want)
		}
	}
}

func FuzzNetrc(f *testing.F) {
	f.Add([]byte("machine a login b password c\nmacdef x\n\ndefault login d"))
	f.Add([]byte("machine\nlogin"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, e := range parseNetrc(data) {
			if e.machine == "" {
				t.Errorf("no machine: %+v", e)
			}
		}
	})
}

func TestDirectReadsNetrc(t *testing.T) {
	var file string
	w := newGitWorld(t, func(w *gitWorld) {
		file = w.file("netrc", "machine git.corp.example login ci password old\n")
		w.cfg.Rules.Credentials = []Credential{{Match: gitHost, Netrc: file}}
	})
	w.repo(lib, tagged("v1.0.0"))
	_, err := w.direct.Info(t.Context(), lib, "v1.0.0")
	wantReason(t, "old password", err, unauthorized, "")
	if err := os.WriteFile(file, []byte("machine git.corp.example login ci password secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, err = w.direct.Info(t.Context(), lib, "latest")
	wantReason(t, "no file", err, misconfigured, "cannot be read")
}

// A git credential helper is asked once, told when its answer was refused, and
// asked again.
func TestDirectAsksACredentialHelper(t *testing.T) {
	var dir string
	w := newGitWorld(t, func(w *gitWorld) {
		dir = w.TempDir()
		helper := filepath.Join(dir, "helper")
		script := fmt.Sprintf("#!/bin/sh\nin=$(cat)\necho \"$1 $in\" | tr '\\n' ' ' >>%[1]s/calls\necho >>%[1]s/calls\n[ \"$1\" = get ] && cat %[1]s/answer\n", dir)
		if err := os.WriteFile(helper, []byte(script), 0o700); err != nil {
			w.Fatal(err)
		}
		w.cfg.Rules.Credentials = []Credential{{Match: gitHost + "/team", Helper: helper}}
	})
	answer := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "answer"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	calls := func() []string {
		data, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return strings.Split(strings.TrimSpace(string(data)), "\n")
	}
	w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
	answer("username=ci\npassword=secret\n")
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	if c := calls(); len(c) > 2 || !strings.HasPrefix(c[0], "get protocol=https host=git.corp.example path=team/lib") {
		t.Errorf("calls: %q", c)
	}
	w.server.SetAccounts(gittest.Account{Prefix: ci.Prefix, User: "ci", Password: "renewed"})
	answer("username=ci\npassword=renewed\n")
	_, err := w.direct.Info(t.Context(), lib, "v1.1.0")
	wantReason(t, "refused", err, unauthorized, "")
	if !strings.Contains(strings.Join(calls(), "\n"), "erase protocol=https host=git.corp.example path=team/lib.git username=ci password=secret") {
		t.Errorf("the helper was not told: %q", calls())
	}
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.1.0"))
	w.forget()
	answer("nothing\n")
	w.server.SetAccounts(gittest.Account{Prefix: ci.Prefix, User: "ci", Password: "third"})
	_, _ = w.direct.Info(t.Context(), lib, "latest")
	_, err = w.direct.Info(t.Context(), lib, "latest")
	wantReason(t, "no answer", err, misconfigured, "cannot be read")
}

// A helper that does not answer is killed with its children when nobody waits
// any more, and holds up nobody else.
func TestDirectKillsACredentialHelper(t *testing.T) {
	needProc(t)
	w := newGitWorld(t, func(w *gitWorld) {
		helper := filepath.Join(w.TempDir(), "helper")
		script := fmt.Sprintf("#!/bin/sh\ncase \"$(cat)\" in *path=team/quick*) printf 'username=ci\\npassword=secret\\n';; *) OF=%s sh -c 'sleep 300 & wait' & wait;; esac\n", w.cfg.Dir)
		if err := os.WriteFile(helper, []byte(script), 0o700); err != nil {
			w.Fatal(err)
		}
		w.cfg.Rules.Credentials = []Credential{{Match: gitHost + "/team", Helper: helper}}
	})
	w.repo(lib, tagged("v1.0.0"))
	w.repo(gitHost+"/team/quick", tagged("v1.0.0"))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 2 { // one asks the helper, one waits for its answer
		all.Go(func() {
			_, err := w.direct.Info(ctx, lib, "v1.0.0")
			wantReason(t, "cancelled", err, stopped, "")
		})
	}
	for begin := time.Now(); len(w.alive()) == 0; runtime.Gosched() {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the helper was not asked")
		}
	}
	must[[]byte](t)(w.direct.Info(t.Context(), gitHost+"/team/quick", "v1.0.0"))
	cancel()
	all.Wait()
	if left := w.alive(); len(left) > 0 {
		t.Errorf("still alive: %q", left)
	}
}

func TestParseHelper(t *testing.T) {
	l := parseHelper([]byte("protocol=https\nusername=u\r\npassword=p=w\npassword_expiry_utc=1700000000\nquit=0\n"))
	if l.login != (login{"u", "p=w"}) || !l.expiry.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("got %+v", l)
	}
}

// Rules change without a restart; those with a mistake change nothing.
func TestDirectSetRules(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(gitHost+"/team/moved", tagged("v1.0.0"))
	rules := w.cfg.Rules
	rules.Repositories = []Repository{{Match: "old.corp.example/*", URL: "https://" + gitHost + "/team/{1}.git"}}
	if err := w.direct.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	// That the go.mod names another path is for the client to say.
	must[[]byte](t)(w.direct.Info(t.Context(), "old.corp.example/moved", "v1.0.0"))
	rules.Networks = []string{"nonsense"}
	if err := w.direct.SetRules(rules); err == nil {
		t.Error("a mistake was taken")
	}
	must[[]byte](t)(w.direct.Info(t.Context(), gitHost+"/team/moved", "v1.0.0"))
}
