package tlsmgr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// replica is a server with mode ACME at a Pebble, as one of several may be.
type replica struct {
	*Manager
	log    *text
	stop   func() // ends Run and the listeners, and waits
	secure string // address of its HTTPS listener
}

// options say how a replica differs from the usual one: http-01, a directory
// of its own, the profile default.
type options struct {
	domains   []string
	challenge string
	storage   certmagic.Storage
	profile   string
	email     string
	mute      bool          // it has no listeners that the CA could reach
	ahead     time.Duration // of its clock
	change    func(*Config)
}

// startReplica starts a replica that ends with the test.
func startReplica(t *testing.T, p *tlstest.Pebble, pki *tlstest.PKI, o options) *replica {
	t.Helper()
	if o.challenge == "" {
		o.challenge = HTTP01
	}
	if o.storage == nil {
		o.storage = &certmagic.FileStorage{Path: t.TempDir()}
	}
	if o.profile == "" {
		o.profile = "default"
	}
	r := &replica{log: new(text)}
	secure, plain := p.TLSAddr, p.HTTPAddr
	if o.mute {
		secure, plain = tlstest.Loopback(tlstest.Port(t)), tlstest.Loopback(tlstest.Port(t))
	}
	cfg := Config{
		Mode: ACME, Domains: o.domains, Storage: o.storage, Logger: r.log.logger(),
		ACME: ACMEConfig{CA: p.Directory, Challenge: o.challenge, Listen: plain, Profile: o.profile, Email: o.email, Roots: pki.Pool()},
	}
	if o.challenge == TLSALPN01 {
		cfg.ACME.Listen = secure
	}
	if o.change != nil {
		o.change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Manager = m
	m.now = func() time.Time { return time.Now().Add(o.ahead) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	tlsServer := &http.Server{TLSConfig: m.TLSConfig(), Handler: http.NotFoundHandler()}
	plainServer := &http.Server{Handler: m.HTTPHandler(Redirect("443"))}
	serve := func(address string, serve func(net.Listener) error) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- serve(l) }()
	}
	r.secure = secure
	tlsServer.ErrorLog = slog.NewLogLogger(m.ErrorLog(m.cfg.Logger.Handler(), nil), slog.LevelWarn)
	serve(secure, func(l net.Listener) error { return tlsServer.ServeTLS(l, "", "") })
	serve(plain, plainServer.Serve)
	m.Load(ctx)
	go func() { ended <- m.Run(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		tlsServer.Close()
		plainServer.Close()
		for range 3 {
			if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}
	}
	t.Cleanup(r.stop)
	return r
}

// await waits until what is true, for as long as a CA may take.
func (r *replica) await(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	for range 1200 {
		if isTrue() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("not after a minute: %s\n%+v\n%s", what, r.Status(), r.log)
}

// awaitAll waits until all names have a certificate.
func (r *replica) awaitAll(t *testing.T) {
	t.Helper()
	r.await(t, "all have a certificate", func() bool {
		for _, s := range r.Status() {
			if s.Serial == "" {
				return false
			}
		}
		return true
	})
}

// awaitProblem waits until the first attempt for the first name has failed.
func (r *replica) awaitProblem(t *testing.T) *Problem {
	t.Helper()
	r.await(t, "there is a problem", func() bool { return r.Status()[0].Problem != nil })
	return r.Status()[0].Problem
}

// handshake connects as a client that trusts pool, and returns the certificate.
func (r *replica) handshake(pool *x509.CertPool, host string) (*x509.Certificate, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", r.secure, &tls.Config{RootCAs: pool, ServerName: host})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

// Every challenge, for names and addresses: the certificates are good for who
// trusts the CA, and a restart orders none again.
func TestObtain(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			storage := &certmagic.FileStorage{Path: t.TempDir()}
			o := options{domains: []string{"a.test", "b.test", "127.0.0.1"}, challenge: challenge, storage: storage, email: "ops@example.com"}
			r := startReplica(t, p, pki, o)
			r.awaitAll(t)
			orders := p.Orders()
			for _, host := range o.domains {
				if _, err := r.handshake(p.Pool(t), host); err != nil {
					t.Errorf("%s: %v", host, err)
				}
			}
			r.await(t, "the state of all is told", func() bool {
				return !slices.ContainsFunc(r.Status(), func(s Status) bool { return s.NextAttempt.IsZero() })
			})
			for _, s := range r.Status() {
				if s.Alarm != "" || s.Problem != nil || s.Failures != 0 || !s.NextAttempt.Before(s.NotAfter) {
					t.Errorf("%+v", s)
				}
			}
			r.stop()
			r = startReplica(t, p, pki, o)
			for _, host := range o.domains { // served from the first moment on
				if _, err := r.handshake(p.Pool(t), host); err != nil {
					t.Errorf("after the restart: %s: %v", host, err)
				}
			}
			if n := p.Orders(); n != orders {
				t.Errorf("%d orders after a restart", n-orders)
			}
			r.stop()
		})
	}
}

// Keys are for us alone.
func TestKeysArePrivate(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: &certmagic.FileStorage{Path: dir}})
	r.await(t, "it is stored", func() bool { return !r.Status()[0].NextAttempt.IsZero() && r.Status()[0].Failures == 0 })
	keys := 0
	filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if strings.HasSuffix(name, ".key") {
			keys++
			if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
		return nil
	})
	if keys != 2 {
		t.Errorf("%d keys, want that of the account and that of the certificate", keys)
	}
}

// A restart loop with a challenge that cannot work orders no more often than
// the backoff allows, however often it starts.
func TestRestartLoop(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	for n := range 50 {
		r := startReplica(t, p, pki, options{domains: []string{"broken.test"}, storage: storage, mute: true})
		if n == 0 {
			problem := r.awaitProblem(t)
			if problem.Type != "connection" || !strings.Contains(problem.Detail, "connection refused") || !strings.Contains(problem.Advice, "port 80") {
				t.Errorf("%+v", problem)
			}
		} else {
			r.await(t, "the record is read", func() bool { return r.Status()[0].Failures == 1 })
		}
		r.stop()
	}
	if n := p.Orders(); n != 1 {
		t.Errorf("%d orders by 50 starts within the first minute", n)
	}
}

// The wait after a failure grows from process to process, and a start within it
// orders nothing.
func TestBackoffOutlivesRestarts(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	o := options{domains: []string{"broken.test"}, storage: newMemory(), mute: true}
	for n, least := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 30 * time.Minute, 30 * time.Minute} {
		r := startReplica(t, p, pki, o)
		r.await(t, "an attempt has failed", func() bool { s := r.Status()[0]; return s.Failures == n+1 && s.Problem != nil })
		s := r.Status()[0]
		if wait := s.NextAttempt.Sub(s.LastAttempt); wait < least*4/5 || wait > least*6/5+30*time.Second { // which the attempt itself may take
			t.Errorf("%v after failure %d, want %v", wait, n+1, least)
		}
		r.stop()
		o.ahead += least / 2
		r = startReplica(t, p, pki, o)
		r.await(t, "the record is read", func() bool { return r.Status()[0].Failures == n+1 })
		r.stop()
		if got := p.Orders(); got != n+1 {
			t.Fatalf("%d orders for %d attempts", got, n+1)
		}
		o.ahead += least
	}
}
