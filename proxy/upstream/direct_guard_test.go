package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

func TestAddressRules(t *testing.T) {
	r, err := Rules{
		Repositories: []Repository{{Match: "mono.corp.example/*", URL: "https://rule.example/{1}.git"}},
		Credentials:  []Credential{{Match: "cred.example:8443/x", Password: "p"}},
		Networks:     []string{"10.99.0.0/16", "169.254.1.1", "fd00:1::/32"},
	}.check("git.corp.example/*,*.intra.example,*/secret")
	if err != nil {
		t.Fatal(err)
	}
	const named, foreign = "git.corp.example", "evil.example"
	for _, tt := range []struct {
		host, address string
		ok            bool
	}{
		{foreign, "140.82.121.4", true}, {foreign, "2606:50c0::1", true},
		{foreign, "10.0.0.5", false}, {named, "10.0.0.5", true}, {"GIT.corp.example", "10.0.0.5", true},
		{"a.intra.example", "10.0.0.5", true}, {"rule.example", "10.0.0.5", true}, {"cred.example", "10.0.0.5", true},
		{"x", "10.0.0.5", false}, {"sub.git.corp.example", "10.0.0.5", false},
		{foreign, "10.99.1.2", true}, {foreign, "fd00:1::7", true}, {foreign, "fd00:2::7", false}, {named, "fd00:2::7", true},
		{foreign, "172.16.0.1", false}, {foreign, "192.168.1.1", false}, {foreign, "100.64.0.1", false}, {named, "100.64.0.1", true},
		{named, "127.0.0.1", false}, {named, "::1", false}, {named, "169.254.169.254", false}, {foreign, "169.254.1.1", true}, {named, "fe80::1", false}, {named, "fe80::1%eth0", false},
		{named, "0.0.0.0", false}, {named, "::", false}, {named, "0.1.2.3", false}, {named, "224.0.0.1", false}, {named, "ff02::1", false}, {named, "255.255.255.255", false}, {named, "240.0.0.1", false},
		{named, "::ffff:127.0.0.1", false}, {foreign, "::ffff:10.0.0.5", false}, {foreign, "::ffff:8.8.8.8", true},
		{named, "64:ff9b::7f00:1", false}, {foreign, "64:ff9b::a00:5", false}, {foreign, "64:ff9b::808:808", true}, {named, "64:ff9b:1::a9fe:a9fe", false},
		{named, "2002:7f00:1::", false}, {foreign, "2002:a00:5::", false}, {named, "::127.0.0.1", false}, {foreign, "::10.0.0.5", false},
		{foreign, "198.18.0.1", false}, {foreign, "fec0::1", false},
	} {
		if err := r.addresses.allow(tt.host, netip.MustParseAddr(tt.address)); (err == nil) != tt.ok {
			t.Errorf("%s at %s: %v, want allowed %v", tt.host, tt.address, err, tt.ok)
		}
	}
}

// A host that answers go-import lookups as it likes reaches nothing inside:
// no connection is made, and no process is started for it.
func TestDirectHostileGoImport(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Private = "go.corp.example"
		w.cfg.Rules.Networks = []string{"127.0.0.1"}
		w.hosts["inside.example"] = netip.MustParseAddr("10.0.0.5")
		w.hosts["meta.example"] = netip.MustParseAddr("169.254.169.254")
		w.hosts["mapped.example"] = netip.MustParseAddr("::ffff:10.0.0.5")
		w.hosts["2130706434"] = netip.MustParseAddr("127.0.0.2") // as getaddrinfo(3) has it
		w.hosts["me.example"] = netip.MustParseAddr("127.0.0.2")
	})
	const path = "go.corp.example/x/lib"
	for _, tt := range []struct {
		vcs, url string
		want     reason
	}{
		{"git", "https://inside.example/x.git", forbidden}, {"git", "https://meta.example/latest", forbidden}, {"git", "https://mapped.example/x", forbidden},
		{"git", "https://me.example/x", forbidden}, {"git", "https://10.0.0.5/x", forbidden}, {"git", "https://[::1]/x", forbidden}, {"git", "https://[64:ff9b::a00:5]/x", forbidden},
		{"git", "https://2130706434/x", forbidden}, {"git", "https://127.0.0.1:80@me.example/x", forbidden},
		{"git", "ssh://git@inside.example/x.git", unauthorized}, {"git", "ssh://git@127.0.0.2:22/x", unauthorized}, {"git", "ssh://-oProxyCommand=touch%20/tmp/x/y", forbidden},
		{"git", "http://git.corp.example/x", forbidden}, {"git", "git://git.corp.example/x", forbidden}, {"git", "file:///etc", forbidden}, {"git", "ext::sh", forbidden}, {"git", "--upload-pack=touch", forbidden}, {"git", "/etc", forbidden},
		{"git", "https://git.corp.example/a?b", forbidden}, {"git", "https://git.corp.example", forbidden},
		{"mod", "https://inside.example/", notModule}, {"hg", "https://inside.example/", notModule}, {"svn", "https://inside.example/", notModule}, {"bzr", "x", notModule}, {"fossil", "x", notModule},
	} {
		t.Run(tt.vcs+" "+tt.url, func(t *testing.T) {
			w.server.SetImport(path, tt.vcs, tt.url)
			if err := w.direct.SetRules(w.cfg.Rules); err != nil { // forgets what was found
				t.Fatal(err)
			}
			for _, err := range []error{
				second(w.direct.Info(t.Context(), path, "v1.0.0")),
				second(w.direct.List(t.Context(), path)),
				second(w.read(path, "v1.0.0", "zip")),
			} {
				wantReason(t, tt.url, err, tt.want, "")
			}
		})
	}
	for _, address := range w.dialed {
		if address != "127.0.0.1:443" {
			t.Errorf("dialed %s", address)
		}
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(w.cfg.Dir, "vcs"))); len(entries) > 0 {
		t.Errorf("git was started: %v", entries)
	}
}

