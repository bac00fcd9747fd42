package tlsmgr

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// memory is a certmagic.Storage in memory that can be made to fail. It is what
// tests use that live in a synctest bubble: FileStorage keeps its locks by
// goroutines of its own.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	fail  func(op, key string) error // nil: never
	locks map[string]chan struct{}   // of one place
}

func newMemory() *memory {
	return &memory{files: map[string][]byte{}, locks: map[string]chan struct{}{}}
}

func (s *memory) failing(op, key string) error {
	if s.fail == nil {
		return nil
	}
	return s.fail(op, key)
}

func (s *memory) breakBy(fail func(op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *memory) Store(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing("store", key); err != nil {
		return err
	}
	s.files[key] = bytes.Clone(value)
	return nil
}

func (s *memory) Load(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing("load", key); err != nil {
		return nil, err
	}
	if data, ok := s.files[key]; ok {
		return bytes.Clone(data), nil
	}
	return nil, fs.ErrNotExist
}

func (s *memory) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failing("delete", key); err != nil {
		return err
	}
	for k := range s.files {
		if k == key || strings.HasPrefix(k, key+"/") {
			delete(s.files, k)
		}
	}
	return nil
}

func (s *memory) Exists(ctx context.Context, key string) bool {
	_, err := s.Load(ctx, key)
	return err == nil
}

func (s *memory) List(_ context.Context, dir string, _ bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for k := range s.files {
		if strings.HasPrefix(k, dir+"/") {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fs.ErrNotExist
	}
	return keys, nil
}

func (s *memory) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	data, err := s.Load(ctx, key)
	return certmagic.KeyInfo{Key: key, Size: int64(len(data)), IsTerminal: true}, err
}

func (s *memory) Lock(ctx context.Context, name string) error {
	s.mu.Lock()
	if err := s.failing("lock", name); err != nil {
		s.mu.Unlock()
		return err
	}
	lock := s.locks[name]
	if lock == nil {
		lock = make(chan struct{}, 1)
		s.locks[name] = lock
	}
	s.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *memory) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-s.locks[name]
	return nil
}

// verify checks that a client that trusts rootPEM accepts what m serves for
// host, and returns the certificate.
func verify(t *testing.T, m *Manager, rootPEM []byte, host string) *x509.Certificate {
	t.Helper()
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	if !pool.AppendCertsFromPEM(rootPEM) {
		t.Fatalf("no root in %q", rootPEM)
	}
	m.mu.Lock()
	cert := m.slots[0].cert
	m.mu.Unlock()
	chain, err := parseChain(cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: pool, Intermediates: between}); err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	return chain[0]
}

// Replicas that start at once have one root, and their certificates are good
// for every name.
func TestInternalReplicas(t *testing.T) {
	dir := t.TempDir()
	domains := []string{"localhost", "127.0.0.1", "::1", "go.corp.example", "*.dev.example"}
	var managers [4]*Manager
	var wg sync.WaitGroup
	for n := range managers {
		m, err := New(Config{Mode: Internal, Domains: domains, Storage: &certmagic.FileStorage{Path: dir}})
		if err != nil {
			t.Fatal(err)
		}
		managers[n] = m
		wg.Go(func() { m.Load(t.Context()) })
	}
	wg.Wait()
	stored, err := RootPEM(t.Context(), &certmagic.FileStorage{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range managers {
		if !bytes.Equal(m.RootPEM(), stored) {
			t.Error("a replica has another root")
		}
		for _, host := range []string{"localhost", "127.0.0.1", "::1", "go.corp.example", "a.dev.example"} {
			verify(t, m, stored, host)
		}
		if s := m.Status()[0]; s.Alarm != "" || !strings.HasPrefix(s.Issuer, "CN=modgate intermediate") {
			t.Errorf("%+v", s)
		}
	}
	key, err := os.Stat(filepath.Join(dir, rootKeyKey))
	if err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("the key of the root has mode %v, %v", key.Mode(), err)
	}
}

// The certificate is renewed in the last third of its week; the intermediate in
// the last third of its life; the root stays, and its key is not read for it
// in between.
func TestInternalRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := newMemory()
		m, err := New(Config{Mode: Internal, Domains: []string{"go.corp.example"}, Storage: storage})
		if err != nil {
			t.Fatal(err)
		}
		m.Load(t.Context())
		root := m.RootPEM()
		first := verify(t, m, root, "go.corp.example")
		var reads atomic.Int32
		storage.breakBy(func(op, key string) error {
			if key == rootKeyKey {
				reads.Add(1)
			}
			return nil
		})
		go m.Run(t.Context())
		time.Sleep(leafLife*2/3 - time.Minute)
		synctest.Wait()
		if verify(t, m, root, "go.corp.example").SerialNumber.Cmp(first.SerialNumber) != 0 {
			t.Error("renewed too early")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		second := verify(t, m, root, "go.corp.example")
		if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
			t.Error("not renewed")
		}
		if s := m.Status()[0]; !s.NextAttempt.Equal(second.NotAfter.Add(-leafLife / 3)) {
			t.Errorf("next attempt %v, certificate until %v", s.NextAttempt, second.NotAfter)
		}
		time.Sleep(intermediateLife*2/3 - 30*24*time.Hour)
		synctest.Wait()
		if reads.Load() != 0 {
			t.Errorf("the key of the root was read %d times", reads.Load())
		}
		time.Sleep(60 * 24 * time.Hour)
		synctest.Wait()
		if reads.Load() == 0 || !bytes.Equal(m.RootPEM(), root) {
			t.Errorf("%d reads of the key of the root; the intermediate is not renewed by the same root", reads.Load())
		}
		verify(t, m, root, "go.corp.example")
	})
}

