package main

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// begin starts c as a child that is killed when this process dies, in whatever
// way: a test binary that was killed runs no clean-up.
func begin(c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done := make(chan error)
	nursery() <- func() { done <- c.Start() }
	return <-done
}

// nursery returns the way to the thread that starts children. The kernel sends
// the signal when the thread that has started the child ends, and Go may end any
// but this one before the process (go.dev/issue/27505).
var nursery = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// TestChildrenDieWithUs kills a process like this one that has started a server.
func TestChildrenDieWithUs(t *testing.T) {
	const env = "MODGATE_TEST_PARENT"
	if dir := os.Getenv(env); dir != "" {
		i, err := launch(nil, dir, "--upstream=off", "--sumdb=off")
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("\nserver " + strings.TrimPrefix(i.url, "http://") + "\n")
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), env+"="+t.TempDir())
	out, err := c.Output()
	_, address, found := strings.Cut(string(out), "\nserver ")
	if err == nil || !found {
		t.Fatalf("%v: %s", err, out)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", strings.TrimSpace(address))
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(end) {
			t.Fatal("the server has outlived the one who started it")
		}
	}
}
