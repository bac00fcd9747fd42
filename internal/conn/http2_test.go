package conn

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// overHTTP2 serves h by net/http with TLS on a Listener. The client has one
// connection, made by dial.
func overHTTP2(t *testing.T, h http.HandlerFunc, dial func(address string) (net.Conn, error)) (*http.Server, *http.Client) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certificates := httptest.NewUnstartedServer(nil)
	certificates.StartTLS()
	t.Cleanup(certificates.Close)
	s := &http.Server{Handler: h, ConnContext: Context, TLSConfig: &tls.Config{Certificates: certificates.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}}
	BoundStreams(s, time.Minute)
	go s.ServeTLS(NewListener(inner, time.Minute), "", "")
	t.Cleanup(func() { s.Close() })
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return dial(inner.Addr().String())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{Transport: transport}
}

func dialTCP(address string) (net.Conn, error) { return net.Dial("tcp", address) }

// body is n bytes that tell where they belong.
func body(n int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%08d", n)), n/8+1)[:n]
}

func serveBody(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	w.Header().Set("Content-Length", strconv.Itoa(n))
	for rest := body(n); len(rest) > 0; {
		m, err := w.Write(rest[:min(len(rest), 1+rand.IntN(64<<10))])
		if rest = rest[m:]; err != nil {
			return
		}
	}
}

func ask(client *http.Client, n int) error {
	resp, err := client.Get("https://modgate.test/?n=" + strconv.Itoa(n))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.ProtoMajor != 2 || !bytes.Equal(got, body(n))) {
		err = fmt.Errorf("%s: %d bytes of %d, or others", resp.Proto, len(got), n)
	}
	return err
}

// TestManyStreams asks for small and large bodies at a time on one connection, and
// some clients leave in between.
func TestManyStreams(t *testing.T) {
	_, client := overHTTP2(t, serveBody, dialTCP)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			for range 5 {
				if i%10 == 0 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(int(20*time.Millisecond))))
					req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://modgate.test/?n=1000000", nil)
					if resp, err := client.Do(req); err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
					cancel()
					continue
				}
				if err := ask(client, []int{0, 1, 300, 5000, 16 << 10, 50_000, 700_000}[rand.IntN(7)]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// TestIdleConnectionsHoldNoBuffer: what a connection gathers goes back when it is
// sent, so thousands that are kept for later cost no more than in net/http.
func TestIdleConnectionsHoldNoBuffer(t *testing.T) {
	const many = 200
	var mu sync.Mutex
	var conns []*conn
	seen := map[*conn]bool{}
	h := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if c := of(r.Context()); !seen[c] {
			seen[c], conns = true, append(conns, c)
		}
	}
	_, first := overHTTP2(t, h, dialTCP)
	clients := []*http.Client{first}
	for range many - 1 {
		transport := first.Transport.(*http.Transport).Clone()
		t.Cleanup(transport.CloseIdleConnections)
		clients = append(clients, &http.Client{Transport: transport})
	}
	for _, c := range clients {
		resp, err := c.Get("https://modgate.test/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if len(conns) != many {
		t.Fatalf("%d connections", len(conns))
	}
	for _, c := range conns {
		await(t, "a connection that is idle holds a buffer", func() bool {
			c.gathering.mu.Lock()
			defer c.gathering.mu.Unlock()
			return c.gathering.pending == nil && !c.gathering.coming
		})
	}
}