// A renewal that somebody asks for moves the next one.
func TestInternalRenewalAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := New(Config{Mode: Internal, Domains: []string{"go.corp.example"}, Storage: newMemory()})
		if err != nil {
			t.Fatal(err)
		}
		m.Load(t.Context())
		go m.Run(t.Context())
		time.Sleep(leafLife / 2)
		if err := m.Renew(t.Context(), "go.corp.example"); err != nil {
			t.Fatal(err)
		}
		asked := verify(t, m, m.RootPEM(), "go.corp.example")
		if s := m.Status()[0]; !s.NextAttempt.Equal(asked.NotAfter.Add(-leafLife / 3)) {
			t.Errorf("next attempt %v, certificate until %v", s.NextAttempt, asked.NotAfter)
		}
		time.Sleep(leafLife / 3)
		synctest.Wait()
		if verify(t, m, m.RootPEM(), "go.corp.example").SerialNumber.Cmp(asked.SerialNumber) != 0 {
			t.Error("renewed when the one before was due")
		}
	})
}

// A storage that does not answer at the start is asked until it does.
func TestInternalStorageDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := newMemory()
		storage.breakBy(func(string, string) error { return errors.New("connection refused") })
		m, err := New(Config{Mode: Internal, Domains: []string{"go.corp.example"}, Storage: storage})
		if err != nil {
			t.Fatal(err)
		}
		m.Load(t.Context())
		if s := m.Status()[0]; !strings.Contains(s.Alarm, "connection refused") || m.RootPEM() != nil {
			t.Errorf("%+v", s)
		}
		go m.Run(t.Context())
		time.Sleep(10 * time.Minute)
		storage.breakBy(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		verify(t, m, m.RootPEM(), "go.corp.example")
		if s := m.Status()[0]; s.Alarm != "" {
			t.Error(s.Alarm)
		}
	})
}

func TestParseDomain(t *testing.T) {
	for text, want := range map[string]string{
		"Go.Corp.Example.": "go.corp.example", "localhost": "localhost", "*.dev.example": "*.dev.example",
		"127.0.0.1": "127.0.0.1", "[::1]": "::1", "0:0:0:0:0:0:0:1": "::1", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"": "", "a..b": "", "-a.example": "", "a_b.example": "", "https://a.example": "", "a.example:443": "", "a.*.example": "", "bücher.example": "", "*": "",
	} {
		got, err := ParseDomain(text)
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// Letters beyond ASCII are told with how to write them.
func TestParseDomainInASCII(t *testing.T) {
	for text, want := range map[string]string{"bücher.example": "xn--bcher-kva.example", "*.Bücher.example": "*.xn--bcher-kva.example", "a_b.example": ""} {
		_, err := ParseDomain(text)
		if err == nil || strings.Contains(err.Error(), "in DNS it is "+want+")") != (want != "") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 7: time.Minute, 1000: time.Minute} {
		for range 100 {
			if got := backoff(time.Second, time.Minute, n); got < want*4/5 || got > want*6/5+1 {
				t.Fatalf("after %d failures: %v, want about %v", n, got, want)
			}
		}
	}
}