// The first answer of a resolver is judged and used: a second one, with an
// inner address, is never asked for.
func TestDirectRebinding(t *testing.T) {
	asked := 0
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Rules.Networks = []string{"127.0.0.1"}
		w.cfg.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if asked++; asked > 1 {
				return []netip.Addr{netip.MustParseAddr("169.254.169.254")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("127.0.0.1")}, nil
		}
	})
	w.repo(lib, tagged("v1.0.0"))
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
	for _, address := range w.dialed {
		if address != "127.0.0.1:443" {
			t.Errorf("dialed %s", address)
		}
	}
}

// What is no path, no version, or not private never starts anything.
func TestDirectRefusesNames(t *testing.T) {
	w := newGitWorld(t, nil)
	for _, path := range []string{"", "/", "-x", "../x", "git.corp.example/-o/x y", "git.corp.example/a//b", "git.corp.example/a/../b", "git.corp.example/a\n", "git.corp.example/a@b", "https://git.corp.example/x", "ext::sh", "localhost/x", "git.corp.example\x00/x", "git.corp.example/x/"} {
		_, err := w.direct.Info(t.Context(), path, "v1.0.0")
		wantReason(t, path, err, notModule, "")
	}
	for _, query := range []string{"", "-v", "--upload-pack=touch", "a b", "a\nb", "v1.0.0^{}", "a..b", "@{u}", "<v1", ">=v1.0.0", "a:b", "refs/heads/x^", "refs/heads/main", "refs/tags/v1.0.0", "~1", "*", strings.Repeat("x", 300)} {
		_, err := w.direct.Info(t.Context(), lib, query)
		wantReason(t, query, err, unknownVersion, "")
	}
	for _, m := range []module.Version{{Path: lib, Version: "v2.0.0"}, {Path: lib + "/v3", Version: "v2.0.0"}, {Path: lib + "/v2", Version: "v1.0.0"}, {Path: lib, Version: "main"}, {Path: lib, Version: "v1"}} {
		_, err := w.read(m.Path, m.Version, "zip")
		wantReason(t, m.String(), err, unknownVersion, "")
	}
	_, err := w.direct.List(t.Context(), "example.com/public")
	wantReason(t, "public", err, misconfigured, "no private pattern")
	_, err = w.direct.Info(t.Context(), "127.0.0.1/x/y", "latest")
	wantReason(t, "public", err, misconfigured, "no private pattern")
	if len(w.looked)+len(w.dialed) > 0 {
		t.Errorf("looked up %q, dialed %q", w.looked, w.dialed)
	}
}

