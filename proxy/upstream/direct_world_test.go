package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

var _ proxytest.Source = (*Direct)(nil)

// gitWorld is a company with a git server, and a Direct that reaches it. Its
// names resolve to loopback unless hosts says otherwise.
type gitWorld struct {
	testing.TB
	root   string // of the repositories
	server *gittest.Server
	direct *Direct
	cfg    DirectConfig
	proxy  string // see forward

	mu     sync.Mutex
	hosts  map[string]netip.Addr
	dialed []string
	looked []string
}

const (
	gitHost = "git.corp.example"
	lib     = gitHost + "/team/lib"
)

var ci = gittest.Account{Prefix: gitHost + "/team", User: "ci", Password: "secret"}

// newGitWorld starts a server with the repository of lib, for which a
// password is needed, and a Direct.
func newGitWorld(t testing.TB, change func(*gitWorld)) *gitWorld {
	t.Helper()
	gittest.Need(t, "git", "go")
	w := &gitWorld{TB: t, root: t.TempDir(), hosts: map[string]netip.Addr{}}
	w.server = gittest.Start(t, gittest.Config{Root: w.root, Hosts: []string{gitHost, "go.corp.example", "evil.example"}, Accounts: []gittest.Account{ci}})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = DirectConfig{
		Dir: filepath.Join(t.TempDir(), "direct"), Private: "*.corp.example", Self: self,
		Trust: w.server.CA, Proxy: noProxy, Lookup: w.lookup, Dial: w.dial, RefsTTL: time.Nanosecond, MaxAhead: -1,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Rules: Rules{
			Networks:    []string{"127.0.0.0/8"},
			Credentials: []Credential{{Match: gitHost + "/team", Username: "ci", Password: "secret"}},
		},
	}
	if change != nil {
		change(w)
	}
	w.direct, _ = startDirect(t, w.cfg)
	return w
}

// startDirect runs a Direct until the test ends or stop is called.
func startDirect(t testing.TB, cfg DirectConfig) (d *Direct, stop func()) {
	t.Helper()
	d, err := NewDirect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return d, stop
}

func (w *gitWorld) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked = append(w.looked, host)
	if a, ok := w.hosts[host]; ok {
		return []netip.Addr{a}, nil
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

func (w *gitWorld) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, address)
	w.mu.Unlock()
	if address == "127.0.0.1:443" {
		address = w.server.Addr
	}
	return loopbackOnly(ctx, network, address)
}

// repo makes a repository; each commit has a go.mod for its name unless it
// says otherwise.
func (w *gitWorld) repo(name string, commits ...gittest.Commit) *gittest.Repo {
	w.Helper()
	for i, c := range commits {
		if c.Files["go.mod"] == "" && !slices.Contains(c.Remove, "go.mod") {
			files := map[string]string{"go.mod": "module " + name + "\n\ngo 1.20\n"}
			maps.Copy(files, c.Files)
			commits[i].Files = files
		}
	}
	return gittest.NewRepo(w, w.root, name, commits...)
}

func tagged(version string, more ...string) gittest.Commit {
	return gittest.Commit{Files: map[string]string{"lib.go": "package lib // " + version + "\n"}, Tags: append([]string{version}, more...)}
}

// read returns a file of a version.
func (w *gitWorld) read(path, version, kind string) ([]byte, error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	body, size, err := w.direct.Open(ctx, module.Version{Path: path, Version: version}, kind)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(body)
	if err != nil || int64(len(data)) != size {
		w.Errorf("%s of %s@%s: %d of %d bytes, %v", kind, path, version, len(data), size, err)
	}
	return data, body.Close()
}

// must returns what cannot fail in a test.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantAbsent checks that err says that something does not exist.
func wantAbsent(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v, want absence", what, err)
	}
	wantPublic(t, err)
}

// wantPublic checks that what clients read is a line in our words.
func wantPublic(t testing.TB, err error) {
	t.Helper()
	var e *DirectError
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T) is not a DirectError", err, err)
	}
	text := e.Public()
	if text == "" || len(text) > 500 || strings.ContainsAny(text, "\n\r\t") {
		t.Errorf("text for clients: %q", text)
	}
	for _, s := range []string{"fatal:", "exit status", "secret", "remote:", "/tmp/"} {
		if strings.Contains(text, s) || s == "secret" && strings.Contains(err.Error(), s) {
			t.Errorf("text for clients has %q: %q", s, text)
		}
	}
}

// victimConfig is for a process of its own that uses the directory of another.
func victimConfig(t testing.TB, dir, self string) DirectConfig {
	t.Helper()
	proxy := must[*url.URL](t)(url.Parse(os.Getenv("VICTIM_PROXY")))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must[[]byte](t)(os.ReadFile(os.Getenv("VICTIM_CA"))))
	return DirectConfig{
		Dir: dir, Private: "*.corp.example", Self: self, Trust: pool,
		Proxy: func(*http.Request) (*url.URL, error) { return proxy, nil },
		Rules: Rules{Credentials: []Credential{{Match: gitHost + "/team", Username: "ci", Password: "secret"}}},
	}
}

// forward is the HTTP proxy by which programs find the server.
func (w *gitWorld) forward() string {
	if w.proxy == "" {
		w.proxy = w.server.Proxy(w).URL
	}
	return w.proxy
}
