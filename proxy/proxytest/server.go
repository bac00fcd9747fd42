package proxytest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// Request is what the server remembers of one request.
type Request struct {
	Method string
	Path   string // unescaped, as the server saw it
	Host   string
	Proto  string // "HTTP/1.1", "HTTP/2.0"
	Header http.Header
}

// Server is a GOPROXY over HTTP on loopback. Its methods may be called while
// it serves. It answers conditional and range requests with strong ETags.
type Server struct {
	*httptest.Server
	done chan struct{} // closed when the test ends: frees stalled handlers

	mu     sync.Mutex // guards what follows
	files  map[string][]byte
	mods   map[string][]string // versions by module path
	faults map[string]Fault
	seen   map[string]int // requests by path
	log    []Request
	conns  int
	mux    map[string]http.Handler // by first elements of the path, for checksum databases
}

// New starts a server over plain HTTP that ends with the test.
func New(tb testing.TB, mods ...*Module) *Server {
	tb.Helper()
	s := prepare(tb, mods)
	s.Start()
	return s
}

// NewTLS starts a server over TLS that speaks HTTP/1.1 and HTTP/2. Its
// Certificate is the only one to trust.
func NewTLS(tb testing.TB, mods ...*Module) *Server {
	tb.Helper()
	s := prepare(tb, mods)
	s.EnableHTTP2 = true
	s.StartTLS()
	return s
}

func prepare(tb testing.TB, mods []*Module) *Server {
	s := &Server{
		done:   make(chan struct{}),
		files:  map[string][]byte{},
		mods:   map[string][]string{},
		faults: map[string]Fault{},
		seen:   map[string]int{},
		mux:    map[string]http.Handler{},
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = discardLog()
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			s.conns++
			s.mu.Unlock()
		}
	}
	s.Add(tb, mods...)
	tb.Cleanup(func() {
		close(s.done)
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// Add makes the server serve the modules, too.
func (s *Server) Add(tb testing.TB, mods ...*Module) {
	tb.Helper()
	for _, m := range mods {
		base := Path(tb, m.Version, "")
		s.mu.Lock()
		s.files[base+"info"], s.files[base+"mod"], s.files[base+"zip"] = m.Info, m.Mod, m.Zip
		if !slices.Contains(s.mods[m.Path], m.Version.Version) {
			s.mods[m.Path] = append(s.mods[m.Path], m.Version.Version)
		}
		s.mu.Unlock()
	}
}

// Path returns the URL path of a file of mv: kind is info, mod or zip.
func Path(tb testing.TB, mv module.Version, kind string) string {
	tb.Helper()
	p, err := module.EscapePath(mv.Path)
	if err != nil {
		tb.Fatal(err)
	}
	v, err := module.EscapeVersion(mv.Version)
	if err != nil {
		tb.Fatal(err)
	}
	return "/" + p + "/@v/" + v + "." + kind
}

// SetFile serves data at a path: a branch's .info, a list, anything.
func (s *Server) SetFile(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = data
}

// SetFault lets f answer the requests for path; nil ends that. The path "*"
// is every path that has no fault of its own.
func (s *Server) SetFault(path string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		delete(s.faults, path)
		return
	}
	s.faults[path] = f
}

// SumDB serves a checksum database under /sumdb/<name>. The handler sees the
// paths behind that ("/latest", "/lookup/…"); "/supported" is answered 200.
func (s *Server) SumDB(name string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mux["/sumdb/"+name] = h
}

// Requests returns what was asked since the start or the last Forget.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// Count returns how often path was asked for since the start or the last
// Forget.
func (s *Server) Count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[path]
}

// Forget empties the log and the counts.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.seen = nil, map[string]int{}
}

// Connections returns how many connections were ever accepted.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.log = append(s.log, Request{r.Method, r.URL.Path, r.Host, r.Proto, r.Header.Clone()})
	s.seen[r.URL.Path]++
	n := s.seen[r.URL.Path]
	fault := s.faults[r.URL.Path]
	if fault == nil {
		fault = s.faults["*"]
	}
	s.mu.Unlock()
	honest := http.HandlerFunc(s.honest)
	if fault == nil {
		honest(w, r)
		return
	}
	fault(Exchange{w, r, n, honest, s.done})
}

// honest answers as a GOPROXY should.
func (s *Server) honest(w http.ResponseWriter, r *http.Request) {
	if h, rest := s.database(r.URL.Path); h != nil {
		if rest == "/supported" {
			return
		}
		http.StripPrefix(strings.TrimSuffix(r.URL.Path, rest), h).ServeHTTP(w, r)
		return
	}
	data, ok := s.file(r.URL.Path)
	if !ok {
		http.Error(w, "not found: "+r.URL.Path, http.StatusNotFound)
		return
	}
	h := w.Header()
	switch {
	case strings.HasSuffix(r.URL.Path, ".zip"):
		h.Set("Content-Type", "application/zip")
	case strings.HasSuffix(r.URL.Path, ".info"), strings.HasSuffix(r.URL.Path, "/@latest"):
		h.Set("Content-Type", "application/json")
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	h.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (s *Server) database(path string) (h http.Handler, rest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for prefix, h := range s.mux {
		if rest, ok := strings.CutPrefix(path, prefix); ok && strings.HasPrefix(rest, "/") {
			return h, rest
		}
	}
	return nil, ""
}

// file finds what is served at path; lists and @latest are made of the known
// versions if nothing else was set.
func (s *Server) file(path string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if data, ok := s.files[path]; ok {
		return data, true
	}
	if p, ok := strings.CutSuffix(path, "/@v/list"); ok {
		versions, ok := s.versions(p)
		return []byte(strings.Join(versions, "\n") + "\n"), ok
	}
	if p, ok := strings.CutSuffix(path, "/@latest"); ok {
		versions, ok := s.versions(p)
		if !ok {
			return nil, false
		}
		if len(versions) == 0 { // only pseudo-versions
			path, _ := module.UnescapePath(p[1:])
			versions = slices.Clone(s.mods[path])
			semver.Sort(versions)
		}
		v, err := module.EscapeVersion(versions[len(versions)-1])
		data, ok := s.files[p+"/@v/"+v+".info"]
		return data, ok && err == nil
	}
	return nil, false
}

// versions returns the tagged versions of a module, by its escaped path, and
// whether the module is known at all.
func (s *Server) versions(escaped string) ([]string, bool) {
	p, err := module.UnescapePath(strings.TrimPrefix(escaped, "/"))
	all, ok := s.mods[p]
	if err != nil || !ok {
		return nil, false
	}
	tagged := slices.DeleteFunc(slices.Clone(all), module.IsPseudoVersion)
	semver.Sort(tagged)
	return tagged, true
}
