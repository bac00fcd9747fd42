package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
)

// TestSyncFails lets every fsync fail with EIO. Nothing counts as kept that was
// not, and nobody waits for it in vain.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	later := proxytest.Simple(t, "example.com/later", "v1.0.0")
	w.addTo(t, m, later)
	files := expected(t, m, later)
	i, stop := w.startIn(t, t.TempDir(), "--cache-memory=0")
	mend := i.inject(t, "fsync,fdatasync:error=EIO")
	for range 2 {
		for _, kind := range []string{"info", "mod", "zip"} {
			path := proxytest.Path(t, m.Version, kind)
			i.want(t, path, files[path])
		}
		i.want(t, "/example.com/m/@v/list", files["/example.com/m/@v/list"])
	}
	head := "/sumdb/" + w.log.Name() + "/latest"
	if i.storedFile(head) {
		t.Error("a head that is not on the disk looks as if it were")
	}
	if calls := mend(); !strings.Contains(calls, "EIO (Input/output error) (INJECTED)") {
		t.Fatalf("no fsync failed: this tests nothing: %q", calls)
	}
	if n := i.metric(t, "modgate_sumdb_storage_errors_total"); n == 0 {
		t.Error("nothing is counted")
	}
	if log := i.log(); !strings.Contains(log, "input/output error") || strings.Contains(log, "SECURITY") {
		t.Errorf("the log does not say what is wrong:\n%s", log)
	}

	// The disk is well again, and what could not be kept is.
	path := proxytest.Path(t, later.Version, "zip")
	i.want(t, path, later.Zip)
	if !i.storedFile(path) || !i.storedFile(head) {
		t.Errorf("stored: %t, head: %t", i.storedFile(path), i.storedFile(head))
	}
	if left := strays(t, i.dir); len(left) > 0 {
		t.Errorf("left in the spool: %q", left)
	}
	stop()
}

// inject lets strace spoil system calls of the process. mend ends that and
// returns the calls that were seen. Where strace cannot trace, the test is
// skipped.
func (i *instance) inject(t *testing.T, fault string) (mend func() string) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("NOT TESTED: needs strace on Linux: make setup")
	}
	pid := strconv.Itoa(i.cmd.Process.Pid)
	trace := filepath.Join(t.TempDir(), "trace")
	calls, _, _ := strings.Cut(fault, ":")
	var said bytes.Buffer
	tracer := exec.Command(strace, "-f", "-qq", "-e", "trace="+calls, "-e", "inject="+fault, "-o", trace, "-p", pid)
	tracer.Stderr = &said
	if err := begin(tracer); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); tracer.Wait() }()
	t.Cleanup(func() { tracer.Process.Signal(os.Interrupt); <-ended })
	until(t, "strace traces", func() bool {
		select {
		case <-ended:
			t.Skipf("NOT TESTED: strace cannot trace: %s", &said)
		default:
		}
		// The last thread is seized last.
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%s/task/*/status", pid))
		for _, name := range tasks {
			status, err := os.ReadFile(name)
			if err == nil && bytes.Contains(status, []byte("TracerPid:\t0\n")) {
				return false
			}
		}
		return err == nil && len(tasks) > 0
	})
	return func() string {
		tracer.Process.Signal(syscall.SIGINT)
		<-ended
		data, err := os.ReadFile(trace)
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
}
