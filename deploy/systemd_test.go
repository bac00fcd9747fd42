package deploy_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unit is a systemd unit: the values of each key, sections aside.
type unit map[string][]string

func readUnit(t *testing.T) unit {
	t.Helper()
	u := unit{}
	for line := range strings.Lines(read(t, "modgate.service")) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

// one returns the value of a key that stands once in the unit.
func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	if len(u[key]) != 1 {
		t.Fatalf("%s stands %d times in the unit, want once", key, len(u[key]))
	}
	return u[key][0]
}

// drain is how long the effective configuration lets a stop take.
func drain(t *testing.T, config string) time.Duration {
	t.Helper()
	var sum time.Duration
	for _, key := range []string{"drain.delay", "drain.timeout"} {
		d, err := time.ParseDuration(effective(t, config)[key])
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		sum += d
	}
	return sum
}

func TestUnitStartsTheBinary(t *testing.T) {
	u := readUnit(t)
	start := strings.Fields(u.one(t, "ExecStart"))
	if filepath.Base(start[0]) != binaryName {
		t.Errorf("ExecStart begins with %q", start[0])
	}
	config := checkServe(t, nil, start[1:])
	if got, want := effective(t, config)["cache.dir"], "/var/cache/"+u.one(t, "CacheDirectory"); got != want {
		t.Errorf("the cache is in %s, and the unit may write to %s alone", got, want)
	}
	stop, err := time.ParseDuration(u.one(t, "TimeoutStopSec"))
	if err != nil || stop < drain(t, config)+5*time.Second {
		t.Errorf("TimeoutStopSec=%v, %v; draining takes %v", stop, err, drain(t, config))
	}
	for key, want := range map[string]string{
		"DynamicUser": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateDevices": "yes", "NoNewPrivileges": "yes",
		"CapabilityBoundingSet": "", "KillSignal": "SIGTERM",
		// Downloads go to /tmp while the cache is full.
		"PrivateTmp": "yes",
	} {
		if got := u.one(t, key); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
}

func TestUnitVerifies(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	binary := tool(t, binaryName)
	file := filepath.Join(t.TempDir(), "modgate.service")
	text := strings.ReplaceAll(read(t, "modgate.service"), "ExecStart=/usr/local/bin/modgate", "ExecStart="+binary)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, nil, analyze, "verify", "--man=no", file); err != nil || strings.Contains(out, "modgate.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// The scale goes from 0 to 100, where 96 is a service without a sandbox.
	if out, err := command(t, nil, analyze, "security", "--offline=yes", "--threshold=15", file); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// What the sandbox forbids, the binary must not need: a whole life of it is
// traced, from start through a module that is fetched, stored and served to
// the drain, and each system call looked up in the unit's filter.
func TestUnitAllowsSystemCalls(t *testing.T) {
	strace := tool(t, "strace")
	allowed := systemCalls(t, tool(t, "systemd-analyze"), readUnit(t)["SystemCallFilter"])
	trace := filepath.Join(t.TempDir(), "trace")
	liveOnce(t, strace, "-f", "-qq", "-o", trace, binaryName)

	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\((.*)$`).FindAllStringSubmatch(string(b), -1) {
		if m[1] == "socket" && !regexp.MustCompile(`^AF_(INET6?|UNIX)`).MatchString(m[2]) {
			t.Errorf("the unit forbids %s(%s", m[1], m[2])
		}
		seen[m[1]] = true
	}
	for _, call := range []string{"accept4", "connect", "openat"} {
		if !seen[call] {
			t.Errorf("no %s in the trace: it did not see the service at work", call)
		}
	}
	for call := range seen {
		if !allowed[call] {
			t.Errorf("the unit forbids %s", call)
		}
	}
}

// systemCalls resolves the filter lines of a unit, a leading ~ taking away.
func systemCalls(t *testing.T, analyze string, filter []string) map[string]bool {
	t.Helper()
	out, err := command(t, nil, analyze, "syscall-filter")
	if err != nil {
		t.Skipf("systemd-analyze syscall-filter: %v", err)
	}
	sets, current := map[string][]string{}, ""
	for line := range strings.Lines(out) {
		word := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "@"):
			current = word
		case word != "" && !strings.HasPrefix(word, "#"):
			sets[current] = append(sets[current], word)
		}
	}
	allowed := map[string]bool{}
	var apply func(name string, allow bool)
	apply = func(name string, allow bool) {
		if !strings.HasPrefix(name, "@") {
			allowed[name] = allow
			return
		}
		if len(sets[name]) == 0 {
			t.Errorf("%s is not a set of system calls", name)
		}
		for _, member := range sets[name] {
			apply(member, allow)
		}
	}
	apply("@default", true)
	for _, line := range filter {
		names, without := strings.CutPrefix(line, "~")
		for _, name := range strings.Fields(names) {
			apply(name, !without)
		}
	}
	return allowed
}

// liveOnce runs the service behind a program such as strace, lets it fetch a
// module from a server of ours and ends it as systemd would.
func liveOnce(t *testing.T, name string, args ...string) {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(oneModule))
	defer upstream.Close()
	address := freeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, name, append(slices.Clone(args), "serve", "--config=off", "--listen="+address,
		"--admin-listen="+freeAddress(t), "--cache-dir="+t.TempDir(), "--upstream="+upstream.URL, "--sumdb=off")...)
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, error) {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	for ready := false; !ready && ctx.Err() == nil; {
		if code, _ := get("/readyz"); code == http.StatusOK {
			ready = true
		} else {
			<-time.After(20 * time.Millisecond)
		}
	}
	for _, path := range []string{"info", "mod", "zip", "zip"} {
		if code, err := get("/example.com/m/@v/v1.0.0." + path); code != http.StatusOK || err != nil {
			t.Errorf("GET v1.0.0.%s: %d, %v", path, code, err)
		}
	}
	// To the whole group: strace alone would let go of the service.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil && ctx.Err() != nil || t.Failed() {
		t.Errorf("the service ended with %v and said\n%s", err, &log)
	}
}

// oneModule is a GOPROXY with one version of one module.
func oneModule(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/example.com/m/@v/v1.0.0.info":
		fmt.Fprint(w, `{"Version":"v1.0.0","Time":"2026-01-02T03:04:05Z"}`)
	case "/example.com/m/@v/v1.0.0.mod":
		fmt.Fprint(w, "module example.com/m\n")
	case "/example.com/m/@v/v1.0.0.zip":
		z := zip.NewWriter(w)
		f, err := z.Create("example.com/m@v1.0.0/go.mod")
		if err == nil {
			fmt.Fprint(f, "module example.com/m\n")
		}
		z.Close()
	default:
		http.NotFound(w, r)
	}
}

// freeAddress returns a loopback address that nobody listened on just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
