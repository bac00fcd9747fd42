package conn

import (
	"errors"

	"golang.org/x/sys/unix"
)

// writeMore is Write for what may wait for the bytes after it (send(2),
// MSG_MORE).
func (c *conn) writeMore(p []byte) (n int, err error) {
	werr := c.raw.Write(func(socket uintptr) bool {
		n, err = unix.SendmsgN(int(socket), p, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	if werr != nil {
		return 0, werr
	}
	return max(n, 0), err
}

// queued is what waits in the kernel (tcp(7), SIOCOUTQ).
func (c *conn) queued() int64 {
	n := 0
	_ = c.raw.Control(func(socket uintptr) { n, _ = unix.IoctlGetInt(int(socket), unix.SIOCOUTQ) })
	return int64(n)
}

// holdLess makes the kernel take no more than it can soon send (tcp(7),
// TCP_NOTSENT_LOWAT): where several answers share a connection, each has a
// deadline, and none may pass it behind megabytes of another.
func (c *conn) holdLess() {
	_ = c.raw.Control(func(socket uintptr) {
		_ = unix.SetsockoptInt(int(socket), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 2*LeastProgress)
	})
}
