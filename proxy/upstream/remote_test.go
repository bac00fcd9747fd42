package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/proxy/proxytest"
)

// roundTripper answers without a network, for tests whose time is not real.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
func (f roundTripper) CloseIdleConnections()                             {}

// fake returns a chain whose transport is f.
func fake(t *testing.T, cfg Config, f roundTripper) *Chain {
	t.Helper()
	c := newChain(t, cfg)
	c.client.transport = f
	return c
}

func respond(status int, body string, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

const infoA = `{"Version":"v1.0.0"}`

// Which failures are tried again, how often, and how long that takes.
func TestRetries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		status   int // 0: broken connection
		header   string
		requests int
		min, max time.Duration
	}{
		{"ok", 200, "", 1, 0, 0},
		{"absent", 404, "", 1, 0, 0},
		{"refused", 403, "", 1, 0, 0},
		{"bad request", 400, "", 1, 0, 0},
		{"not implemented", 501, "", 1, 0, 0},
		{"gateway took too long", 504, "", 1, 0, 0},
		{"broken", 0, "", 3, 400 * time.Millisecond, 1200 * time.Millisecond},
		{"500", 500, "", 3, 400 * time.Millisecond, 1200 * time.Millisecond},
		{"429", 429, "", 3, 400 * time.Millisecond, 1200 * time.Millisecond},
		{"503 for a while", 503, "2", 3, 4 * time.Second, 4 * time.Second},
		{"503 for long", 503, "60", 1, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				chain := fake(t, Config{List: "https://a.test"}, func(*http.Request) (*http.Response, error) {
					n++
					if c.status == 0 {
						return nil, io.ErrUnexpectedEOF
					}
					return respond(c.status, infoA, "Retry-After", c.header), nil
				})
				begin := time.Now()
				err := askInfo(t, chain)
				if took := time.Since(begin); n != c.requests || took < c.min || took > c.max || (err == nil) != (c.status == 200) {
					t.Errorf("%d requests in %v: %v", n, took, err)
				}
			})
		})
	}
}

// A dead upstream costs nothing after some failures, one request tries it
// again, and it is back at full speed less than ten seconds after it has
// recovered.
func TestCircuit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		var dead atomic.Bool
		dead.Store(true)
		chain := fake(t, Config{List: "https://a.test", Retries: -1}, func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			if dead.Load() {
				<-r.Context().Done() // a host that swallows packets
				return nil, r.Context().Err()
			}
			return respond(200, infoA), nil
		})
		ask64 := func() (failed int64) {
			var n atomic.Int64
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					if askInfo(t, chain) != nil {
						n.Add(1)
					}
				})
			}
			wg.Wait()
			return n.Load()
		}
		open := func() float64 { return gauge(t, chain, "a.test") }
		if open() != 0 {
			t.Error("the circuit is open at the start")
		}
		if n := ask64(); n != 64 || open() != 1 {
			t.Errorf("%d failed, open %v", n, open())
		}
		requests.Store(0)
		begin := time.Now()
		if n := ask64(); n != 64 || requests.Load() != 0 || time.Since(begin) != 0 {
			t.Errorf("open: %d failed after %d requests and %v", n, requests.Load(), time.Since(begin))
		}
		time.Sleep(6 * time.Second) // one may try
		begin = time.Now()
		if n := ask64(); n != 64 || requests.Load() != 1 || time.Since(begin) != 30*time.Second {
			t.Errorf("half open: %d failed after %d requests and %v", n, requests.Load(), time.Since(begin))
		}
		dead.Store(false)
		for begin = time.Now(); askInfo(t, chain) != nil; {
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took >= 10*time.Second {
			t.Errorf("back after %v", took)
		}
		if n := ask64(); n != 0 || open() != 0 {
			t.Errorf("recovered: %d failed, open %v", n, open())
		}
	})
}

// Neither absence, refusal nor a wrong file speaks against an upstream, nor
// does a client that leaves.
func TestCircuitStaysClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var answer func(*http.Request) (*http.Response, error)
		chain := fake(t, Config{List: "https://a.test", BreakAfter: 2}, func(r *http.Request) (*http.Response, error) { return answer(r) })
		for _, status := range []int{404, 410, 403, 401, 400, 200} {
			answer = func(*http.Request) (*http.Response, error) { return respond(status, "<html>"), nil }
			for range 5 {
				if err := askInfo(t, chain); err == nil {
					t.Errorf("%d: no error", status)
				}
			}
		}
		answer = func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if _, err := chain.Info(ctx, "example.com/a", "v1.0.0"); !errors.Is(err, context.Canceled) {
				t.Errorf("client left: %v", err)
			}
		}
		if gauge(t, chain, "a.test") != 0 {
			t.Error("the circuit is open")
		}
		if n := counter(t, chain, "a.test", "error"); n != 0 {
			t.Errorf("%v errors counted for clients that left", n)
		}
	})
}

