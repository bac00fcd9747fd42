//go:build !linux

package conn

import "syscall"

// writeMore is Write: elsewhere nothing is known to be worth waiting for.
func (c *conn) writeMore(p []byte) (int, error) { return c.tcp.Write(p) }

// queued is unknown: what the kernel has taken counts as confirmed.
func (c *conn) queued() int64 { return 0 }

func (c *conn) holdLess() {}

func refuseNew(syscall.RawConn) bool { return false }

func queueLength(syscall.RawConn) int { return 0 }
