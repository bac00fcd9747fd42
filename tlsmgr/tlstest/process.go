package tlstest

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Need returns the path of a program, or skips the test that needs it; with CI
// set it fails the test. tools/setup.sh installs what the tests need.
func Need(tb testing.TB, program string) string {
	tb.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		tb.Fatalf("%s is not there: tools/setup.sh install", program)
	}
	tb.Skipf("needs %s: tools/setup.sh install", program)
	return ""
}

// Process is a program that a test has started. It ends with the test.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// Start starts a program in dir with environ added to ours.
func Start(tb testing.TB, dir string, environ []string, program string, args ...string) *Process {
	tb.Helper()
	p := &Process{ended: make(chan struct{})}
	p.cmd = exec.Command(Need(tb, program), args...)
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), environ...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() { defer close(p.ended); p.cmd.Wait() }()
	tb.Cleanup(p.Stop)
	return p
}

// Write collects the output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// Output returns what the program has written.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Stop kills the program and waits for its end.
func (p *Process) Stop() {
	p.cmd.Process.Kill()
	<-p.ended
}

// Await waits until the program listens on address.
func (p *Process) Await(tb testing.TB, address string) {
	tb.Helper()
	for range 300 {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-p.ended:
			tb.Fatalf("%s has ended:\n%s", p.cmd.Path, p.Output())
		case <-time.After(50 * time.Millisecond):
		}
	}
	tb.Fatalf("%s does not listen on %s:\n%s", p.cmd.Path, address, p.Output())
}

// Ports that Port gives out: below those that the kernel gives to connections and
// to listeners without a port, which could take one before its program does.
const firstPort, ports = 12_000, 20_000

// nextPort makes Port give out each port once, from another one on in each process.
var nextPort = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32N(ports))
	return n
}()

// Port returns a port of 127.0.0.1 that was free for TCP and UDP a moment ago, and
// that it returns to nobody else.
func Port(tb testing.TB) int {
	tb.Helper()
	for range 1000 {
		port := firstPort + int(nextPort.Add(1)%ports)
		l, err := net.Listen("tcp", Loopback(port))
		if err != nil {
			continue
		}
		_ = l.Close()
		if c, err := net.ListenPacket("udp", Loopback(port)); err == nil {
			_ = c.Close()
			return port
		}
	}
	tb.Fatal("no free port")
	return 0
}

// Loopback returns the address of a port of 127.0.0.1.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// portOf returns the port of an address.
func portOf(tb testing.TB, address string) int {
	tb.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	return a.Port
}
