package conn

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// pair returns both ends of a TCP connection, the server's with the given patience
// and the buffers that the kernel gives, the client's with a small one.
func pair(t *testing.T, patience time.Duration) (server net.Conn, client *net.TCPConn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(inner, patience)
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
	return server, client
}

// sender is a file with Sendfile.
type sender struct{ *os.File }

func (s sender) Sendfile(socket uintptr, n int64) (int64, error) {
	m, err := syscall.Sendfile(int(socket), int(s.Fd()), nil, int(n))
	return int64(max(m, 0)), err
}

// bodies are ways to send the same: as bytes, as a file, by the kernel.
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
		"file, no writer": func() io.Reader { return struct{ *os.File }{file()} },
		"sender":          func() io.Reader { return io.LimitReader(sender{file()}, int64(size)) },
		"short sender":    func() io.Reader { return io.LimitReader(sender{file()}, int64(2*size)) },
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
// times within one body, but never without LeastProgress in between.
func TestSlowClientGetsEverything(t *testing.T) {
	data, open := bodies(t, 8<<20)
	for name, body := range open {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const patience = 300 * time.Millisecond
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

// steps is a connection to whose client so many bytes can be sent at a time, and
// everything when the steps are over. Where a step is 0 the deadline passes.
type steps struct {
	net.TCPConn
	io.Reader
	steps       []int64
	unacked     int64 // of what was sent
	unsupported bool
	renewed     int
	copied      int64
}

func (s *steps) SetWriteDeadline(time.Time) error { s.renewed++; return nil }

func (s *steps) SyscallConn() (syscall.RawConn, error) { return rawSteps{s: s}, nil }

type rawSteps struct {
	syscall.RawConn
	s *steps
}

func (r rawSteps) Write(f func(uintptr) bool) error {
	if !f(0) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (s *steps) Write(p []byte) (int, error) { s.copied += int64(len(p)); return len(p), nil }

func (s *steps) Sendfile(_ uintptr, n int64) (int64, error) {
	if s.unsupported {
		return 0, errors.ErrUnsupported
	}
	if len(s.steps) > 0 {
		n, s.steps = min(n, s.steps[0]), s.steps[1:]
		if n == 0 {
			return 0, syscall.EAGAIN
		}
	}
	return io.CopyN(io.Discard, s.Reader, n)
}

func TestWhatCountsAsProgress(t *testing.T) {
	const size = 1 << 20
	const none = 1 << 40
	for name, c := range map[string]struct {
		conn    steps
		sent    int64
		renewed int
		err     error
	}{
		"all at once":                         {steps{}, size, 1, nil},
		"in pieces":                           {steps{steps: []int64{1, LeastProgress, 1}}, size, 1, nil},
		"the deadline, and all has come":      {steps{steps: []int64{0, 1, 0, 0}}, size, 4, nil},
		"the deadline, and nothing has come":  {steps{steps: []int64{1, 0}, unacked: none}, 1, 1, os.ErrDeadlineExceeded},
		"the deadline, and enough has come":   {steps{steps: []int64{LeastProgress + 1, 0}, unacked: 1}, size, 2, nil},
		"the deadline, and a byte too little": {steps{steps: []int64{LeastProgress, 0}, unacked: 1}, LeastProgress, 1, os.ErrDeadlineExceeded},
		"no such way to the socket":           {steps{unsupported: true}, size, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tcp := c.conn
			tcp.Reader = bytes.NewReader(make([]byte, size))
			conn, err := newConn(&tcp, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			conn.unacked = func() int64 { return tcp.unacked }
			n, err := conn.ReadFrom(io.LimitReader(&tcp, size))
			if n != c.sent || !errors.Is(err, c.err) || tcp.renewed != c.renewed {
				t.Errorf("%d bytes, %v, %d deadlines; want %d, %v, %d", n, err, tcp.renewed, c.sent, c.err, c.renewed)
			}
		})
	}
}

// TestNothingWaits: what is written later is not held back.
func TestNothingWaits(t *testing.T) {
	server, client := pair(t, time.Minute)
	BodyFollows(Context(t.Context(), server))
	for _, s := range []string{"header", "body"} {
		if _, err := io.WriteString(server, s); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, len("headerbody"))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "headerbody" {
		t.Errorf("%q, %v", got, err)
	}
	BodyFollows(t.Context()) // of no connection of ours
}

func TestKeepsWaysOut(t *testing.T) {
	server, _ := pair(t, time.Second)
	if _, ok := server.(io.ReaderFrom); !ok {
		t.Error("no ReadFrom: net/http does not use sendfile")
	}
	if _, ok := server.(interface{ CloseWrite() error }); !ok {
		t.Error("no CloseWrite: net/http resets connections that it should close")
	}
}

func BenchmarkWrite(b *testing.B) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	l := NewListener(inner, Patience)
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
	for name, w := range map[string]io.Writer{"plain": c.(*conn).tcp, "progress": c} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if _, err := w.Write(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
