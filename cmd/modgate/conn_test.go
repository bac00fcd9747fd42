package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pair returns both ends of a TCP connection with small buffers, the server's
// with the given patience.
func pair(t *testing.T, patience time.Duration) (server net.Conn, client *net.TCPConn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := progressListener{inner, patience}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); server.Close() })
	client = dialed.(*net.TCPConn)
	client.SetReadBuffer(128 << 10)
	server.(*progressConn).Conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
	return server, client
}

// body is what is sent: as bytes, as a file, as part of one.
func bodies(t *testing.T, size int) (data []byte, open map[string]func() io.Reader) {
	t.Helper()
	data = make([]byte, size)
	rand.Read(data)
	name := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file := func() *os.File {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	return data, map[string]func() io.Reader{
		"bytes":           func() io.Reader { return struct{ io.Reader }{bytes.NewReader(data)} },
		"file":            func() io.Reader { return file() },
		"limited file":    func() io.Reader { return io.LimitReader(file(), int64(size)) },
		"file, no writer": func() io.Reader { return struct{ *os.File }{file()} },
	}
}

func TestStalledClientIsCut(t *testing.T) {
	_, open := bodies(t, 16<<20)
	for name, body := range open {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, _ := pair(t, 200*time.Millisecond)
			start := time.Now()
			_, err := io.Copy(server, body())
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("got %v, want a deadline", err)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("cut after %v", d)
			}
		})
	}
}

// TestSlowClientGetsEverything reads so slowly that the deadline passes many
// times within one body, but never without leastProgress in between.
func TestSlowClientGetsEverything(t *testing.T) {
	data, open := bodies(t, 2<<20)
	for name, body := range open {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const patience = time.Second
			server, client := pair(t, patience)
			sent := make(chan error, 1)
			go func() {
				_, err := io.Copy(server, body())
				sent <- errors.Join(err, server.Close())
			}()
			var got bytes.Buffer
			pace := time.NewTicker(patience / 10)
			defer pace.Stop()
			start := time.Now()
			for {
				_, err := io.CopyN(&got, client, 64<<10)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("after %d bytes: %v; the server: %v", got.Len(), err, <-sent)
				}
				<-pace.C
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), data) {
				t.Fatalf("%d bytes came, of %d, or others", got.Len(), len(data))
			}
			if d := time.Since(start); d < 2*patience {
				t.Errorf("done after %v: the deadline has not passed, nothing was tested", d)
			}
		})
	}
}

// steps is a connection whose ReadFrom sends so many bytes of a file at a time
// until a deadline passes, and the rest when the steps are over.
type steps struct {
	*net.TCPConn
	steps     []int64
	keepsFile bool // the offset of the file does not move by what was sent
	renewed   int
}

func (s *steps) SetWriteDeadline(time.Time) error { s.renewed++; return nil }

func (s *steps) ReadFrom(src io.Reader) (int64, error) {
	if len(s.steps) == 0 {
		return io.Copy(io.Discard, src)
	}
	n := s.steps[0]
	s.steps = s.steps[1:]
	if !s.keepsFile {
		io.CopyN(io.Discard, src, n)
	}
	return n, os.ErrDeadlineExceeded
}

func TestWhatCountsAsProgress(t *testing.T) {
	const size = 1 << 20
	for name, c := range map[string]struct {
		conn steps
		sent int64
		err  error
	}{
		"no deadline passes":    {steps{}, size, nil},
		"just enough, twice":    {steps{steps: []int64{leastProgress, leastProgress}}, size, nil},
		"a byte too little":     {steps{steps: []int64{leastProgress, leastProgress - 1}}, 2*leastProgress - 1, os.ErrDeadlineExceeded},
		"nothing":               {steps{steps: []int64{0}}, 0, os.ErrDeadlineExceeded},
		"read but maybe unsent": {steps{steps: []int64{leastProgress}, keepsFile: true}, leastProgress, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			_, open := bodies(t, size)
			for _, body := range []string{"file, no writer", "limited file"} {
				tcp := c.conn
				conn := &progressConn{tcp: &tcp, patience: time.Nanosecond, start: time.Now()}
				n, err := conn.ReadFrom(open[body]())
				if n != c.sent || !errors.Is(err, c.err) || tcp.renewed != len(c.conn.steps)-len(tcp.steps)+btoi(err == nil) {
					t.Errorf("%s: %d bytes, %v, %d deadlines; want %d, %v", body, n, err, tcp.renewed, c.sent, c.err)
				}
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestProgressConnKeepsWaysOut(t *testing.T) {
	server, _ := pair(t, time.Second)
	if _, ok := server.(io.ReaderFrom); !ok {
		t.Error("no ReadFrom: net/http does not use sendfile")
	}
	if _, ok := server.(interface{ CloseWrite() error }); !ok {
		t.Error("no CloseWrite: net/http resets connections that it should close")
	}
}

func BenchmarkProgressConnWrite(b *testing.B) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	l := progressListener{inner, writePatience}
	go func() {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err == nil {
			io.Copy(io.Discard, c)
		}
	}()
	c, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	p := make([]byte, 1200)
	for name, w := range map[string]io.Writer{"plain": c.(*progressConn).tcp, "progress": c} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if _, err := w.Write(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
