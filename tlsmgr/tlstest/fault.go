package tlstest

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault stands in front of an ACME server and answers some requests itself. It
// keeps the Host header, so signatures stay good.
type Fault struct {
	// Directory is the URL of the ACME directory through it.
	Directory string

	mu     sync.Mutex // guards the rest
	path   string
	answer http.HandlerFunc
	times  int
	taken  int // how many were answered by answer
}

// NewFault starts one in front of directory. Its certificate is of pki.
func NewFault(tb testing.TB, pki *PKI, directory string) *Fault {
	tb.Helper()
	u, err := url.Parse(directory)
	if err != nil {
		tb.Fatal(err)
	}
	f := new(Fault)
	through := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: u.Scheme, Host: u.Host})
			p.Out.Host = p.In.Host
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pki.Pool()}, DisableKeepAlives: true},
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := f.take(r.URL.Path); answer != nil {
			answer(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pki.Issue(Leaf{})}}
	s.StartTLS()
	tb.Cleanup(s.Close)
	tb.Cleanup(s.CloseClientConnections)
	f.Directory = s.URL + u.Path
	return f
}

func (f *Fault) take(path string) http.HandlerFunc {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.times == 0 || !strings.HasPrefix(path, f.path) {
		return nil
	}
	f.times--
	f.taken++
	return f.answer
}

// Set lets answer answer the next requests for paths that begin with path, so
// many times.
func (f *Fault) Set(path string, times int, answer http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.path, f.times, f.answer = path, times, answer
	f.taken = 0
}

// Await waits until it has answered one request itself since the last Set.
func (f *Fault) Await(tb testing.TB) {
	tb.Helper()
	for range 600 {
		f.mu.Lock()
		taken := f.taken
		f.mu.Unlock()
		if taken > 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	tb.Fatal("no request for the path of the fault")
}

// Answer returns a handler that answers with the status and the body.
func Answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// Hang answers nothing until the client is gone.
func Hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // or nobody notices that the client goes
	<-r.Context().Done()
}
