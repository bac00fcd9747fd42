package conn

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

const (
	headerTime = 10 * time.Second
	bodyTime   = 20 * time.Second
	idleTime   = 3 * time.Minute
)

// slowly answers at once, or /long after an hour. A body gets bodyTime.
func slowly(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > 0 {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		w.Header().Set("Connection", "close")
	}
	if r.URL.Path == "/long" {
		select {
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-time.After(time.Hour):
		}
	}
}

// handed is a listener of connections that are handed to it.
type handed chan net.Conn

func (handed) Close() error   { return nil }
func (handed) Addr() net.Addr { return &net.TCPAddr{} }
func (l handed) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// get sends a request and reads its answer.
func get(t *testing.T, client net.Conn, path string) {
	t.Helper()
	fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	answer := make([]byte, 1000)
	if n, err := client.Read(answer); err != nil || string(answer[9:12]) != "200" {
		t.Errorf("%s: %q, %v", path, answer[:n], err)
	}
}

// trickle sends begin, and then a byte each second.
func trickle(client net.Conn, begin string) {
	_, err := io.WriteString(client, begin)
	for err == nil {
		time.Sleep(time.Second)
		_, err = client.Write([]byte("x"))
	}
}

// TestTimeoutsOfNetHTTP: a server cuts a client when it is configured to, whatever
// the poller has been spared before that, and nobody else.
func TestTimeoutsOfNetHTTP(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	s.Close()
	over := map[string][2]func(net.Conn) net.Conn{
		"TCP": {func(c net.Conn) net.Conn { return c }, func(c net.Conn) net.Conn { return c }},
		"TLS": {
			func(c net.Conn) net.Conn { return tls.Server(c, &tls.Config{Certificates: s.TLS.Certificates}) },
			func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) },
		},
		"TLS that does not begin": {
			func(c net.Conn) net.Conn { return tls.Server(c, &tls.Config{Certificates: s.TLS.Certificates}) },
			func(c net.Conn) net.Conn { return c },
		},
	}
	const header = "GET / HTTP/1.1\r\nX: "
	for name, row := range map[string]struct {
		paths []string      // that are asked for first
		pause time.Duration // before each but the first, and before what follows
		then  string        // is begun, and goes on slowly
		want  time.Duration // until the client is cut
	}{
		"nothing is sent":                      {want: headerTime},
		"a slow header":                        {then: header, want: headerTime},
		"a slow header behind a long pause":    {[]string{"/"}, idleTime - time.Second, header, headerTime},
		"nothing is sent behind a request":     {[]string{"/"}, 0, "", idleTime},
		"nothing is sent behind long pauses":   {[]string{"/", "/", "/"}, idleTime - time.Second, "", time.Second},
		"nothing is sent behind a long answer": {[]string{"/", "/long"}, 0, "", idleTime},
		"a slow body":                          {[]string{"/"}, time.Minute, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", bodyTime},
	} {
		for kind, wrap := range over {
			if kind == "TLS that does not begin" && name != "nothing is sent" {
				continue
			}
			t.Run(name+", "+kind, func(t *testing.T) {
				piped(t, func(t *testing.T, c *conn, _ *pipe, below net.Conn) {
					c.patience, c.unacked = Patience, func() int64 { return 0 }
					s := &http.Server{
						ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, Handler: http.HandlerFunc(slowly),
						ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
					}
					l, client := make(handed, 1), wrap[1](below)
					l <- wrap[0](c)
					go s.Serve(l)
					defer time.Sleep(time.Minute) // all goroutines have ended
					defer close(l)
					defer client.Close()
					for i, path := range row.paths {
						if i > 0 {
							time.Sleep(row.pause)
						}
						get(t, client, path)
					}
					time.Sleep(row.pause)
					begin := time.Now()
					if row.then != "" {
						go trickle(client, row.then)
					}
					io.Copy(io.Discard, client)
					// net/http lingers for half a second where not all was read.
					if after := time.Since(begin); after < row.want || after > row.want+time.Second {
						t.Errorf("cut after %s, want %s", after, row.want)
					}
				})
			})
		}
	}
}
