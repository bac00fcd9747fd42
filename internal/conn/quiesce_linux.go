package conn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// newConnections is a classic BPF program (bpf(4)) on the packets of a listener,
// which begin with the header of TCP: it drops those that have SYN and not ACK.
var newConnections = [...]unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13}, // the flags
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
}

// refuseNew lets no connection begin at a listener, and reports whether it can.
func refuseNew(listener syscall.RawConn) (done bool) {
	filter := newConnections
	_ = listener.Control(func(socket uintptr) {
		done = unix.SetsockoptSockFprog(int(socket), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}) == nil
	})
	return done
}

// queueLength is how many connections wait for Accept (tcp(7), TCP_INFO; of a
// listener tcpi_unacked is that).
func queueLength(listener syscall.RawConn) (n int) {
	_ = listener.Control(func(socket uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(socket), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Unacked)
		}
	})
	return n
}