// Without the token of a job, and with one for anything but its repository,
// the guard does nothing.
func TestGuardServesOnlyItsJobs(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"))
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
	d := w.direct
	u := must[*url.URL](t)(url.Parse("https://" + lib + ".git"))
	j := &job{place: &place{root: lib, seen: u.String(), url: u}, repo: d.repository(u), ctx: t.Context(), most: 1 << 20, refs: promised(&refs{})}
	defer d.jobs.start(j)()
	ask := func(h http.HandlerFunc, method, target, token string) (int, string) {
		r := httptest.NewRequest(method, target, nil)
		r.Header.Set(tokenHeader, token)
		if token != "" {
			r.Header.Set("Proxy-Authorization", basic("modgate", token))
		}
		rec := httptest.NewRecorder()
		h(rec, r)
		return rec.Code, rec.Body.String()
	}
	for _, tt := range []struct {
		handler               http.HandlerFunc
		method, target, token string
		want                  int
	}{
		{d.guard.passOn, "GET", "/repository/info/refs?service=git-upload-pack", j.token, 200},
		{d.guard.passOn, "GET", "/repository/info/refs?service=git-upload-pack", "", 403},
		{d.guard.passOn, "GET", "/repository/info/refs?service=git-upload-pack", "other", 403},
		{d.guard.passOn, "GET", "/repository/info/refs?service=git-receive-pack", j.token, 403},
		{d.guard.passOn, "GET", "/repository/../other.git/info/refs?service=git-upload-pack", j.token, 403},
		{d.guard.passOn, "GET", "/repository/HEAD", j.token, 403},
		{d.guard.passOn, "POST", "/repository/git-receive-pack", j.token, 403},
		{d.guard.passOn, "GET", "/git.corp.example/x/info/refs?service=git-upload-pack", j.token, 403},
		{d.guard.lookup, "GET", "http://" + lib + "?go-get=1", j.token, 200},
		{d.guard.lookup, "GET", "http://" + lib + "/sub?go-get=1", j.token, 200},
		{d.guard.lookup, "GET", "http://" + lib + "?go-get=1", "", 407},
		{d.guard.lookup, "GET", "http://" + lib + "2?go-get=1", j.token, 403},
		{d.guard.lookup, "GET", "http://evil.example/?go-get=1", j.token, 403},
		{d.guard.lookup, "GET", "http://" + lib, j.token, 403},
		{d.guard.lookup, "CONNECT", gitHost + ":443", j.token, 403},
		{d.guard.lookup, "CONNECT", sshHost, j.token, 403},
	} {
		if got, body := ask(tt.handler, tt.method, tt.target, tt.token); got != tt.want {
			t.Errorf("%s %s with token %q: %d %s, want %d", tt.method, tt.target, tt.token, got, body, tt.want)
		}
	}
}

func basic(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// A password is shown to its own host and path alone, is in no argument, no
// environment, no file and no log, and is read again when its file changes.
func TestDirectKeepsSecrets(t *testing.T) {
	const secret = "s3cr3t-canary"
	var log syncBuffer
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newGitWorld(t, func(w *gitWorld) {
		w.server.SetAccounts(gittest.Account{Prefix: ci.Prefix, User: "ci", Password: secret}, gittest.Account{Prefix: gitHost + "/team/other", User: "o", Password: "other"})
		w.cfg.Rules.Credentials = []Credential{
			{Match: gitHost + "/team/other", Username: "o", Password: "env:OTHER"},
			{Match: gitHost + "/team", Username: "ci", Password: "file:" + file},
			{Match: gitHost, Username: "no", Password: "wrong"},
		}
		w.cfg.LookupEnv = func(name string) (string, bool) { return "other", name == "OTHER" }
		w.cfg.Logger = debugLogger(io.MultiWriter(&log, t.Output()))
	})
	w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
	w.repo(gitHost+"/team/other", tagged("v1.0.0"))
	var seen syncBuffer
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { watchChildren(&seen, w.cfg.Dir, stop) })
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	must[[]byte](t)(w.read(gitHost+"/team/other", "v1.0.0", "zip"))
	close(stop)
	watching.Wait()
	if !strings.Contains(seen.String(), "GIT_ALLOW_PROTOCOL") {
		t.Error("the test did not see a child")
	}
	everything := seen.String() + log.String()
	err := filepath.WalkDir(w.cfg.Dir, func(name string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			data, _ := os.ReadFile(name)
			everything += name + string(data)
		}
		return nil
	})
	if err != nil || strings.Contains(everything, secret) || strings.Contains(everything, basic("ci", secret)) {
		t.Errorf("the secret was found (%v)", err)
	}
	w.server.SetAccounts(gittest.Account{Prefix: ci.Prefix, User: "ci", Password: "changed"})
	_, err = w.direct.Info(t.Context(), lib, "v1.1.0")
	wantReason(t, "old password", err, unauthorized, "")
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the error has the secret: %v", err)
	}
	if err := os.WriteFile(file, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.1.0"))
}

// syncBuffer is a bytes.Buffer for several writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A host that redirects a lookup does not see the password for another.
func TestDirectCredentialsDoNotFollowRedirects(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Rules.Credentials = []Credential{{Match: "go.corp.example", Password: "vanity"}}
	})
	account := gittest.Account{Prefix: "go.corp.example", User: "git", Password: "vanity"}
	other := account
	other.Prefix = "evil.example"
	w.server.SetAccounts(account, other)
	w.server.SetFault("go.corp.example/x", gittest.Meta, func(x proxytest.Exchange) {
		if _, password, _ := x.R.BasicAuth(); password != "vanity" {
			t.Error("the vanity host did not get its password")
		}
		proxytest.Redirect(http.StatusFound, "https://evil.example/x?go-get=1")(x)
	})
	_, err := w.direct.Info(t.Context(), "go.corp.example/x", "latest")
	wantReason(t, "no repository there", err, notModule, "")
	for _, r := range w.server.Requests() {
		if r.Host == "evil.example" && r.User != "" {
			t.Errorf("evil.example got the password: %+v", r)
		}
	}
	if w.server.Requests()[len(w.server.Requests())-1].Host != "evil.example" {
		t.Error("evil.example was not asked")
	}
}