// slowBody is a body that brings size bytes, chunk by chunk with a pause
// before each, and then waits until ctx ends.
type slowBody struct {
	ctx         context.Context
	chunk, size int
	pause       time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	wait := b.pause
	if b.size <= 0 {
		wait = 24 * time.Hour
	}
	select {
	case <-time.After(wait):
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
	n := min(len(p), b.chunk, b.size)
	copy(p, "PK\x03\x04")
	b.size -= n
	return n, nil
}

func (b *slowBody) Close() error { return nil }

// No read waits longer than NoProgress, resumption included; a dribble is cut
// and a slow line is not.
func TestProgress(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0").Version
	for _, c := range []struct {
		name     string
		first    slowBody
		tag      string
		requests int
		after    time.Duration // from the start to the error
		bytes    int64
	}{
		{"stall", slowBody{chunk: 1000, size: 5000, pause: time.Second}, "", 1, 5*time.Second + 30*time.Second, 5000},
		{"stall, can be resumed", slowBody{chunk: 1000, size: 5000, pause: time.Second}, `"x"`, 2, 5*time.Second + 30*time.Second, 5000},
		{"dribble", slowBody{chunk: 1024, size: 1 << 20, pause: 2 * time.Second}, "", 1, 30 * time.Second, 512 + 14*1024},
		{"slow but alive", slowBody{chunk: 1100, size: 200_000, pause: time.Second}, "", 1, 182*time.Second + 30*time.Second, 200_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				chain := fake(t, Config{List: "https://a.test"}, func(r *http.Request) (*http.Response, error) {
					n++
					b := c.first
					resp := respond(200, "", "ETag", c.tag)
					resp.ContentLength = 10 << 20
					if n > 1 { // resumed: a header and nothing more
						b.size = 0
						resp.StatusCode = 206
						resp.Header.Set("Content-Range", "bytes 5000-/10485760")
					}
					b.ctx = r.Context()
					resp.Body = &b
					return resp, nil
				})
				begin := time.Now()
				body, _, err := chain.Open(t.Context(), m, "zip")
				if err != nil {
					t.Fatal(err)
				}
				defer body.Close()
				got, err := io.Copy(io.Discard, body)
				took := time.Since(begin)
				if e := asError(t, err); !e.Timeout() || verdict(e) != "trouble" || got != c.bytes || n != c.requests {
					t.Errorf("%d bytes, %d requests, %v", got, n, err)
				}
				if took < c.after-2*time.Second || took > c.after+2*time.Second {
					t.Errorf("cut after %v, want %v", took, c.after)
				}
			})
		})
	}
}

// A transport that takes an early end for the end is not believed.
func TestEarlyEOF(t *testing.T) {
	t.Parallel()
	chain := fake(t, Config{List: "https://a.test"}, func(*http.Request) (*http.Response, error) {
		resp := respond(200, "PK\x03\x04"+strings.Repeat("x", 1000))
		resp.ContentLength = 2000
		return resp, nil
	})
	body, size, err := chain.Open(t.Context(), proxytest.Simple(t, "example.com/a", "v1.0.0").Version, "zip")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if n, err := io.Copy(io.Discard, body); size != 2000 || n != 1004 || verdict(err) != "trouble" {
		t.Errorf("%d of %d bytes, %v", n, size, err)
	}
}

func gauge(t *testing.T, c *Chain, upstream string) float64 {
	t.Helper()
	return metric(t, c, "modgate_upstream_circuit_open", upstream, "")
}

func counter(t *testing.T, c *Chain, upstream, code string) float64 {
	t.Helper()
	return metric(t, c, "modgate_upstream_requests_total", upstream, code)
}

func metric(t *testing.T, c *Chain, name, upstream, code string) float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["upstream"] == upstream && labels["code"] == code {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no series %s{%s,%s}", name, upstream, code)
	return 0
}

func metricsText(t *testing.T, c *Chain) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(families)
}

// All series exist at zero from the start, and each answer is counted once.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	s := proxytest.New(t, m)
	cfg := impatient(s.URL + ",https://b.test,file:///nowhere")
	cfg.Retries = -1
	c := newChain(t, cfg)
	name := strings.TrimPrefix(s.URL, "http://")
	for _, upstream := range []string{name, "b.test", "file", "sumdb"} {
		for _, code := range codes {
			if n := counter(t, c, upstream, code); n != 0 {
				t.Errorf("%s %s: %v", upstream, code, n)
			}
		}
		if gauge(t, c, upstream) != 0 {
			t.Errorf("%s: circuit", upstream)
		}
	}
	for code, fault := range map[string]proxytest.Fault{
		"2xx": nil, "3xx": proxytest.Status(304, ""), "403": proxytest.Status(451, ""),
		"429": proxytest.Status(429, ""), "4xx": proxytest.Status(400, ""), "5xx": proxytest.Status(502, ""),
		"timeout": proxytest.Stall(-1), "error": proxytest.Reset(0),
	} {
		s.SetFault("*", fault)
		before := counter(t, c, name, code)
		_ = askInfo(t, c)
		if n := counter(t, c, name, code) - before; n != 1 {
			t.Errorf("%s: counted %v", code, n)
		}
	}
}
