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
		return max(n, 0), werr
	}
	return max(n, 0), err
}
