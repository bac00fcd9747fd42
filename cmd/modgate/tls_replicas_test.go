package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// fleet is what replicas share: an ACME server and a storage.
type fleet struct {
	world   *world
	pebble  *tlstest.Pebble
	fault   *tlstest.Fault // in front of it
	caRoot  string
	storage []string // flags
}

func newFleet(t *testing.T, storage ...string) *fleet {
	t.Helper()
	pki := tlstest.New(t)
	f := &fleet{world: newWorld(t), pebble: tlstest.StartPebble(t, pki, tlstest.PebbleConfig{}), caRoot: pki.WriteRoot(t.TempDir()), storage: storage}
	f.fault = tlstest.NewFault(t, pki, f.pebble.Directory)
	return f
}

// start starts a replica that listens on address, which ends well.
func (f *fleet) start(t *testing.T, address string, flags ...string) *instance {
	t.Helper()
	return f.world.start(t, f.flags(address, flags...)[2:]...)
}

// flags are those of a replica.
func (f *fleet) flags(address string, more ...string) []string {
	all := append(f.world.flags(), "--listen="+address, "--tls-mode=acme", "--tls-domains=localhost", "--tls-ca="+f.fault.Directory, "--tls-ca-roots="+f.caRoot)
	return append(append(all, f.storage...), more...)
}

// serial returns the serial number of the certificate that a replica serves to
// who trusts pool.
func serial(i *instance, pool *x509.CertPool) (string, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", strings.TrimPrefix(i.url, "http://"), &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func awaitSerial(t *testing.T, i *instance, pool *x509.CertPool) string {
	t.Helper()
	for range 600 {
		if s, err := serial(i, pool); err == nil {
			return s
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no certificate:\n%s", i.log())
	return ""
}

// inRedis are the flags of a storage in a Redis of the test.
func inRedis(t *testing.T) []string {
	t.Helper()
	return []string{"--tls-storage=redis://" + sharedtest.NewRedis(t).Addr, "--tls-storage-key=" + strings.Repeat("s3cret", 8)}
}

// Three replicas on one Redis, of which the CA reaches but one, over one
// certificate and three renewals: four orders, and not one handshake that fails
// anywhere.
func TestReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	f := newFleet(t, inRedis(t)...)
	replicas := []*instance{}
	for _, address := range []string{f.pebble.TLSAddr, "127.0.0.1:0", "127.0.0.1:0"} {
		replicas = append(replicas, f.start(t, address, "--tls-profile=tiny"))
	}
	pool := f.pebble.Pool(t)
	for _, i := range replicas {
		awaitSerial(t, i, pool)
	}
	var mu sync.Mutex
	seen := make([][]string, len(replicas)) // serials in order, by replica
	begin := time.Now()
	var wg sync.WaitGroup
	for n, i := range replicas {
		wg.Go(func() {
			for time.Since(begin) < 90*time.Second {
				s, err := serial(i, pool)
				if err != nil {
					t.Errorf("replica %d after %v: %v", n, time.Since(begin), err)
					return
				}
				mu.Lock()
				if k := len(seen[n]); k == 0 || seen[n][k-1] != s {
					seen[n] = append(seen[n], s)
				}
				done := len(seen[0]) >= 4 && len(seen[1]) >= 4 && len(seen[2]) >= 4
				mu.Unlock()
				if done {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Errorf("replica %d has seen %d certificates", n, len(seen[n]))
		})
	}
	wg.Wait()
	for n := range replicas {
		if strings.Join(seen[n][:min(4, len(seen[n]))], " ") != strings.Join(seen[0][:min(4, len(seen[0]))], " ") {
			t.Errorf("replica %d served %v, the first %v", n, seen[n], seen[0])
		}
	}
	if n := f.pebble.Orders(); n != 4 {
		t.Errorf("%d orders, want 4", n)
	}
}

// Whatever replica orders, the challenge is answered by the one that the CA
// reaches; and the go command is content with each.
func TestChallengeOfAnotherReplica(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			f := newFleet(t, inRedis(t)...)
			flags := []string{"--tls-profile=default", "--tls-challenge=" + challenge}
			reached := f.start(t, f.pebble.TLSAddr, append(flags, "--tls-http-listen="+f.pebble.HTTPAddr)...)
			pool := f.pebble.Pool(t)
			awaitSerial(t, reached, pool)
			other := f.start(t, "127.0.0.1:0", append(flags, "--tls-http-listen=127.0.0.1:0")...)
			before := awaitSerial(t, other, pool)
			if out := other.command(t, "tls", "renew", "--admin="+other.admin, "localhost"); out != "renewed\n" {
				t.Fatalf("%s\n%s", out, other.log())
			}
			if after := awaitSerial(t, other, pool); after == before {
				t.Error("not renewed")
			}
			root := filepath.Join(t.TempDir(), "root.pem")
			if err := os.WriteFile(root, f.pebble.RootPEM(t), 0o600); err != nil {
				t.Fatal(err)
			}
			proxy := "https://localhost" + other.url[strings.LastIndex(other.url, ":"):]
			if out, err := download(t, f.world, proxy, "SSL_CERT_FILE="+root); err != nil {
				t.Errorf("go mod download: %v\n%s", err, out)
			}
		})
	}
}

