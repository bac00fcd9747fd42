//go:build unix

package doctor_test

import (
	"net"
	"syscall"
	"time"
)

// full returns the URL of a port at which the kernel drops what comes, as a firewall
// does: nobody takes the connections of a queue that is full.
func (w *world) full() string {
	l := w.listen()
	raw, err := l.(*net.TCPListener).SyscallConn()
	w.check(err)
	w.check(raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }))
	w.check(err)
	for range 8 {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), 500*time.Millisecond)
		if err != nil {
			return "https://localhost:" + portOf(l)
		}
		w.t.Cleanup(func() { conn.Close() })
	}
	w.t.Fatal("the queue is never full")
	return ""
}
