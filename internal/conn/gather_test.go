package conn

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	mrand "math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// gatherers returns both ends of a connection that gathers.
func gatherers(t *testing.T) (server *conn, client *net.TCPConn) {
	t.Helper()
	s, client := pair(t, time.Minute)
	server = s.(*conn)
	server.secure = true
	server.gathers.Store(true)
	return server, client
}

// TestGatheredIsSentInOrder writes pieces of all sizes and closes the connection at
// once: everything arrives, as it was written, before the end.
func TestGatheredIsSentInOrder(t *testing.T) {
	for round := range 100 {
		server, client := gatherers(t)
		data := make([]byte, mrand.IntN(300<<10))
		rand.Read(data)
		got := make(chan []byte)
		go func() {
			b, err := io.ReadAll(client)
			if err != nil {
				t.Error(err)
			}
			got <- b
		}()
		for rest := data; len(rest) > 0; {
			most := []int{100, 2000, 40 << 10}[mrand.IntN(3)]
			n := min(len(rest), 1+mrand.IntN(most))
			if m, err := server.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		if b := <-got; !bytes.Equal(b, data) {
			t.Fatalf("round %d: %d bytes have come of %d, or others", round, len(b), len(data))
		}
	}
}

// TestGatheredFails: a client that leaves is an error of a later write, and ends
// what waits for it.
func TestGatheredFails(t *testing.T) {
	server, client := gatherers(t)
	client.SetLinger(0)
	client.Close()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err := server.Write([]byte("answer")); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody hears that the client has left")
		}
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading goes on: %v", err)
	}
}

// TestClosingWaitsForNobody closes a connection whose client takes nothing.
func TestClosingWaitsForNobody(t *testing.T) {
	server, client := gatherers(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := server.Write(make([]byte, 2*mostGathered)); err != nil {
				return
			}
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); !server.stuck(100 * time.Millisecond); {
		if time.Now().After(deadline) {
			t.Fatal("a client that reads nothing takes everything")
		}
	}
	start := time.Now()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading goes on: %v", err)
	}
	if d := time.Since(start); d > lastWords/2 {
		t.Errorf("it took %s", d)
	}
	<-ended
	client.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, client); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open")
	}
}
