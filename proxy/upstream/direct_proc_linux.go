package upstream

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// dieWithParent asks for a signal when the parent dies (prctl(2)).
func dieWithParent() error {
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != parent { // it died before
		return errors.New("the parent has died")
	}
	return nil
}

// ackNow makes the system acknowledge at once what comes next on c. git writes
// a request in pieces and waits with the second for the acknowledgement of the
// first, which Linux otherwise gives after 40 ms.
func ackNow(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // only slower without
	})
}
