package gittest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/modgate/modgate/proxy/proxytest"
)

// Config describes an HTTPS server of repositories.
type Config struct {
	// Root is the directory of the repositories; see NewRepo.
	Root string
	// Hosts are the names of the server, for its certificate.
	// Default: git.corp.example. It is always good for 127.0.0.1, too.
	Hosts []string
	// Accounts say what needs a password. Default: all is public.
	Accounts []Account
}

// An Account may read the repositories whose names begin with Prefix
// (host/path, whole elements). Of several prefixes of a name the longest
// counts, and several accounts may have the same one.
type Account struct{ Prefix, User, Password string }

// Kinds of requests.
const (
	Meta    = "go-get"  // a page with go-import
	Refs    = "refs"    // info/refs, the beginning of every visit
	ListRef = "ls-refs" // the list of references, in protocol version 2
	Fetch   = "fetch"   // the transfer of objects
	Other   = "other"

	Mercurial = "hg" // anything that hg asks
)

// Request is what the server remembers of one request.
type Request struct {
	Host, Path string
	Repo       string // the name of the repository (host/path); of a Meta request, what was asked for
	Kind       string
	User       string // who asked, if the password was right
	Denied     bool   // for want of the right password; git then asks again with one
	Protocol   string // the header Git-Protocol
}

// Server serves repositories over HTTPS with git http-backend, in protocol
// versions 0 to 2, and answers ?go-get=1. Its methods may be called while it
// serves.
type Server struct {
	Addr   string         // 127.0.0.1:port
	CA     *x509.CertPool // the one authority to trust
	CAFile string         // the same in PEM

	root    string
	hosts   []string
	backend string // git http-backend
	http    *httptest.Server
	done    chan struct{} // closed at the end: frees stalled requests

	mu       sync.Mutex // guards what follows
	accounts []Account
	imports  []goImport
	hg       map[string]http.Handler       // by repository
	faults   map[[2]string]proxytest.Fault // by repository and kind
	seen     map[[2]string]int
	log      []Request
}

// Start starts a server that ends with the test.
func Start(tb TB, cfg Config) *Server {
	tb.Helper()
	if len(cfg.Hosts) == 0 {
		cfg.Hosts = []string{"git.corp.example"}
	}
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		tb.Fatalf("git --exec-path: %v", err)
	}
	s := &Server{
		root: cfg.Root, hosts: cfg.Hosts, accounts: cfg.Accounts,
		backend: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		done:    make(chan struct{}),
		faults:  map[[2]string]proxytest.Fault{},
		seen:    map[[2]string]int{},
	}
	a := newAuthority(tb)
	s.CA, s.CAFile = a.pool(), filepath.Join(tb.TempDir(), "ca.pem")
	if err := os.WriteFile(s.CAFile, a.pem(), 0o644); err != nil {
		tb.Fatalf("%v", err)
	}
	s.http = httptest.NewUnstartedServer(s)
	s.http.TLS = a.serverConfig(tb, cfg.Hosts)
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.StartTLS()
	s.Addr = s.http.Listener.Addr().String()
	tb.Cleanup(func() {
		close(s.done)
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// URL is where a repository is without any names: https://127.0.0.1:port/host/path.
func (s *Server) URL(repo string) string { return "https://" + s.Addr + "/" + repo }

// Dial connects to the server instead of to port 443 of its hosts. Everything
// but loopback is refused.
func (s *Server) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if slices.Contains(s.hosts, host) && port == "443" {
		address = s.Addr
	} else if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("dial %s: %w", address, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true})
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// SetAccounts replaces the accounts: a token has expired, a password changed.
func (s *Server) SetAccounts(accounts ...Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts = accounts
}

// SetFault lets f answer the requests of a kind for a repository; nil ends
// that. "*" is any repository or any kind. Requests without the right password
// are answered by it, too: to them, Honest says 401, and their N is 0.
func (s *Server) SetFault(repo, kind string, f proxytest.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		delete(s.faults, [2]string{repo, kind})
		return
	}
	s.faults[[2]string{repo, kind}] = f
}

// Unauthorized refuses every password.
func Unauthorized() proxytest.Fault {
	return func(x proxytest.Exchange) { unauthorized(x.W, x.R) }
}

// Requests returns what was asked since the start or the last Forget.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// Count returns how many requests of a kind were let in to a repository since
// the start or the last Forget. "*" is any repository or any kind.
func (s *Server) Count(repo, kind string) int {
	n := 0
	for _, r := range s.Requests() {
		if !r.Denied && (repo == "*" || repo == r.Repo) && (kind == "*" || kind == r.Kind) {
			n++
		}
	}
	return n
}

