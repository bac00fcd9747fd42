package sharedtest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// Fault is what a Proxy does to a request instead of, or after, passing it on.
type Fault struct {
	// Status is answered at once. 0: the request is passed on.
	Status int
	// Hang answers nothing until the client goes away.
	Hang bool
	// Cut ends the body of an answer after this many bytes, and the
	// connection with it.
	Cut int64
	// Flip inverts the byte of the body at this offset. 0: none.
	Flip int64
	// Pause is made before each 16 KiB of the body.
	Pause time.Duration
}

// Proxy stands in front of a server. It is safe for concurrent use.
type Proxy struct {
	URL string

	mu       sync.Mutex
	choose   func(*http.Request) Fault
	requests []string
}

// NewProxy starts a proxy in front of target that does no harm yet. The Host of
// requests is left alone, because it is signed.
func NewProxy(t TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatalf("%v", err)
	}
	p := &Proxy{choose: func(*http.Request) Fault { return Fault{} }}
	transport := &http.Transport{DisableCompression: true}
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = u.Scheme, u.Host, r.In.Host
		},
		Transport:    transport,
		ErrorLog:     discard(),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
		ModifyResponse: func(r *http.Response) error {
			if f, ok := r.Request.Context().Value(faultKey{}).(Fault); ok {
				r.Body = &faulty{ReadCloser: r.Body, f: f}
			}
			return nil
		},
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, reverse) }))
	server.Config.ErrorLog = discard()
	server.Start()
	p.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Set makes choose decide about each request from now on.
func (p *Proxy) Set(choose func(*http.Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = choose
}

// Always does the same to every request.
func (p *Proxy) Always(f Fault) { p.Set(func(*http.Request) Fault { return f }) }

// Requests returns "METHOD path" of those that came since it was last called.
func (p *Proxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.requests
	p.requests = nil
	return r
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	p.mu.Lock()
	p.requests = append(p.requests, r.Method+" "+r.URL.Path)
	f := p.choose(r)
	p.mu.Unlock()
	switch {
	case f.Hang:
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	case f.Status != 0:
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(f.Status)
	default:
		next.ServeHTTP(w, r.WithContext(withFault(r.Context(), f)))
	}
}

// faulty is the body of an answer.
type faulty struct {
	io.ReadCloser
	f    Fault
	read int64
}

func (b *faulty) Read(p []byte) (int, error) {
	if b.f.Pause > 0 {
		<-time.After(b.f.Pause)
		p = p[:min(len(p), 16<<10)]
	}
	if b.f.Cut > 0 {
		if b.read >= b.f.Cut {
			return 0, errors.New("cut")
		}
		p = p[:min(int64(len(p)), b.f.Cut-b.read)]
	}
	n, err := b.ReadCloser.Read(p)
	if i := b.f.Flip - b.read; b.f.Flip > 0 && i >= 0 && i < int64(n) {
		p[i] ^= 0xff
	}
	b.read += int64(n)
	return n, err
}
