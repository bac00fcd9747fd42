package conn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestLaterAnswersHaveADeadline: net/http takes the deadline of an answer away
// behind it, and one that comes soon after it must have one all the same.
func TestLaterAnswersHaveADeadline(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Second} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cut := make(chan error, 1)
		s := &http.Server{
			WriteTimeout: timeout, // as BoundStreams sets it
			ConnContext:  Context,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/small" {
					return
				}
				var err error
				for err == nil {
					_, err = w.Write(make([]byte, 64<<10))
				}
				cut <- err
			}),
		}
		go s.Serve(NewListener(inner, time.Second))
		defer s.Close()
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 3 {
			fmt.Fprintf(c, "GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := c.Read(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
		select {
		case err := <-cut:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("with WriteTimeout %s, a client that reads nothing holds a connection for ever", timeout)
		}
	}
}

// TestSoonerDeadline: who closes a connection of TLS wants to be done soon, however
// patient the connection is.
func TestSoonerDeadline(t *testing.T) {
	for name, set := range map[string]func(net.Conn, time.Time) error{
		"for writing": net.Conn.SetWriteDeadline,
		"for both":    net.Conn.SetDeadline,
	} {
		t.Run(name, func(t *testing.T) {
			server, _ := pair(t, time.Minute)
			if _, err := io.WriteString(server, "hello"); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := set(server, start.Add(200*time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			var err error
			for err == nil {
				_, err = server.Write(make([]byte, 64<<10))
			}
			if d := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || d > 20*time.Second {
				t.Errorf("%v after %s", err, d)
			}
			if err := set(server, time.Time{}); err != nil {
				t.Fatal(err)
			}
			if err := server.(*conn).renew(); err != nil || server.(*conn).renewed.Load() == 0 {
				t.Errorf("the deadline for progress does not come back: %v", err)
			}
		})
	}
}
