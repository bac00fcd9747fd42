// Package sharedtest runs what a fleet of replicas shares, for tests, on
// loopback: real Redis servers (one, with Sentinels, a Cluster), a real S3
// server, and a proxy that does to it what networks do.
package sharedtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TB is what is needed of testing.TB. Fatalf and Skipf do not return.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(f func())
	TempDir() string
	Context() context.Context
}

// need returns the path of a program, or skips the test loudly.
func need(t TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if path, e := exec.LookPath("/usr/sbin/" + name); e == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("NOT RUN: needs %s (make setup): %v", name, err)
	}
	t.Skipf("NOT RUN: needs %s (make setup): %v", name, err)
	return ""
}

// process is a server that a test has started.
type process struct {
	t    TB
	args []string
	env  []string
	log  buffer

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// start runs args, and ends it with the test.
func start(t TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, args: args, env: append(os.Environ(), env...)}
	p.start()
	t.Cleanup(p.Kill)
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.env, &p.log, &p.log
	p.cmd.WaitDelay = time.Second
	// What a test starts must not outlive it, however that ends.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("%s: %v", p.args[0], err)
	}
	p.done = make(chan struct{})
	cmd, done := p.cmd, p.done
	go func() { _ = cmd.Wait(); close(done) }()
}

// Kill ends the process as a crash does. It may be repeated.
func (p *process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// Ended reports whether the process has ended.
func (p *process) Ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Hang stops the process without ending it, until Resume.
func (p *process) Hang() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a process go on after Hang.
func (p *process) Resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// await calls ready until it returns nil.
func (p *process) await(ready func() error) {
	p.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-p.done:
			p.t.Fatalf("%s has ended: %v\n%s", p.args[0], err, p.log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s is not ready: %v\n%s", p.args[0], err, p.log.String())
		}
	}
}

// FreePorts returns n ports of loopback that nobody listens on.
func FreePorts(t TB, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("listen: %v", err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

// buffer is a bytes.Buffer for two writers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// run runs a command to its end and returns its output.
func run(t TB, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func dial(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	return c.Close()
}