// A host that redirects a lookup cannot have one asked for it with the
// password of a third, nor with its own under another path.
func TestDirectRedirectsSpendNoCredentials(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Rules.Credentials = []Credential{{Match: gitHost, Username: "ci", Password: "secret"}, {Match: "go.corp.example", Password: "vanity"}}
	})
	for _, tt := range []struct {
		to   string
		want reason
	}{
		{"https://" + gitHost + "/team/lib?go-get=1", notModule},
		{"/y/%2e%2e/z?go-get=1", forbidden}, {"/y%2f..%2fz?go-get=1", forbidden}, {"https://evil.example/back", notModule},
	} {
		w.server.Forget()
		w.server.SetFault("go.corp.example/x", gittest.Meta, proxytest.Redirect(http.StatusFound, tt.to))
		w.server.SetFault("*", gittest.Other, proxytest.Redirect(http.StatusFound, "https://"+gitHost+"/team/lib?go-get=1")) // evil.example
		_, err := w.direct.Info(t.Context(), "go.corp.example/x", "latest")
		wantReason(t, tt.to, err, tt.want, "")
		for _, r := range w.server.Requests()[1:] {
			if r.User != "" {
				t.Errorf("redirected to %s, asked with a password: %+v", tt.to, r)
			}
		}
	}
}

// The outgoing proxy carries everything; addresses are then its matter, but
// not those that are written as numbers.
func TestDirectThroughAnHTTPProxy(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Rules.Networks = nil
		proxy, _ := url.Parse(w.forward())
		w.cfg.Proxy = func(*http.Request) (*url.URL, error) { return proxy, nil }
		w.cfg.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			return nil, fmt.Errorf("resolved %s", host)
		}
		w.cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != proxy.Host {
				return nil, fmt.Errorf("dialed %s", address)
			}
			return loopbackOnly(ctx, network, address)
		}
	})
	w.repo(lib, tagged("v1.0.0"))
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	rules := w.cfg.Rules
	rules.Repositories = []Repository{{Match: gitHost + "/*/*", URL: "https://169.254.169.254/{1}/{2}"}}
	if err := w.direct.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := w.direct.Info(ctx, lib, "latest")
	wantReason(t, "address", err, forbidden, "169.254.169.254")
	// Nor does a go-import tag reach what only the proxy would resolve.
	rules.Repositories, rules.Credentials = nil, nil
	for _, host := range []string{"localhost", "127.1", "intranet", "meta.internal"} {
		w.server.SetImport("go.corp.example/"+host, "git", "https://"+host+"/x.git")
		if err := w.direct.SetRules(rules); err != nil {
			t.Fatal(err)
		}
		_, err := w.direct.Info(ctx, "go.corp.example/"+host, "latest")
		wantReason(t, host, err, forbidden, host+" is refused: ")
	}
}

func TestUnresolvedHosts(t *testing.T) {
	r := must[*rules](t)(Rules{
		Repositories: []Repository{{Match: "mono.corp.example/*", URL: "https://code-server/{1}.git"}},
		Credentials:  []Credential{{Match: "10.0.0.5:8443/x", Password: "p"}, {Match: "localhost", Password: "p"}, {Match: "127.1", Password: "p"}},
		Networks:     []string{"10.99.0.0/16", "127.0.0.2"},
	}.check("git.corp.example,*.intra.example,*/x"))
	for host, ok := range map[string]bool{
		"git.corp.example": true, "GIT.corp.example": true, "a.intra.example": true, "code-server": true, "github.com": true, "10.0.0.5": true, "10.99.1.1": true, "127.0.0.2": true,
		"evil.example": false, "corp.example": false, "github.com.evil.example": false, "evil-github.com": false,
		"127.1": false, "2130706433": false, "0x7f.1": false, "0x7f000001": false, "0177.0.0.1": false, "127.0.0.1.": false, "010.99.1.1": false, "8.8.8.8": false, "::1": false, "10.0.0.6": false,
		"localhost": false, "LocalHost.": false, "a.localhost": false, "ip6-localhost": false, "intranet": false, "metadata.google.internal": false, "": false, ".": false,
	} {
		if err := r.addresses.allowUnresolved(host); (err == nil) != ok {
			t.Errorf("%q: %v, want allowed %v", host, err, ok)
		}
	}
}