// Forget empties the log and the counts.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.seen = nil, map[[2]string]int{}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := requested(r)
	repo, file := s.find(name)
	req := Request{Host: r.Host, Path: r.URL.Path, Repo: repo, Protocol: r.Header.Get("Git-Protocol"), Kind: Other}
	honest := http.Handler(http.NotFoundHandler())
	user, known := s.authorize(name, r)
	req.User = user
	s.mu.Lock()
	hg := s.hg[name]
	s.mu.Unlock()
	switch {
	case hg != nil && r.URL.Query().Has("cmd"):
		req.Kind, honest = Mercurial, hg
	case r.URL.Query().Get("go-get") == "1":
		req.Kind, req.Repo = Meta, name
		honest = s.meta(name, known)
	case file == "/info/refs" && r.URL.Query().Get("service") == "git-upload-pack":
		req.Kind, honest = Refs, s.git(repo, file)
	case file == "/git-upload-pack" && r.Method == http.MethodPost:
		var err error
		if req.Kind, err = command(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		honest = s.git(repo, file)
	}
	req.Denied = !known && req.Kind != Meta
	s.mu.Lock()
	s.log = append(s.log, req)
	var fault proxytest.Fault
	n := 0
	if req.Denied {
		honest = http.HandlerFunc(unauthorized)
	} else {
		s.seen[[2]string{req.Repo, req.Kind}]++
		n = s.seen[[2]string{req.Repo, req.Kind}]
	}
	for _, key := range [][2]string{{req.Repo, req.Kind}, {req.Repo, "*"}, {"*", req.Kind}, {"*", "*"}} {
		if fault = s.faults[key]; fault != nil {
			break
		}
	}
	s.mu.Unlock()
	if fault == nil {
		honest.ServeHTTP(w, r)
		return
	}
	fault(proxytest.Exchange{W: w, R: r, N: n, Honest: honest, Done: s.done})
}

// requested returns the host and path that a request is about; at an address,
// the path begins with the host.
func requested(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	path := strings.Trim(r.URL.Path, "/")
	if net.ParseIP(host) != nil {
		return path
	}
	return host + "/" + path
}

// find cuts a name into that of a repository, by its end ".git" or by what is
// on disk, and a file in it.
func (s *Server) find(name string) (repo, file string) {
	if repo, file, ok := strings.Cut(name+"/", ".git/"); ok {
		return repo, strings.TrimSuffix("/"+file, "/")
	}
	for _, service := range []string{"/info/refs", "/git-upload-pack"} {
		if repo, ok := strings.CutSuffix(name, service); ok {
			return repo, service
		}
	}
	return name, ""
}

// authorize returns who asks, and whether they may.
func (s *Server) authorize(name string, r *http.Request) (user string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, password, _ := r.BasicAuth()
	longest := -1
	for _, a := range s.accounts {
		if !beneath(name, a.Prefix) || len(a.Prefix) < longest {
			continue
		}
		if len(a.Prefix) > longest {
			longest, ok = len(a.Prefix), false
		}
		ok = ok || a.User == user && a.Password == password
	}
	if longest < 0 {
		return "", true
	}
	if !ok {
		return "", false
	}
	return user, true
}

// beneath reports whether prefix is name or a path above it.
func beneath(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && (rest == "" || prefix == "" || rest[0] == '/' || strings.HasPrefix(rest, ".git"))
}

func unauthorized(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
	http.Error(w, "HTTP Basic: Access denied", http.StatusUnauthorized)
}

// git runs git http-backend for a file of a repository.
func (s *Server) git(repo, file string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path = "/" + repo + ".git" + file
		h := &cgi.Handler{
			Path: s.backend, Dir: s.root, Logger: log.New(io.Discard, "", 0), Stderr: io.Discard,
			Env: gitEnv("GIT_PROJECT_ROOT="+s.root, "GIT_HTTP_EXPORT_ALL=1", "GIT_PROTOCOL="+r.Header.Get("Git-Protocol")),
		}
		h.ServeHTTP(w, r)
	})
}

// command reads the body of an upload-pack request, which CGI needs in one
// piece, and tells the list of references from the transfer of objects.
func command(r *http.Request) (kind string, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	r.TransferEncoding, r.ContentLength = nil, int64(len(body))
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return "", err
		}
		if body, err = io.ReadAll(z); err != nil {
			return "", err
		}
	}
	if len(body) > 4 && bytes.HasPrefix(body[4:], []byte("command=ls-refs")) {
		return ListRef, nil
	}
	return Fetch, nil
}
