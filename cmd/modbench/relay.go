package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// publicMirror is Go's public module mirror, the first entry of the go
// command's built-in GOPROXY.
const publicMirror = "https://proxy.golang.org"

// A relay is an upstream on loopback: it answers everything under its address,
// modules and /sumdb/ alike, from source. It counts what it is asked for,
// holds every request back for a while, and can bound the rate of each body.
// Requests never wait for each other.
type relay struct {
	source http.Handler
	delay  time.Duration // before a request is passed on
	rate   int64         // bytes per second of one body; 0 is unbounded

	mu    sync.Mutex
	began time.Time          // of the counting
	asked map[string][]asked // by path
}

// asked is one request: who asked, and when after the counting has begun.
type asked struct {
	who string
	at  time.Duration
}

func newRelay(source http.Handler, delay time.Duration, rate int64) *relay {
	return &relay{source: source, delay: delay, rate: rate, began: time.Now(), asked: make(map[string][]asked)}
}

func (rl *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) { rl.serve(w, r, "") }

// as is the relay as one of several asks it.
func (rl *relay) as(who string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rl.serve(w, r, who) })
}

func (rl *relay) serve(w http.ResponseWriter, r *http.Request, who string) {
	rl.mu.Lock()
	rl.asked[r.URL.Path] = append(rl.asked[r.URL.Path], asked{who, time.Since(rl.began)})
	rl.mu.Unlock()
	if !pause(r.Context(), rl.delay) {
		return
	}
	if rl.rate > 0 {
		w = &slowWriter{ResponseWriter: w, ctx: r.Context(), rate: rl.rate, start: time.Now()}
	}
	rl.source.ServeHTTP(w, r)
}

// reset forgets what was counted.
func (rl *relay) reset() {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	rl.began = time.Now()
	clear(rl.asked)
}

// requests returns how often each path was asked for since the last reset.
func (rl *relay) requests() map[string]int {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	counts := make(map[string]int, len(rl.asked))
	for p, a := range rl.asked {
		counts[p] = len(a)
	}
	return counts
}

// again says of objects that were asked for more than once who did, and when.
func (rl *relay) again() map[string]string {
	rl.mu.Lock()
	defer rl.mu.Unlock()
	again := make(map[string]string)
	for p, all := range rl.asked {
		if len(all) < 2 || !isObject(p) {
			continue
		}
		var s []string
		for _, a := range all {
			s = append(s, strings.TrimSpace(fmt.Sprintf("%s at %.3f s", a.who, a.at.Seconds())))
		}
		again[p] = strings.Join(s, ", ")
	}
	return again
}

// pause waits for d and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// slowWriter writes a body at rate bytes per second. It deliberately has no
// io.ReaderFrom, through which a file would go out at once.
type slowWriter struct {
	http.ResponseWriter
	ctx   context.Context
	rate  int64
	start time.Time
	sent  int64
}

func (s *slowWriter) Write(p []byte) (int, error) {
	const chunk = 32 << 10
	n := 0
	for n < len(p) {
		m, err := s.ResponseWriter.Write(p[n:min(n+chunk, len(p))])
		n += m
		s.sent += int64(m)
		if err != nil {
			return n, err
		}
		due := time.Duration(float64(s.sent) / float64(s.rate) * float64(time.Second))
		if ahead := due - time.Since(s.start); ahead > time.Millisecond {
			// What is in the server's buffer counts as sent: let it go.
			http.NewResponseController(s.ResponseWriter).Flush()
			if !pause(s.ctx, ahead) {
				return n, s.ctx.Err()
			}
		}
	}
	return n, nil
}

// newTransport returns a transport for many requests to one host: HTTP/2 where
// that is offered, otherwise as many kept connections as there are requests.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
}

// newForward passes every request on to the proxy at origin.
func newForward(origin *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(origin) },
		Transport:     newTransport(),
		FlushInterval: -1,
	}
}

// A listener is an HTTP server of ours on loopback.
type listener struct {
	URL  string
	srv  *http.Server
	done chan error
}

// listen serves h at addr ("127.0.0.1:0" for any port) until Close.
func listen(ctx context.Context, addr string, h http.Handler) (*listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	ln := &listener{
		URL:  "http://" + l.Addr().String(),
		srv:  &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second},
		done: make(chan error, 1),
	}
	go func() { ln.done <- ln.srv.Serve(l) }()
	return ln, nil
}

// Close ends the server and waits for it.
func (l *listener) Close() error {
	err := l.srv.Close()
	<-l.done
	return err
}

func parseOrigin(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("upstream %q: want one http or https URL", s)
	}
	return u, nil
}
