package tlsmgr

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// beside returns a Manager that does not run, with the configuration of r.
func beside(t *testing.T, r *replica) *Manager {
	t.Helper()
	m, err := New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// keys returns all keys of a storage.
func keys(t *testing.T, s certmagic.Storage) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, dir := range []string{"acme", "certificates", "modgate"} {
		found, err := s.List(t.Context(), dir, true)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, k := range found {
			if info, err := s.Stat(t.Context(), k); err == nil && info.IsTerminal {
				all[k] = true
			}
		}
	}
	return all
}

// renewals returns for how many names the storage has what the CA has said of
// their renewal, which comes last.
func renewals(t *testing.T, s certmagic.Storage) (n int) {
	for k := range keys(t, s) {
		if strings.HasPrefix(k, "modgate/renewal/") && strings.HasSuffix(k, ".json") {
			n++
		}
	}
	return n
}

// seen looks for the answer of a Trial where a CA would.
func seen(t *testing.T, p *tlstest.Pebble, trial *Trial, challenge string) bool {
	t.Helper()
	if challenge == TLSALPN01 {
		c, err := tls.Dial("tcp", p.TLSAddr, &tls.Config{InsecureSkipVerify: true, ServerName: trial.ServerName(), NextProtos: []string{"acme-tls/1"}})
		if err != nil {
			return false
		}
		defer c.Close()
		digest := sha256.Sum256([]byte(trial.Answer))
		for _, e := range c.ConnectionState().PeerCertificates[0].Extensions {
			if e.Id.String() == "1.3.6.1.5.5.7.1.31" && strings.Contains(string(e.Value), string(digest[:])) {
				return true
			}
		}
		return false
	}
	req, err := http.NewRequest("GET", "http://"+p.HTTPAddr+"/.well-known/acme-challenge/"+trial.Token, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = trial.Host
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return err == nil && string(body) == trial.Answer
}

// The answer to a made-up challenge is seen from the running server, and without
// one, and nothing is left of it.
func TestTry(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			storage := &certmagic.FileStorage{Path: t.TempDir()}
			names := []string{"a.test", "127.0.0.1"} // the second is asked for by its name in DNS (RFC 8738, 6)
			r := startReplica(t, p, pki, options{domains: names, challenge: challenge, storage: storage})
			r.awaitAll(t)
			r.await(t, "the CA has said when to renew", func() bool { return renewals(t, storage) == len(names) })
			before, orders := keys(t, storage), p.Orders()
			for _, running := range []bool{true, false} {
				if !running {
					r.stop()
				}
				for _, name := range names {
					trial, err := beside(t, r).Try(t.Context(), name)
					if err != nil || trial.Listening == running {
						t.Fatalf("%s, running %v: %+v, %v", name, running, trial, err)
					}
					if !seen(t, p, trial, challenge) {
						t.Errorf("%s, running %v: the answer is not seen", name, running)
					}
					if err := trial.Close(t.Context()); err != nil || seen(t, p, trial, challenge) {
						t.Errorf("%s, running %v: it is there after its end, %v", name, running, err)
					}
				}
			}
			if after := keys(t, storage); len(after) != len(before) || p.Orders() != orders {
				t.Errorf("%v before, %v after", before, after)
			}
		})
	}
	t.Run("the name is locked", func(t *testing.T) {
		storage := newMemory()
		r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage})
		r.awaitAll(t)
		if err := storage.Lock(t.Context(), "issue_cert_a.test"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := beside(t, r).Try(ctx, "a.test"); err == nil || !strings.Contains(err.Error(), "at work on an order") {
			t.Error(err)
		}
		if err := storage.Unlock(t.Context(), "issue_cert_a.test"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("nothing is made for a server that never ran", func(t *testing.T) {
		dir := t.TempDir() + "/tls"
		m, err := New(Config{Mode: ACME, Domains: []string{"a.test"}, Storage: &certmagic.FileStorage{Path: dir}, ACME: ACMEConfig{CA: p.Directory, Challenge: HTTP01, Listen: p.HTTPAddr}})
		if err != nil {
			t.Fatal(err)
		}
		trial, err := m.Try(t.Context(), "a.test")
		if err != nil || !seen(t, p, trial, HTTP01) {
			t.Errorf("%+v, %v", trial, err)
		}
		if err := trial.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("the storage was made")
		}
	})
}

