package tlsmgr

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// A name, the top of a zone and a wildcard, by the records of a real name
// server.
func TestObtainByDNS(t *testing.T) {
	pki := tlstest.New(t)
	bind := tlstest.StartBind(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{DNS: bind.Addr})
	solver := func(key string) func(*Config) {
		return func(c *Config) {
			var err error
			c.ACME.DNS, err = NewDNS(DNSConfig{
				Provider: "rfc2136", Settings: map[string]string{"server": bind.Addr, "key_name": bind.KeyName, "key": key}, Resolvers: []string{bind.Addr},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	r := startReplica(t, p, pki, options{domains: []string{"app.zone.test", "zone.test", "*.zone.test"}, challenge: DNS01, change: solver(bind.Key)})
	r.awaitAll(t)
	for _, host := range []string{"app.zone.test", "zone.test", "x.zone.test"} {
		if _, err := r.handshake(p.Pool(t), host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	r.stop()

	t.Run("wrong key", func(t *testing.T) {
		r := startReplica(t, p, pki, options{domains: []string{"app.zone.test"}, challenge: DNS01, change: solver("d3Jvbmcga2V5LCBidXQgbG9uZyBlbm91Z2ggZm9yIG9uZSwgdG9v")})
		if problem := r.awaitProblem(t); !strings.Contains(problem.Detail, "bad authentication") || !strings.Contains(problem.Advice, "TSIG key") {
			t.Errorf("%+v", problem)
		}
		r.stop()
	})
	t.Run("no resolver there", func(t *testing.T) {
		r := startReplica(t, p, pki, options{domains: []string{"app.zone.test"}, challenge: DNS01, change: func(c *Config) {
			var err error
			c.ACME.DNS, err = NewDNS(DNSConfig{Provider: "rfc2136", Settings: map[string]string{"server": bind.Addr, "key_name": bind.KeyName, "key": bind.Key}, Resolvers: []string{tlstest.Loopback(tlstest.Port(t))}})
			if err != nil {
				t.Fatal(err)
			}
		}})
		defer r.stop()
		if problem := r.awaitProblem(t); !strings.Contains(problem.Detail, "connection refused") || !strings.Contains(problem.Advice, "tls.dns_resolvers") {
			t.Errorf("%+v", problem)
		}
	})
	t.Run("a name that the key may not touch", func(t *testing.T) {
		r := startReplica(t, p, pki, options{domains: []string{"other.zone.test"}, challenge: DNS01, change: solver(bind.Key)})
		if problem := r.awaitProblem(t); !strings.Contains(problem.Detail, "REFUSED") || !strings.Contains(problem.Advice, "rights of its credentials") {
			t.Errorf("%+v", problem)
		}
	})
}

// A program of the user makes the record, and what it says when it fails is
// shown.
func TestObtainByExec(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	hook := p.DNSHook(t, dir)
	by := func(command string) func(*Config) {
		return func(c *Config) {
			var err error
			if c.ACME.DNS, err = NewDNS(DNSConfig{Provider: "exec", Settings: map[string]string{"command": command}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := startReplica(t, p, pki, options{domains: []string{"*.hook.test"}, challenge: DNS01, change: by(hook)})
	r.awaitAll(t)
	if _, err := r.handshake(p.Pool(t), "a.hook.test"); err != nil {
		t.Error(err)
	}
	r.stop()
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if want := "present _acme-challenge.hook.test\ncleanup _acme-challenge.hook.test\n"; string(calls) != want {
		t.Errorf("%q, %v, want %q", calls, err, want)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\necho no such zone >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r = startReplica(t, p, pki, options{domains: []string{"bad.test"}, challenge: DNS01, change: by(bad)})
	if problem := r.awaitProblem(t); !strings.Contains(problem.Detail, "exit status 3: no such zone") {
		t.Errorf("%+v", problem)
	}
}

// A program that does not end is killed with what it has started, and told as
// that; so is one when the server ends, which waits only for the record to be
// removed.
func TestExecThatHangs(t *testing.T) {
	dir := t.TempDir()
	hook := filepath.Join(dir, "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\nsleep 1000 &\necho $! >"+dir+"/child\nwait\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &execSolver{hook, 500 * time.Millisecond, 500 * time.Millisecond}
	ended, end := context.WithCancel(t.Context())
	end()
	for what, run := range map[string]func() error{
		"present": func() error { return s.Present(t.Context(), acme.Challenge{}) },
		"cleanup": func() error { return s.CleanUp(ended, acme.Challenge{}) },
	} {
		begin := time.Now()
		err := run()
		if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), what+": it did not end within ") || took > 5*time.Second {
			t.Errorf("%s: %v after %v", what, err, took)
		}
		child, _ := os.ReadFile(filepath.Join(dir, "child"))
		for n := 0; ; n++ {
			stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(child)) + "/stat")
			if err != nil || strings.Contains(string(stat), ") Z ") {
				break
			}
			if n == 100 {
				t.Fatalf("%s: its child goes on: %s", what, stat)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	if err := s.Present(ended, acme.Challenge{}); err == nil || strings.Contains(err.Error(), "did not end") {
		t.Errorf("when the server ends: %v", err)
	}
}

// Every provider can be made from its required settings, and a wrong or missing
// one is told with what there is.
func TestDNSProviders(t *testing.T) {
	for name, p := range dnsProviders() {
		settings := map[string]string{}
		for _, s := range p.required {
			settings[s] = map[string]string{"server": "ns:53", "key": "eHl6"}[s]
			if settings[s] == "" {
				settings[s] = "x"
			}
		}
		if _, err := NewDNS(DNSConfig{Provider: name, Settings: settings}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		settings["nonsense"] = "s3cret"
		_, err := NewDNS(DNSConfig{Provider: name, Settings: settings})
		if err == nil || !strings.Contains(err.Error(), `no setting "nonsense"`) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := NewDNS(DNSConfig{Provider: name}); (err == nil) != (len(p.required) == 0) {
			t.Errorf("%s without settings: %v", name, err)
		}
	}
	// What rfc2136 would find out in the middle of an order is told before.
	_, err := NewDNS(DNSConfig{Provider: "rfc2136", Settings: map[string]string{"server": "ns.corp.example", "key_name": "k", "key": "s3cret!", "key_alg": "hmac-md5"}})
	if text := fmt.Sprint(err); strings.Count(text, "\n") != 2 || !strings.Contains(text, `"ns.corp.example", and not host:port`) || !strings.Contains(text, "not base64") || !strings.Contains(text, "hmac-sha512") || strings.Contains(text, "s3cret") {
		t.Error(err)
	}
	if _, err := NewDNS(DNSConfig{Provider: "rfc2136", Settings: map[string]string{"server": "[::1]:53", "key_name": "k", "key": "eHl6", "key_alg": "HMAC-SHA512."}}); err != nil {
		t.Error(err)
	}
	if _, err := NewDNS(DNSConfig{Provider: "bind"}); err == nil || !strings.Contains(err.Error(), "rfc2136") {
		t.Error(err)
	}
}
