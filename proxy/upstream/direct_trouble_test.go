package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// wantReason checks what kind of trouble an error is, that it is not taken
// for absence, and what clients read.
func wantReason(t testing.TB, what string, err error, want reason, text string) {
	t.Helper()
	var e *DirectError
	if !errors.As(err, &e) || reason(e.Reason) != want {
		t.Errorf("%s: %v, want %s", what, err, want)
		return
	}
	switch want {
	case notModule, unknownVersion, noRepository:
	default:
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v is absence, but should be trouble", what, err)
		}
	}
	if e.Timeout() != (want == timedOut) {
		t.Errorf("%s: timeout is %v", what, e.Timeout())
	}
	if !strings.Contains(e.Public(), text) {
		t.Errorf("%s: clients read %q, want %q in it", what, e.Public(), text)
	}
	wantPublic(t, err)
}

// Each trouble has its own error, nothing is kept of it, and the next request
// works when it is over.
func TestDirectTrouble(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.NoProgress = 2 * time.Second
		w.cfg.MaxFetch = 1 << 20
	})
	r := w.repo(lib, tagged("v1.0.0"))
	fault := func(kind string, f proxytest.Fault) func() {
		return func() { w.server.SetFault("*", kind, f) }
	}
	rules := w.cfg.Rules
	credentials := func(c ...Credential) func() {
		return func() {
			changed := rules
			changed.Credentials = c
			if err := w.direct.SetRules(changed); err != nil {
				t.Fatal(err)
			}
		}
	}
	reset := func() {
		for _, kind := range []string{gittest.Refs, gittest.Fetch, gittest.Meta} {
			w.server.SetFault("*", kind, nil)
		}
		if err := w.direct.SetRules(rules); err != nil {
			t.Fatal(err)
		}
		w.server.SetAccounts(ci)
	}
	for _, tt := range []struct {
		name string
		make func()
		want reason
		text string
	}{
		{"unknown version", nil, unknownVersion, "no such tag"},
		{"expired token", func() { w.server.SetAccounts(gittest.Account{Prefix: ci.Prefix, User: "ci", Password: "another"}) }, unauthorized, "refuses the credentials"},
		{"no credentials", credentials(), unauthorized, "under credentials in the file of direct.file"},
		{"unreadable credentials", credentials(Credential{Match: gitHost, Password: "env:NOWHERE"}), misconfigured, "cannot be read"},
		{"not a git server", fault(gittest.Refs, proxytest.HTML()), noRepository, "not as a git server"},
		{"server in trouble", fault(gittest.Refs, proxytest.Status(503, "busy")), unreachable, "503"},
		{"server in trouble while fetching", fault(gittest.Fetch, proxytest.Status(500, "oops")), unreachable, "500"},
		{"throttled", fault(gittest.Refs, proxytest.Status(429, "slow down")), unreachable, "429"},
		{"cut in the list", fault(gittest.Refs, proxytest.Short(40)), unreachable, "cannot be reached"},
		{"cut in the pack", fault(gittest.Fetch, proxytest.Reset(100)), unreachable, "cannot be reached"},
		{"hung before the list", fault(gittest.Refs, proxytest.Stall(0)), timedOut, "did not answer in time"},
		{"hung in the list", fault(gittest.Refs, proxytest.Stall(20)), timedOut, "did not answer in time"},
		{"hung in the pack", fault(gittest.Fetch, proxytest.Stall(100)), timedOut, "did not answer in time"},
		{"hung in the page", fault(gittest.Meta, proxytest.Stall(10)), timedOut, "did not answer in time"},
		{"redirect to another host", fault(gittest.Refs, proxytest.Redirect(302, "https://evil.example/team/lib.git/info/refs?service=git-upload-pack")), forbidden, "another host"},
		{"redirect without TLS", fault(gittest.Refs, proxytest.Redirect(302, "http://git.corp.example/x")), forbidden, "only https"},
		{"redirects for ever", fault(gittest.Refs, proxytest.Redirect(302, "/team/lib.git/info/refs?service=git-upload-pack")), broken, "redirects more than"},
		{"page without the tag", fault(gittest.Meta, proxytest.HTML()), notModule, "no go-import tag"},
		{"page refused", fault(gittest.Meta, proxytest.Status(403, "no")), unauthorized, "refuses the credentials"},
		{"page in trouble", fault(gittest.Meta, proxytest.Status(502, "no")), unreachable, "502"},
		{"deleted repository", func() {
			if err := os.Rename(r.Dir, r.Dir+".gone"); err != nil {
				t.Fatal(err)
			}
		}, noRepository, "no such repository"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			version := "v1.0.0"
			if tt.want == unknownVersion {
				version = "v1.7.0"
			}
			if tt.make != nil {
				tt.make()
			}
			begin := time.Now()
			_, err := w.read(lib, version, "zip")
			wantReason(t, "zip", err, tt.want, tt.text)
			if d := time.Since(begin); d > 15*time.Second {
				t.Errorf("it took %v", d)
			}
			if !strings.Contains(tt.name, "while") && !strings.Contains(tt.name, "pack") && version == "v1.0.0" {
				_, err = w.direct.List(t.Context(), lib)
				wantReason(t, "list", err, tt.want, tt.text)
			}
			reset()
			if tt.want == noRepository && strings.Contains(tt.name, "deleted") {
				if err := os.Rename(r.Dir+".gone", r.Dir); err != nil {
					t.Fatal(err)
				}
			}
		})
		// Begin without a kept repository, so that every case has to fetch.
		w.forget()
	}
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
}