// A dry run gets a certificate from another CA beside a running server, for each
// challenge, and leaves account, certificates and storage as they were.
func TestDryRun(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	// Another CA that looks at the same addresses for challenges.
	other := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{HTTPAddr: p.HTTPAddr, TLSAddr: p.TLSAddr})
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			storage := &certmagic.FileStorage{Path: t.TempDir()}
			r := startReplica(t, p, pki, options{domains: []string{"a.test"}, challenge: challenge, storage: storage})
			r.awaitAll(t)
			r.await(t, "the CA has said when to renew", func() bool { return renewals(t, storage) == 1 })
			before, orders, serial := keys(t, storage), p.Orders(), r.Status()[0].Serial
			for _, running := range []bool{true, false} {
				if !running {
					r.stop()
				}
				chain, err := beside(t, r).DryRun(t.Context(), other.Directory, "a.test")
				if err != nil || len(chain) < 2 || chain[0].VerifyHostname("a.test") != nil {
					t.Errorf("running %v: %v, %v", running, chain, err)
				}
			}
			if other.Orders() == 0 || p.Orders() != orders || r.Status()[0].Serial != serial {
				t.Errorf("%d orders at the other CA, %d at ours", other.Orders(), p.Orders()-orders)
			}
			after := keys(t, storage)
			for k := range after {
				if !before[k] {
					t.Errorf("%s is new", k)
				}
			}
			if len(after) != len(before) {
				t.Errorf("%v before, %v after", before, after)
			}
		})
	}
	t.Run("it fails as an order would", func(t *testing.T) {
		r := startReplica(t, p, pki, options{domains: []string{"a.test"}, mute: true, storage: newMemory()})
		r.awaitProblem(t)
		_, err := beside(t, r).DryRun(t.Context(), other.Directory, "a.test")
		var problem *Problem
		if !errors.As(err, &problem) || problem.Type != "connection" || !strings.Contains(problem.Advice, "port 80") {
			t.Errorf("%v", err)
		}
	})
}

// What the storage has is told without changing it, and so is whether the CA
// knows the account.
func TestInspect(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage})
	r.awaitAll(t)
	if err := r.Renew(t.Context(), "a.test"); err != nil {
		t.Fatal(err)
	}
	r.await(t, "the outcome is stored", func() bool { return r.Status()[0].Failures == 0 && r.Status()[0].Problem == nil })
	m := beside(t, r)
	all, err := m.Inspect(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if s := all[0]; s.Err != nil || s.Status.Serial != r.Status()[0].Serial || len(s.Tried) != 2 || len(s.Issued) != 2 || s.Status.NextAttempt.IsZero() {
		t.Errorf("%+v", s)
	}
	if chains := m.Chains(); len(chains) != 1 || chains[0].Name != "a.test" || len(chains[0].Certificates) < 2 {
		t.Errorf("%+v", chains)
	}
	if a, err := m.Account(t.Context()); err != nil || a.Status != "valid" || !strings.HasPrefix(a.URL, "https://") {
		t.Errorf("%+v, %v", a, err)
	}
	r.stop()
	p.Restart(t)
	var problem *Problem
	if a, err := beside(t, r).Account(t.Context()); !errors.As(err, &problem) || problem.Type != "accountDoesNotExist" {
		t.Errorf("%+v, %v", a, err)
	}
	empty, err := New(Config{Mode: ACME, Domains: []string{"a.test"}, Storage: newMemory(), ACME: r.cfg.ACME})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := empty.Inspect(t.Context()); err != nil || !errors.Is(all[0].Err, fs.ErrNotExist) {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := empty.Account(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRemember(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	old := []time.Time{now.Add(-8 * 24 * time.Hour), now.Add(-6 * 24 * time.Hour)}
	if got := remember(old, now); len(got) != 2 || !got[0].Equal(old[1]) || !got[1].Equal(now) {
		t.Errorf("%v", got)
	}
	var many []time.Time
	for range 2 * historyLength {
		many = remember(many, now)
	}
	if len(many) != historyLength {
		t.Errorf("%d are remembered", len(many))
	}
}

// A server says which process it is, on the port of challenges alone.
func TestInstance(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: newMemory()})
	resp, err := http.Get("http://" + p.HTTPAddr + InstancePath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || strings.TrimSpace(string(body)) != r.Instance() || r.Instance() == "" {
		t.Errorf("%q, %v", body, err)
	}
}
