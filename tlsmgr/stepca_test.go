package tlsmgr

import (
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// A private CA: names and addresses by both challenges, certificates of a day
// and of five minutes, renewal, and the reason that it keeps to itself when it
// cannot connect to us.
func TestStepCA(t *testing.T) {
	pki := tlstest.New(t)
	dns := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{}) // for its DNS alone
	ca := tlstest.StartStepCA(t, pki, dns.DNSAddr)
	at := *dns
	at.HTTPAddr, at.TLSAddr = ca.HTTPAddr, ca.TLSAddr
	by := func(provisioner string) func(*Config) {
		return func(c *Config) {
			c.ACME.CA, c.ACME.Profile, c.ACME.Patience, c.Roots = ca.Directory(provisioner), "", 3*time.Second, pki.Pool()
		}
	}
	for _, c := range []struct {
		challenge, provisioner string
		life                   time.Duration
	}{{HTTP01, "acme", 24 * time.Hour}, {TLSALPN01, "acme", 24 * time.Hour}, {HTTP01, "short", 5 * time.Minute}} {
		t.Run(c.challenge+" "+c.provisioner, func(t *testing.T) {
			r := startReplica(t, &at, pki, options{domains: []string{"a.test", "127.0.0.1"}, challenge: c.challenge, storage: newMemory(), change: by(c.provisioner)})
			defer r.stop()
			r.awaitAll(t)
			for _, host := range []string{"a.test", "127.0.0.1"} {
				if _, err := r.handshake(pki.Pool(), host); err != nil {
					t.Errorf("%s: %v", host, err)
				}
			}
			s := r.Status()[0]
			life := s.NotAfter.Sub(s.NotBefore)
			if life < c.life || life > c.life+5*time.Minute || !s.NextAttempt.Equal(s.NotAfter.Add(-life/3)) || s.Alarm != "" {
				t.Errorf("%+v", s)
			}
			if err := r.Renew(t.Context(), "a.test"); err != nil {
				t.Error(err)
			}
			if again := r.Status()[0]; again.Serial == s.Serial {
				t.Errorf("not renewed: %+v", again)
			}
		})
	}
	t.Run("it cannot connect", func(t *testing.T) {
		r := startReplica(t, &at, pki, options{domains: []string{"a.test"}, mute: true, storage: newMemory(), change: by("acme")})
		defer r.stop()
		problem := r.awaitProblem(t)
		if len(problem.Challenges) == 0 || !strings.Contains(problem.String(), "could not connect to validation target") || !strings.Contains(problem.Advice, "port 80") {
			t.Errorf("%+v", problem)
		}
	})
	t.Run("it wants to know the account", func(t *testing.T) {
		r := startReplica(t, &at, pki, options{domains: []string{"a.test"}, storage: newMemory(), change: by("eab")})
		defer r.stop()
		if problem := r.awaitProblem(t); problem.Type != "externalAccountRequired" || !strings.Contains(problem.Advice, "tls.eab_key_id") {
			t.Errorf("%+v", problem)
		}
	})
	t.Run("it has no profiles", func(t *testing.T) {
		r := startReplica(t, &at, pki, options{domains: []string{"a.test"}, storage: newMemory(), change: func(c *Config) {
			by("acme")(c)
			c.ACME.Profile = "shortlived"
		}})
		defer r.stop()
		if problem := r.awaitProblem(t); !strings.Contains(problem.Detail, "does not advertise support for profiles") || !strings.Contains(problem.Advice, "tls.profile") {
			t.Errorf("%+v", problem)
		}
	})
	t.Run("there is no such provisioner", func(t *testing.T) {
		r := startReplica(t, &at, pki, options{domains: []string{"a.test"}, storage: newMemory(), change: by("nope")})
		if problem := r.awaitProblem(t); !strings.Contains(problem.Detail, "HTTP 404") || !strings.Contains(problem.Advice, "URL of the ACME directory") {
			t.Errorf("%+v", problem)
		}
	})
}
