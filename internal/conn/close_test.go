package conn

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestLastWordsOverTLS: what is written right before a connection of TLS is closed
// arrives, and so does the alert that says that no more comes.
func TestLastWordsOverTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	for range 50 {
		below, client := gatherers(t)
		server := tls.Server(below, s.TLS)
		heard := make(chan error, 1)
		go func() {
			b, err := io.ReadAll(tls.Client(client, &tls.Config{InsecureSkipVerify: true}))
			if err == nil && string(b) != "goodbye" {
				err = fmt.Errorf("%q", b)
			}
			heard <- err
		}()
		if err := server.Handshake(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(server, "goodbye"); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-heard; err != nil {
			t.Fatalf("the client has heard: %v", err)
		}
	}
}

// TestADeadlineThatIsOverCutsNothing: tls.Conn sets one behind its last alert, and
// what was written before may not have left by then.
func TestADeadlineThatIsOverCutsNothing(t *testing.T) {
	server, client := gatherers(t)
	server.gathering.turn.Lock() // whoever sends soon comes later
	if _, err := io.WriteString(server, "goodbye"); err != nil {
		t.Fatal(err)
	}
	if err := server.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	server.gathering.turn.Unlock()
	got := make([]byte, len("goodbye"))
	client.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "goodbye" {
		t.Errorf("%q: %v", got, err)
	}
}

// TestNothingIsGatheredForWhoIsBehind: nobody is told that bytes have left that wait
// for the kernel; net/http closes a connection a second after it believes so. For a
// client that has caught up they are gathered again.
func TestNothingIsGatheredForWhoIsBehind(t *testing.T) {
	server, client := gatherers(t)
	var believed atomic.Int64
	var enough atomic.Bool
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && !enough.Load() {
			_, err = server.Write(make([]byte, 1000))
			believed.Add(1000)
		}
		ended <- err
	}()
	await(t, "a client that reads nothing takes everything", func() bool { return server.stuck(200 * time.Millisecond) })
	if told, left := believed.Load(), server.written.Load(); told > left {
		t.Errorf("%d bytes have left, it is said, and %d have", told, left)
	}
	go io.Copy(io.Discard, client)
	await(t, "nothing is gathered for a client that has caught up", func() bool {
		server.gathering.mu.Lock()
		defer server.gathering.mu.Unlock()
		return !server.gathering.behind
	})
	enough.Store(true)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	server.Close()
}

// await waits until done, for 20 seconds.
func await(t *testing.T, otherwise string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
		<-time.After(time.Millisecond)
	}
}
