package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestDoctorOnNameServers runs the real commands in a network of their own, whose
// one name server answers everything in the same wrong way, or not at all; and
// from which nothing leads to an address.
func TestDoctorOnNameServers(t *testing.T) {
	const inside = "MODGATE_TEST_NAMES"
	if os.Getenv(inside) == "" {
		inNetwork(t, inside+"=1")
		return
	}
	for _, test := range []struct {
		name, proxy string
		code        int // of all answers (RFC 1035, 4.1.1); below 0: there are none
		says, want  string
	}{
		{"no such name", "https://go.corp.example", 3, "no such host", "dns-not-found"},
		{"it fails", "https://go.corp.example", 2, "server misbehaving", "dns-failure"},
		{"it refuses", "https://go.corp.example", 5, "server misbehaving", "dns-failure"},
		{"it is silent", "https://go.corp.example", -1, "i/o timeout", "dns-silent"},
		{"no route", "https://192.0.2.9", 3, "network is unreachable", "tcp-no-route"},
		{"IPv6 alone", "https://go.corp.example", answerIPv6, "network is unreachable", "tcp-no-route"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answerAll(t, test.code)
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.26\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			environ := slices.DeleteFunc(goEnv(dir, test.proxy, "sum.golang.org"), func(v string) bool { return strings.HasSuffix(v, "=") })
			cmd := exec.Command("go", "mod", "download", "example.com/m@v1.0.0")
			cmd.Dir, cmd.Env = dir, environ
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), test.says) {
				t.Errorf("the go command says %s, %v; want %q", out, err, test.says)
			}
			inTime(t, func() {
				if codes, _, out := examineJSON(t, environ, "example.com/m@v1.0.0"); strings.Join(codes, " ") != test.want {
					t.Errorf("found %q, want %q\n%s", codes, test.want, out)
				}
			})
		})
	}
}

// answerIPv6 stands for answers with an IPv6 address alone.
const answerIPv6 = 100

// ipv6Answer answers a question: with an address if that is for AAAA, else with none.
func ipv6Answer(question []byte) []byte {
	end := 12
	for end < len(question) && question[end] != 0 {
		end += int(question[end]) + 1
	}
	answer := append([]byte(nil), question[:end+5]...)
	answer[2], answer[3] = answer[2]|0x80, 0x80 // an answer, recursion available
	clear(answer[6:12])
	if answer[end+2] == 28 { // AAAA (RFC 3596)
		answer[7] = 1
		answer = append(answer, 0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16)
		answer = append(answer, net.ParseIP("2001:db8::1")...)
	}
	return answer
}

// answerAll answers every question at 127.0.0.1:53 with a code.
func answerAll(t *testing.T, code int) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	t.Cleanup(func() { conn.Close(); served.Wait() })
	served.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			switch {
			case code == answerIPv6 && n > 12:
				conn.WriteTo(ipv6Answer(buf[:n]), from)
			case code >= 0 && n > 3:
				buf[2], buf[3] = buf[2]|0x80, 0x80|byte(code) // an answer, recursion available
				conn.WriteTo(buf[:n], from)
			}
		}
	})
}
