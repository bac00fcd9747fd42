package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// Replicas that start at one moment order once, and all serve what one has got.
func TestOneOrder(t *testing.T) {
	for _, n := range []int{2, 6} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			f := newFleet(t, inRedis(t)...)
			started := make(chan error, n)
			replicas := make([]*instance, n)
			up := make(chan string, n)
			forward(t, f.pebble.TLSAddr, up)
			for k := range replicas {
				dir := t.TempDir()
				go func() {
					var err error
					if replicas[k], err = launch(nil, dir, f.flags("127.0.0.1:0", "--tls-profile=default")...); err == nil {
						up <- strings.TrimPrefix(replicas[k].url, "http://")
					}
					started <- err
				}()
			}
			for range replicas {
				if err := <-started; err != nil {
					t.Fatal(err)
				}
			}
			pool, seen := f.pebble.Pool(t), map[string]bool{}
			for _, i := range replicas {
				seen[awaitSerial(t, i, pool)] = true
				if err := i.stop(); err != nil {
					t.Error(err)
				}
			}
			if orders := f.pebble.Orders(); orders != 1 || len(seen) != 1 {
				t.Errorf("%d orders, %d certificates", orders, len(seen))
			}
		})
	}
}

// forward brings connections to address to the first that comes from up, as a
// load balancer does: the CA reaches that one, whoever orders.
func forward(t *testing.T, address string, up <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		first := <-up
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", first)
			if err != nil {
				near.Close()
				continue
			}
			go func() { io.Copy(far, near); far.Close() }()
			go func() { io.Copy(near, far); near.Close() }()
		}
	}()
}

// A disk that is full when the certificate comes does not lose it: it is served,
// and stored when there is room.
func TestTLSStorageFull(t *testing.T) { mounted(t, "size=24k,mode=700", testTLSStorageFull) }

func testTLSStorageFull(t *testing.T, dir string) {
	f := newFleet(t, "--tls-storage="+dir, "--tls-profile=default")
	fill := fillDisk(t, dir)
	i := f.start(t, f.pebble.TLSAddr)
	status := func() string { return i.command(t, "tls", "status", "--admin="+i.admin) }
	i.await(t, "the storage of certificates does not work")
	if out := status(); !strings.Contains(out, "no space left on device") {
		t.Errorf("no room for a record:\n%s", out)
	}
	if n := f.pebble.Orders(); n != 0 {
		t.Errorf("%d orders that could not be kept", n)
	}
	fill()
	// There is room for the account and the record of the attempt now, but not
	// for the certificate.
	serial := awaitSerial(t, i, f.pebble.Pool(t))
	i.await(t, "is served but could not be stored.*no space left on device")
	if out := status(); !strings.Contains(out, "ALARM") {
		t.Errorf("no room for the certificate:\n%s", out)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=1m", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	i.awaitFile(t, filepath.Join(dir, "certificates", "*", "localhost", "localhost.key"))
	if again := awaitSerial(t, i, f.pebble.Pool(t)); again != serial || f.pebble.Orders() != 1 {
		t.Errorf("%d orders, serial %s, was %s", f.pebble.Orders(), again, serial)
	}
}

// awaitFile waits until there is a file that the pattern fits.
func (i *instance) awaitFile(t *testing.T, pattern string) {
	t.Helper()
	for range 1200 {
		if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no %s\n%s", pattern, i.log())
}

// Without an address for mail nobody is asked for one on standard input.
func TestTLSAsksNobody(t *testing.T) {
	f := newFleet(t, "--tls-profile=default")
	cmd := exec.Command("modgate", append([]string{"serve", "--config=off", "--admin-listen=", "--cache-dir=" + t.TempDir()}, f.flags(f.pebble.TLSAddr)...)...)
	cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH")}
	keyboard, err := cmd.StdinPipe() // stays open, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer keyboard.Close()
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := begin(cmd); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	var log strings.Builder
	obtained := regexp.MustCompile("certificate obtained.*localhost")
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if obtained.MatchString(lines.Text()) {
			return
		}
		log.WriteString(lines.Text() + "\n")
	}
	t.Errorf("no certificate:\n%s", &log)
}

// What the CA refuses once is ordered again by another replica, of which the CA
// reaches nothing: its challenge is answered all the same.
func TestAgainByAnotherReplica(t *testing.T) {
	f := newFleet(t, inRedis(t)...)
	f.fault.Set("/order-plz", 3, tlstest.Answer(503, "application/problem+json", `{"type":"urn:ietf:params:acme:error:serverInternal","status":503,"detail":"maintenance"}`))
	other := f.start(t, "127.0.0.1:0", "--tls-profile=default")
	other.await(t, "no certificate obtained.*maintenance")
	reached := f.start(t, f.pebble.TLSAddr, "--tls-profile=default")
	if out := other.command(t, "tls", "renew", "--admin="+other.admin, "localhost"); out != "renewed\n" {
		t.Errorf("%s\n%s", out, other.log())
	}
	pool := f.pebble.Pool(t)
	if a, b := awaitSerial(t, other, pool), awaitSerial(t, reached, pool); a != b {
		t.Errorf("serials %s and %s", a, b)
	}
}
