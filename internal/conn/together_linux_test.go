package conn

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// segments returns how many with data have left c.
func segments(t *testing.T, c *conn) (n int) {
	t.Helper()
	var err error
	if cerr := c.raw.Control(func(socket uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(socket), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Data_segs_out)
		}
	}); cerr != nil || err != nil {
		t.Error(cerr, err)
	}
	return n
}

// watched tells how many segments had left when the kernel was first to send it.
type watched struct {
	Sender
	before func() int
	was    *int
}

func (w *watched) Sendfile(socket uintptr, n int64) (int64, error) {
	if w.before != nil {
		*w.was = w.before()
		w.before = nil
	}
	return w.Sender.Sendfile(socket, n)
}

// TestHeaderAndBodyLeaveTogether: the header has not left when the body comes. The
// kernel lets it wait for a fifth of a second; a machine may stand still for longer,
// but not each time.
func TestHeaderAndBodyLeaveTogether(t *testing.T) {
	const header = "HTTP/1.1 200 OK\r\n\r\n"
	data, open := bodies(t, 40<<10)
	for range 20 {
		server, client := pair(t, time.Minute)
		BodyFollows(Context(t.Context(), server))
		if _, err := io.WriteString(server, header); err != nil {
			t.Fatal(err)
		}
		before := segments(t, server.(*conn))
		if n, err := server.(io.ReaderFrom).ReadFrom(open["sender"]()); err != nil || n != int64(len(data)) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		server.Close()
		got, err := io.ReadAll(client)
		if err != nil || string(got) != header+string(data) {
			t.Fatalf("%d bytes, or others: %v", len(got), err)
		}
		if before == 0 {
			return
		}
	}
	t.Error("the header always left first")
}

// TestNetHTTP holds what BodyFollows expects of net/http: that the header, with the
// first 512 bytes of the body, is one write, and the rest another.
func TestNetHTTP(t *testing.T) {
	data, open := bodies(t, 40<<10)
	before := make(chan int, 1)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ConnContext: Context, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/zip")
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		BodyFollows(r.Context())
		was := -1
		c := of(r.Context())
		body := open["sender"]().(*io.LimitedReader)
		body.R = &watched{body.R.(Sender), func() int { return segments(t, c) }, &was}
		io.Copy(w, body)
		before <- was
	})}
	go s.Serve(NewListener(inner, time.Minute))
	defer s.Close()
	for range 20 {
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		fmt.Fprint(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		got, err := io.ReadAll(client)
		if _, body, _ := bytes.Cut(got, []byte("\r\n\r\n")); err != nil || !bytes.Equal(body, data) {
			t.Fatalf("%d bytes of %d, or others: %v", len(body), len(data), err)
		}
		if <-before == 0 {
			return
		}
	}
	t.Error("the header always left before the body")
}