// A replica that is killed in the middle of an order keeps the others waiting
// for 12 seconds at most, or with Redis for as long as a lock outlives its holder,
// and one that is told to end for none. The limits have room for a busy machine.
func TestEndInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		within time.Duration
		redis  bool // else a directory
	}{
		{"killed", syscall.SIGKILL, 15 * time.Second, false}, {"told to end", syscall.SIGTERM, 5 * time.Second, false},
		{"killed with Redis", syscall.SIGKILL, 34 * time.Second, true}, {"told to end with Redis", syscall.SIGTERM, 5 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			storage := []string{"--tls-storage=" + t.TempDir()}
			if c.redis {
				storage = inRedis(t)
			}
			f := newFleet(t, append(storage, "--tls-profile=default")...)
			f.fault.Set("/order-plz", 1, tlstest.Hang)
			hanging, err := launch(nil, t.TempDir(), f.flags("127.0.0.1:0")...)
			if err != nil {
				t.Fatal(err)
			}
			hanging.await(t, "obtaining a certificate")
			f.fault.Await(t)
			hanging.cmd.Process.Signal(c.signal)
			<-hanging.ended
			next := f.start(t, f.pebble.TLSAddr)
			// What was begun is remembered, so the next one does not begin at once.
			if out := next.command(t, "tls", "status", "--admin="+next.admin); !regexp.MustCompile(`failures +1\b`).MatchString(out) || f.pebble.Orders() != 0 {
				t.Errorf("%d orders\n%s", f.pebble.Orders(), out)
			}
			begin := time.Now()
			// What was begun counts as an attempt, so the wait is for the lock
			// alone if it is asked for by hand.
			if out := next.command(t, "tls", "renew", "--admin="+next.admin, "localhost"); out != "renewed\n" {
				t.Errorf("%s\n%s", out, next.log())
			}
			locked, err := time.Parse(time.RFC3339, next.logged(t, `time=(\S+) .*obtaining a certificate`))
			if waited := locked.Sub(begin); err != nil || waited > c.within {
				t.Errorf("the lock is free after %v, %v", waited, err)
			}
		})
	}
}

// A server that ends over and over, killed or told to, orders no more often than the backoff
// allows: what it has begun is in the storage.
func TestServersInALoop(t *testing.T) {
	f := newFleet(t, "--tls-storage="+t.TempDir(), "--tls-profile=default")
	begin := time.Now()
	for n := range 10 {
		i, err := launch(nil, t.TempDir(), f.flags("127.0.0.1:0")...) // not where the CA comes to
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			i.await(t, "no certificate obtained")
		}
		for k := 0; !regexp.MustCompile(`failures +[0-9]`).MatchString(i.command(t, "tls", "status", "--admin="+i.admin)); k++ {
			if k == 200 {
				t.Fatalf("start %d does not know that it has failed:\n%s", n, i.log())
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(300 * time.Millisecond) // in which one that may would order
		if n == 5 {
			i.cmd.Process.Kill() // its lock is in the way of those behind it
		} else {
			i.cmd.Process.Signal(syscall.SIGTERM)
		}
		<-i.ended
	}
	allowed, wait := 1, leastWait
	for passed := time.Since(begin); passed > wait; passed -= wait {
		allowed, wait = allowed+1, 2*wait
	}
	if n := f.pebble.Orders(); n < 1 || n > allowed {
		t.Errorf("%d orders within %v, want at most %d", n, time.Since(begin), allowed)
	}
}

// leastWait is the least wait after a failed attempt, a minute, less the fifth by
// which replicas differ.
const leastWait = 48 * time.Second

// A Redis that is down when a replica starts delays its certificate, and no
// more; one that goes down later is not noticed by clients.
func TestRedisDown(t *testing.T) {
	r := sharedtest.NewRedis(t)
	r.Kill()
	f := newFleet(t, "--tls-storage=redis://"+r.Addr, "--tls-storage-key="+strings.Repeat("s3cret", 8), "--tls-profile=default")
	i := f.start(t, f.pebble.TLSAddr)
	pool := f.pebble.Pool(t)
	if _, err := serial(i, pool); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("a handshake without a certificate: %v", err)
	}
	i.await(t, "the storage of certificates does not work")
	if out := i.command(t, "tls", "status", "--admin="+i.admin); !strings.Contains(out, "ALARM") || !strings.Contains(out, "connection refused") {
		t.Errorf("modgate tls status:\n%s", out)
	}
	if n := f.pebble.Orders(); n != 0 {
		t.Errorf("%d orders that could not be kept", n)
	}
	r.Restart()
	awaitSerial(t, i, pool)
	awaitStored := func() {
		t.Helper()
		for range 600 {
			if strings.Contains(r.Do("KEYS", "*/localhost.crt"), "localhost.crt") {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("not stored:\n%s", i.log())
	}
	awaitStored()
	r.Kill()
	if _, err := serial(i, pool); err != nil {
		t.Errorf("with Redis down again: %v", err)
	}
	if out := i.command(t, "tls", "renew", "--admin="+i.admin, "localhost"); !strings.Contains(out, "connection refused") {
		t.Errorf("a renewal that could not be kept: %s", out)
	}
	if n := f.pebble.Orders(); n != 1 {
		t.Errorf("%d orders", n)
	}
	r.Restart() // and empty: what is in memory is stored again
	awaitStored()
	if n := f.pebble.Orders(); n != 1 {
		t.Errorf("%d orders after Redis came back empty", n)
	}
}
