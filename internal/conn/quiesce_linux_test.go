package conn

import (
	"net"
	"testing"
	"time"
)

// TestQuiesce connects to a listener whose Accept nobody has called yet.
func TestQuiesce(t *testing.T) {
	const queued = 10
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) {
			var cfg net.ListenConfig
			cfg.SetMultipathTCP(false)
			inner, err := cfg.Listen(t.Context(), network, "localhost:0")
			if err != nil {
				t.Skip("there is no such network: ", err)
			}
			l := NewListener(inner, Patience)
			defer l.Close()
			for range queued {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
			quiet := make(chan struct{})
			go func() { defer close(quiet); l.Quiesce(t.Context()) }()
			waiting := queued
			for deadline := time.Now().Add(10 * time.Second); ; waiting++ {
				c, err := net.DialTimeout("tcp", l.Addr().String(), 100*time.Millisecond)
				if err != nil {
					break
				}
				c.Close()
				if time.Now().After(deadline) {
					t.Fatal("connections begin for ever")
				}
			}
			inner.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
			for range waiting {
				select {
				case <-quiet:
					t.Fatal("somebody waits in the queue")
				default:
				}
				c, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
			<-quiet
		})
	}
}