// settle waits until no go command runs, and what it was asked for is dropped.
func (w *gitWorld) settle() {
	w.Helper()
	for {
		w.direct.dropIdle(time.Now().Add(time.Hour))
		w.direct.mu.Lock()
		n := len(w.direct.works)
		w.direct.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-w.Context().Done():
			w.Fatal("the go command does not end")
		}
	}
}

// forget removes the kept repositories and what is known of versions.
func (w *gitWorld) forget() {
	w.Helper()
	w.settle()
	entries, err := os.ReadDir(filepath.Join(w.cfg.Dir, "vcs"))
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		if err := removeAll(filepath.Join(w.cfg.Dir, "vcs", e.Name())); err != nil {
			w.Fatal(err)
		}
	}
}

func TestDirectRefusesLargeRepositories(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) { w.cfg.MaxFetch = 200 << 10 })
	w.repo(lib, gittest.Commit{Files: map[string]string{"big": gittest.Random(1<<20, 1)}, Tags: []string{"v1.0.0"}}, gittest.Commit{Remove: []string{"big"}, Tags: []string{"v1.1.0"}})
	_, err := w.read(lib, "v1.0.0", "zip")
	wantReason(t, "large version", err, tooBig, "limit for one fetch")
	must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
}

func TestDirectTellsCertificatesApart(t *testing.T) {
	for _, tt := range []struct {
		name, host, text string
		trust            bool
	}{
		{"unknown authority", gitHost, "signed by an authority that is not trusted here", false},
		{"another name", "other.corp.example", "is for another name", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newGitWorld(t, func(w *gitWorld) {
				if !tt.trust {
					w.cfg.Trust = gittest.Start(t, gittest.Config{Root: w.root}).CA
				}
			})
			w.repo(lib, tagged("v1.0.0"))
			_, err := w.direct.Info(t.Context(), tt.host+"/team/lib", "v1.0.0")
			wantReason(t, tt.name, err, certificate, tt.text)
			if !strings.Contains(err.Error(), "x509: ") {
				t.Errorf("the log does not have the x509 cause: %v", err)
			}
		})
	}
}

func TestDirectExpiredCertificate(t *testing.T) {
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{gitHost}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Trust = x509.NewCertPool()
		w.cfg.Trust.AddCert(must[*x509.Certificate](t)(x509.ParseCertificate(der)))
		w.cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return loopbackOnly(ctx, network, server.Listener.Addr().String())
		}
	})
	_, err := w.direct.Info(t.Context(), lib, "v1.0.0")
	wantReason(t, "expired", err, certificate, "has expired")
}

// No configuration of git or go that lies where this process finds its own has
// an effect: here, every program that reads one fails.
func TestDirectReadsNoConfiguration(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	home := t.TempDir()
	for _, name := range []string{".gitconfig", ".config/git/config", ".config/go/env"} {
		for _, dir := range []string{home, w.direct.files.home} {
			name := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte("GOPROXY=off\n[ not a configuration"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	t.Setenv("GOENV", filepath.Join(home, ".config/go/env"))
	must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "main"))
	must[[]string](t)(w.direct.List(t.Context(), lib))
	p := &place{seen: "https://" + lib + ".git"}
	w.direct.forgetMoved(t.Context(), p, &refs{})
	if tags := keptTags(w.direct.kept(p)); len(tags) > 0 {
		t.Errorf("git without a network did nothing: %v", tags)
	}
	j := &job{place: &place{url: parseURL(t, "https://"+lib)}, repo: w.direct.repository(parseURL(t, "https://"+lib))}
	for _, env := range [][]string{w.direct.gitEnv(), w.direct.childEnv(&work{}, j, "")} {
		if !slices.Contains(env, "GIT_CONFIG_NOSYSTEM=1") {
			t.Errorf("the system's configuration is read: %q", env)
		}
	}
}

func TestDirectUnreachable(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) {
		w.cfg.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			if host == gitHost {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		w.cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	})
	_, err := w.direct.Info(t.Context(), lib, "v1.0.0")
	wantReason(t, "refused", err, unreachable, "cannot be reached")
	_, err = w.direct.Info(t.Context(), "absent.corp.example/team/lib", "v1.0.0")
	wantReason(t, "name", err, unreachable, "does not resolve")
}

