//go:build !linux

package conn

// writeMore is Write: elsewhere nothing is known to be worth waiting for.
func (c *conn) writeMore(p []byte) (int, error) { return c.tcp.Write(p) }
