package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
)

const clusterScript = "../../tools/cluster.sh"

// portsForScript returns the first of the ports that the script listens on.
func portsForScript(t *testing.T) int {
	t.Helper()
	for range 50 {
		first, _ := strconv.Atoi(sharedtest.FreePorts(t, 1)[0])
		free := true
		for _, n := range []int{0, 1, 2, 10, 11, 20, 21, 30, 31} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first+n))
			if free = free && err == nil; err == nil {
				l.Close()
			}
		}
		if free {
			return first
		}
	}
	t.Fatal("no ports are free")
	return 0
}

// TestClusterScript runs what `make cluster` does: a fleet that shares a Redis
// and a bucket, which can be looked at, and of which nothing is left at the end.
func TestClusterScript(t *testing.T) {
	if testing.Short() {
		t.Skip("starts six servers")
	}
	sharedtest.NewS3(t) // says what is missing, if anything is
	w := newWorld(t)
	program, err := exec.LookPath("modgate")
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), portsForScript(t)
	at := func(n int) string { return "http://127.0.0.1:" + strconv.Itoa(port+n) }
	cmd := exec.Command(clusterScript, append(w.flags(), "--cache-redis-timeout=5s", "--cache-s3-timeout=10s")...) // a busy machine is no trouble
	cmd.Env = append(os.Environ(), "MODGATE="+program, "DIR="+dir, "PORT="+strconv.Itoa(port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	said := func() string {
		text, _ := os.ReadFile(output.Name())
		return string(text)
	}
	until(t, "the script is ready: "+output.Name(), func() bool { return strings.Contains(said(), "what is kept") })

	const zip = "/example.com/greet/@v/v1.0.0.zip"
	for range 2 {
		for _, n := range []int{0, 10, 20, 30} {
			if code, text := get(t, at(n)+zip); code != 200 {
				t.Errorf("%s: %d %.200s", at(n), code, text)
			}
		}
	}
	if n := w.upstream.Count(zip); n != 1 {
		t.Errorf("the zip was fetched %d times", n)
	}
	_, line, _ := strings.Cut(said(), "what is kept ")
	line, _, _ = strings.Cut(line, "\n")
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil || !strings.Contains(string(out), dir+"/cache1\n") || !strings.Contains(string(out), "\nbucket\n") || !strings.Contains(string(out), "\nredis\n") {
		t.Errorf("%s: %v\n%s", line, err, out)
	}

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the script ends with %v:\n%s", err, said())
		}
	case <-time.After(time.Minute):
		t.Fatalf("the script does not end:\n%s", said())
	}
	if err := syscall.Kill(-cmd.Process.Pid, 0); err == nil {
		t.Error("something that it has started still runs")
	}
}

// What stands in front of a fleet is the same in the documentation, in the script
// and in the tests.
func TestLoadBalancerIsTheDocumentedOne(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	doc, script := read("../../docs/shared-cache.md"), strings.ReplaceAll(read(clusterScript), `\$`, "$")
	_, block, _ := strings.Cut(doc, "\n  location / {\n")
	block, _, ok := strings.Cut(block, "\n  }\n")
	if !ok {
		t.Fatal("the documentation has no block of nginx")
	}
	for line := range strings.SplitSeq(block, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		for where, text := range map[string]string{"the script": script, "the tests": sharedtest.NginxConfig} {
			if !strings.Contains(text, " "+line+"\n") {
				t.Errorf("%s has no %q", where, line)
			}
		}
	}
}