// A moved tag and a deleted one are seen, although the repository is kept.
func TestDirectSeesMovedTags(t *testing.T) {
	for _, annotated := range []bool{false, true} {
		t.Run(fmt.Sprintf("annotated %v", annotated), func(t *testing.T) {
			w := newGitWorld(t, nil)
			first, next := tagged("v1.0.0"), tagged("v1.1.0")
			first.Annotated, next.Annotated = annotated, annotated
			r := w.repo(lib, first, next)
			before := must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
			must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
			must[[]byte](t)(w.direct.Info(t.Context(), lib, "main"))
			r.Tag(t, "v1.0.0", "main")
			w.settle()
			after := must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
			if string(before) == string(after) {
				t.Error("the tag was moved, and the zip is the same")
			}
			if again := must[[]byte](t)(w.read(lib, "v1.1.0", "zip")); len(again) == 0 {
				t.Error("the other tag is gone")
			}
			r.Untag(t, "v1.0.0")
			w.settle()
			_, err := w.read(lib, "v1.0.0", "mod")
			wantAbsent(t, "deleted tag", err)
			if list := must[[]string](t)(w.direct.List(t.Context(), lib)); len(list) != 1 {
				t.Errorf("list: %q", list)
			}
		})
	}
}

// A tag that is pushed after it was said to be absent is there at once, and
// modules of one repository share what it says of its refs.
func TestDirectSharesRefs(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) { w.cfg.RefsTTL = time.Hour })
	r := w.repo(lib, tagged("v1.0.0"), gittest.Commit{Files: map[string]string{"sub/go.mod": "module " + lib + "/sub\n"}, Tags: []string{"sub/v0.1.0"}})
	for range 3 {
		for _, path := range []string{lib, lib + "/sub"} {
			must[[]string](t)(w.direct.List(t.Context(), path))
			must[[]byte](t)(w.direct.Info(t.Context(), path, "latest"))
		}
	}
	if n := w.server.Count(lib, gittest.ListRef); n != 0 {
		t.Errorf("git asked %d times for what was known", n)
	}
	if n := w.server.Count(lib, gittest.Refs); n > 2 { // one is git's, for what the server can do
		t.Errorf("%d requests for refs", n)
	}
	_, err := w.direct.Info(t.Context(), lib, "v1.1.0")
	wantAbsent(t, "not yet pushed", err)
	r.Tag(t, "v1.1.0", "main")
	must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.1.0"))
	if list := must[[]string](t)(w.direct.List(t.Context(), lib)); len(list) != 2 {
		t.Errorf("after the fetch of a new version, the list is %q", list)
	}
}

// What a branch was a moment ago may be gone from the host: then it is asked
// again, and what is kept stays.
func TestDirectSeesForcedPushes(t *testing.T) {
	w := newGitWorld(t, func(w *gitWorld) { w.cfg.RefsTTL = time.Hour })
	r := w.repo(lib, tagged("v1.0.0"))
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	r.Commit(t, gittest.Commit{Branch: "topic", From: "main", Files: map[string]string{"a.go": "package lib\n"}})
	must[*refs](t)(w.direct.repository(parseURL(t, "https://"+lib+".git")).refs(t.Context(), time.Now()))
	r.Git(t, "branch", "-D", "topic")
	r.Git(t, "reflog", "expire", "--expire=now", "--all")
	r.Git(t, "gc", "--quiet", "--prune=now")
	hash := r.Commit(t, gittest.Commit{Branch: "topic", From: "main", Files: map[string]string{"b.go": "package lib\n"}})[0]
	info := must[[]byte](t)(w.direct.Info(t.Context(), lib, "topic"))
	if !strings.Contains(string(info), hash) {
		t.Errorf("got %s, want %s", info, hash)
	}
	if n := testutil.ToFloat64(w.direct.metrics.healed); n != 0 {
		t.Errorf("%v kept repositories were given up", n)
	}
}

// Fifty requests for one new version are one fetch.
func TestDirectFetchesOnce(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"))
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			var err error
			switch i % 3 {
			case 0:
				_, err = w.direct.Info(t.Context(), lib, "v1.0.0")
			case 1:
				_, err = w.read(lib, "v1.0.0", "mod")
			default:
				_, err = w.read(lib, "v1.0.0", "zip")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := w.server.Count(lib, gittest.Fetch); n != 1 {
		t.Errorf("%d fetches", n)
	}
}
