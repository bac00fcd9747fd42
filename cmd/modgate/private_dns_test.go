package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestPrivateNamesInDNS is TestPrivateSession in a network of its own, where a
// resolver hears every name: those of hosts that must be reached, and nothing
// that only a module path could have told.
func TestPrivateNamesInDNS(t *testing.T) {
	const inside = "MODGATE_TEST_INSIDE"
	if os.Getenv(inside) == "" {
		inNetwork(t, inside+"=1")
		return
	}
	names := serveDNS(t)
	c := newCompany(t)
	forwardTo(t, "127.0.0.1:443", c.git.Addr)
	rules := "networks: [127.0.0.1]\ncredentials:\n  - {match: git.corp.example, username: ci, password: s3cret}\n"
	if err := os.WriteFile(c.rules, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	upstream := strings.Replace(c.upstream.URL, "127.0.0.1", "mirror.example.net", 1)
	// A proxy that would fail everything, and nobody asks: NO_PROXY is heeded by
	// go-import lookups, the list of refs and git alike.
	environ := []string{"HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1", "NO_PROXY=.corp.example"}
	i := c.launch(t, environ, "--upstream="+upstream)
	c.session(t, i, strings.Replace(i.url, "127.0.0.1", "modgate.example.net", 1))
	heard := names()
	for _, name := range heard {
		if !slices.Contains([]string{"git.corp.example", "mirror.example.net", "modgate.example.net"}, name) {
			t.Errorf("the resolver has learned %q", name)
		}
	}
	if !slices.Contains(heard, "git.corp.example") || !slices.Contains(heard, "mirror.example.net") {
		t.Errorf("the resolver heard only %q: this test sees nothing", heard)
	}
}

// inNetwork runs this test alone in a network and a mount namespace of its own,
// whose one resolver is at 127.0.0.1.
func inNetwork(t *testing.T, env string) {
	t.Helper()
	unshare, err := exec.LookPath("unshare")
	if runtime.GOOS != "linux" || err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("NOT RUN: needs root and unshare")
		}
		t.Skip("NOT RUN: needs root and unshare on Linux")
	}
	resolver := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolver, []byte("nameserver 127.0.0.1\noptions timeout:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("ip link set lo up && mount --bind %s /etc/resolv.conf && exec \"$@\"", resolver)
	cmd := exec.Command(unshare, "--mount", "--net", "sh", "-c", script, "sh", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, lastLines(string(out), 60))
	}
}

// forwardTo gives the server at far the address near, too.
func forwardTo(t *testing.T, near, far string) {
	t.Helper()
	l, err := net.Listen("tcp", near)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	t.Cleanup(func() { l.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", far)
				if err != nil {
					return
				}
				defer out.Close()
				conns.Go(func() { io.Copy(out, in); out.(*net.TCPConn).CloseWrite() })
				io.Copy(in, out)
			})
		}
	})
}

// serveDNS answers every question for an IPv4 address with 127.0.0.1 (RFC 1035
// §4) and returns what gives the names that were asked for.
func serveDNS(t *testing.T) (names func() []string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu     sync.Mutex
		heard  = map[string]bool{}
		server sync.WaitGroup
	)
	t.Cleanup(func() { conn.Close(); server.Wait() })
	server.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			name, answer, ok := answerDNS(buf[:n])
			if !ok {
				continue
			}
			mu.Lock()
			heard[name] = true
			mu.Unlock()
			conn.WriteTo(answer, from)
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		var all []string
		for name := range heard {
			all = append(all, name)
		}
		slices.Sort(all)
		return all
	}
}

func answerDNS(query []byte) (name string, answer []byte, ok bool) {
	if len(query) < 12 {
		return "", nil, false
	}
	var labels []string
	at := 12
	for at < len(query) && query[at] != 0 {
		end := at + 1 + int(query[at])
		if end > len(query) {
			return "", nil, false
		}
		labels = append(labels, string(query[at+1:end]))
		at = end
	}
	if at+5 > len(query) {
		return "", nil, false
	}
	question := query[12 : at+5]
	answers := uint16(0)
	if binary.BigEndian.Uint16(query[at+1:]) == 1 { // A
		answers = 1
	}
	answer = append(answer, query[0], query[1], 0x81, 0x80, 0, 1, 0, byte(answers), 0, 0, 0, 0)
	answer = append(answer, question...)
	if answers == 1 {
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
	}
	return strings.ToLower(strings.Join(labels, ".")), answer, true
}
