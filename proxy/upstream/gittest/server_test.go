package gittest

import (
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

func TestGoCommandThroughTheServer(t *testing.T) {
	Need(t, "git", "go")
	root := t.TempDir()
	const deep = "git.corp.example/group/sub/deep"
	NewRepo(t, root, lib, goMod(lib, "v1.0.0"), goMod(lib+"/v2", "v2.0.0"))
	NewRepo(t, root, deep, goMod(deep, "v1.0.0"))
	NewRepo(t, root, "git.corp.example/open/tool", goMod("go.corp.example/tool", "v0.1.0"))
	s := Start(t, Config{Root: root, Hosts: []string{"git.corp.example", "go.corp.example"}, Accounts: []Account{
		{"git.corp.example/team", "ci", "secret"},
		{"git.corp.example/group", "ci", "secret"},
	}})
	s.SetImport("go.corp.example/tool", "git", "https://git.corp.example/open/tool")
	f := s.Proxy(t)

	t.Run("public by its vanity path", func(t *testing.T) {
		through(t, s, f).run("v0.1.0", "go", "list", "-m", "go.corp.example/tool@latest")
	})
	t.Run("with a password", func(t *testing.T) {
		s.Forget()
		c := through(t, s, f)
		c.netrc("machine git.corp.example login ci password secret")
		c.run("v1.0.0", "go", "list", "-m", lib+"@latest")
		c.run("v2.0.0", "go", "mod", "download", "-json", lib+"/v2@latest")
		c.run("v1.0.0", "go", "list", "-m", deep+"@latest")
		if n := s.Count(lib, Fetch); n == 0 {
			t.Errorf("no fetch counted: %+v", s.Requests())
		}
		if n := s.Count(lib, ListRef); n == 0 {
			t.Errorf("no protocol version 2: %+v", s.Requests())
		}
	})
	t.Run("with none", func(t *testing.T) {
		s.Forget()
		through(t, s, f).fail("terminal prompts disabled", "go", "list", "-m", lib+"@latest")
		if n := s.Count(lib, "*") - s.Count(lib, Meta); n != 0 {
			t.Errorf("%d requests were let in", n)
		}
		if !slices.ContainsFunc(s.Requests(), func(r Request) bool { return r.Repo == lib && r.Denied }) {
			t.Errorf("none was denied: %+v", s.Requests())
		}
	})
	t.Run("an expired one", func(t *testing.T) {
		c := through(t, s, f)
		c.netrc("machine git.corp.example login ci password secret")
		s.SetAccounts(Account{"git.corp.example", "ci", "new"})
		c.fail("terminal prompts disabled", "git", "ls-remote", "https://"+lib)
		s.SetAccounts(Account{"git.corp.example", "ci", "old"}, Account{"git.corp.example/team", "ci", "secret"})
		c.run("refs/tags/v1.0.0", "git", "ls-remote", "https://"+lib)
		s.SetAccounts()
	})
	t.Run("without trust", func(t *testing.T) {
		newClient(t, "HTTPS_PROXY="+f.URL).fail("certificate", "git", "ls-remote", "https://"+lib)
	})
	t.Run("elsewhere", func(t *testing.T) {
		through(t, s, f).fail("", "git", "ls-remote", "https://elsewhere.example/x")
		if asked := f.Asked(); !slices.Contains(asked, "elsewhere.example:443") || !slices.Contains(asked, "git.corp.example:443") {
			t.Errorf("asked for %q", asked)
		}
	})
}

func TestGitLabPages(t *testing.T) {
	Need(t, "git")
	root := t.TempDir()
	NewRepo(t, root, "git.corp.example/a/b/c")
	s := Start(t, Config{Root: root, Accounts: []Account{{"git.corp.example/a", "u", "p"}}})
	hc := httpClient(t, s)
	for _, c := range []struct{ path, user, want string }{
		{"a/b/c", "u", "a/b/c"},
		{"a/b/c/pkg/x", "u", "a/b/c"},
		{"a/b/c/pkg/x", "", "a/b"},
		{"a/b/absent/x", "u", "a/b"},
		{"open/absent/x", "", "open/absent"},
		{"a", "u", ""},
	} {
		req, _ := http.NewRequest(http.MethodGet, "https://git.corp.example/"+c.path+"?go-get=1", nil)
		if c.user != "" {
			req.SetBasicAuth(c.user, "p")
		}
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		p := "git.corp.example/" + c.want
		if want := `content="` + p + " git https://" + p + `.git"`; c.want != "" && !strings.Contains(string(body), want) || c.want == "" && resp.StatusCode != http.StatusNotFound {
			t.Errorf("%+v: %s %s", c, resp.Status, body)
		}
	}
}

// httpClient reaches the hosts of s and nothing else.
func httpClient(t *testing.T, s *Server) *http.Client {
	tr := &http.Transport{DialContext: s.Dial, TLSClientConfig: &tls.Config{RootCAs: s.CA}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestDialGoesNowhereElse(t *testing.T) {
	s := Start(t, Config{Root: t.TempDir()})
	for _, address := range []string{"git.corp.example:80", "example.com:443", "192.0.2.1:443", "169.254.169.254:80"} {
		if conn, err := s.Dial(t.Context(), "tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s was reached", address)
		}
	}
}

func TestFaults(t *testing.T) {
	Need(t, "git")
	root := t.TempDir()
	NewRepo(t, root, lib, goMod(lib, "v1.0.0"), Commit{Files: map[string]string{"big": Random(300<<10, 1)}})
	s := Start(t, Config{Root: root})
	url := s.URL(lib)
	for _, f := range []struct {
		name, kind, want string
		fault            proxytest.Fault
	}{
		{"500", "*", "The requested URL returned error: 500", proxytest.Status(http.StatusInternalServerError, "sorry")},
		{"redirect", Refs, "not found", proxytest.Redirect(http.StatusFound, "https://"+s.Addr+"/sign-in")},
		{"expired token", "*", "terminal prompts disabled", Unauthorized()},
		{"cut off", Fetch, "early EOF", proxytest.Reset(200 << 10)},
		{"short", Fetch, "early EOF", proxytest.Short(200 << 10)},
	} {
		t.Run(f.name, func(t *testing.T) {
			s.SetFault(lib, f.kind, f.fault)
			defer s.SetFault(lib, f.kind, nil)
			newClient(t, "GIT_SSL_CAINFO="+s.CAFile).fail(f.want, "git", "clone", "--bare", url, "clone")
		})
	}
	c := newClient(t, "GIT_SSL_CAINFO="+s.CAFile)
	c.run("", "git", "clone", "--bare", url, "clone")
	c.run("", "git", "-c", "protocol.version=0", "clone", "--bare", url, "clone")
	if out, err := c.try("git", "clone", s.URL("git.corp.example/absent")); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("an absent repository: %v %s", err, out)
	}
}

func TestAFaultOpensNothing(t *testing.T) {
	Need(t, "git")
	root := t.TempDir()
	NewRepo(t, root, lib, goMod(lib, "v1.0.0"))
	s := Start(t, Config{Root: root, Accounts: []Account{{lib, "ci", "secret"}}})
	s.SetFault("*", "*", proxytest.Delay(time.Millisecond))
	newClient(t, "GIT_SSL_CAINFO="+s.CAFile).fail("terminal prompts disabled", "git", "ls-remote", s.URL(lib))
	if n := s.Count("*", "*"); n != 0 {
		t.Errorf("%d requests were let in", n)
	}
}

func TestAHungServerLetsGoAtTheEnd(t *testing.T) {
	Need(t, "git")
	root := t.TempDir()
	NewRepo(t, root, lib, goMod(lib, "v1.0.0"))
	s := Start(t, Config{Root: root})
	asked := make(chan struct{}, 1)
	s.SetFault("*", Fetch, func(x proxytest.Exchange) {
		asked <- struct{}{}
		proxytest.Stall(-1)(x)
	})
	c := newClient(t, "GIT_SSL_CAINFO="+s.CAFile)
	done := make(chan error)
	go func() {
		_, err := c.try("git", "clone", "--bare", s.URL(lib), "clone")
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("a hung server answered: %v", err)
	case <-asked:
	}
	s.http.CloseClientConnections()
	if err := <-done; err == nil {
		t.Error("the clone succeeded")
	}
	if n := s.Count(lib, Fetch); n != 1 {
		t.Errorf("%d fetches", n)
	}
}
