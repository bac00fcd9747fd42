package tlsmgr

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

const day = 24 * time.Hour

// A server whose clock is ahead of the CA's finds every certificate due as soon
// as it comes. It says so, and orders none after the other: not in one process,
// not by restarts, not by replicas.
func TestClockAhead(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	for _, c := range []struct {
		name        string
		ahead       time.Duration
		least, most time.Duration // until the next attempt
	}{
		{"due", 61 * day, 14 * day, 15 * day},
		{"expired", 100 * day, 5 * time.Hour, 6 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, orders := options{domains: []string{"a.test"}, storage: newMemory(), ahead: c.ahead}, p.Orders()
			for range 5 {
				r := startReplica(t, p, pki, o)
				r.awaitAll(t)
				r.await(t, "an alarm", func() bool {
					s := r.Status()[0]
					return strings.Contains(s.Alarm, "was due when it came") && strings.Contains(s.Alarm, "set the clock")
				})
				s := r.Status()[0]
				if wait := s.NextAttempt.Sub(r.now()); wait < c.least || wait > c.most {
					t.Errorf("the next attempt is in %v: %+v", wait, s)
				}
				r.stop()
				for range 3 {
					if wait := r.source.(*acmeSource).names[0].look(t.Context()); wait < time.Second {
						t.Errorf("it looks again after %v", wait)
					}
				}
				if n := p.Orders() - orders; n != 1 {
					t.Fatalf("%d orders\n%s", n, r.log)
				}
			}
			o.ahead += c.most + time.Minute
			r := startReplica(t, p, pki, o)
			r.await(t, "it is tried again", func() bool { return p.Orders()-orders == 2 })
			r.await(t, "an alarm", func() bool { return strings.Contains(r.Status()[0].Alarm, "was due when it came") })
			r.stop()
			// The clock is right again: the certificate is good, and its renewal
			// waits for nothing that was written before.
			o.ahead = 0
			r = startReplica(t, p, pki, o)
			r.await(t, "no alarm", func() bool { s := r.Status()[0]; return s.Alarm == "" && !s.NextAttempt.IsZero() })
			if s := r.Status()[0]; s.NextAttempt.Before(s.NotBefore.Add(30*day)) || !s.NextAttempt.Before(s.NotAfter) {
				t.Errorf("%+v", s)
			}
			if n := p.Orders() - orders; n != 2 {
				t.Errorf("%d orders", n)
			}
			r.stop()
		})
	}
}

// What failed under a clock that was far ahead waits as long as after any failure
// once the clock is right, also where processes with both clocks take turns.
func TestFailedUnderClockAhead(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	o := options{domains: []string{"broken.test"}, storage: newMemory(), mute: true, ahead: 100 * day}
	r := startReplica(t, p, pki, o)
	r.await(t, "an attempt has failed", func() bool { s := r.Status()[0]; return s.Failures == 1 && s.Problem != nil })
	r.stop()
	o.ahead = 0
	for range 3 { // restarts gain nothing
		r = startReplica(t, p, pki, o)
		r.await(t, "the record is read", func() bool { return r.Status()[0].Failures == 1 })
		if wait := r.Status()[0].NextAttempt.Sub(r.now()); wait < leastBackoff/2 || wait > 2*leastBackoff {
			t.Errorf("the next attempt is in %v", wait)
		}
		r.stop()
	}
	if got := p.Orders(); got != 1 {
		t.Errorf("%d orders for one attempt", got)
	}
	n := r.source.(*acmeSource).names[0]
	rec, err := n.loadRecord(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := n.allowed(rec)
	r.now = func() time.Time { return time.Now().Add(10 * time.Second) }
	if again := n.allowed(rec); !again.Equal(first) {
		t.Errorf("the wait begins anew: %v, then %v", first, again)
	}
	rec.LastAttempt, rec.NextAttempt = rec.LastAttempt.Add(time.Hour), rec.NextAttempt.Add(time.Hour)
	if again := n.allowed(rec); !again.After(first) {
		t.Errorf("a new attempt of that clock does not count: %v, then %v", first, again)
	}
}

// What a certificate rests when it has come, by what is left of it.
func TestRest(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ life, left, want time.Duration }{
		{90 * day, 90 * day, 6 * time.Hour},
		{90 * day, 31 * day, 6 * time.Hour},
		{90 * day, 30 * day, 15 * day},
		{90 * day, -10 * day, 6 * time.Hour},
		{day, day, 72 * time.Minute},
		{5 * time.Minute, 5 * time.Minute, 15 * time.Second},
		{5 * time.Minute, -time.Hour, 15 * time.Second},
		{10 * time.Second, 10 * time.Second, time.Second},
	} {
		leaf := &x509.Certificate{NotBefore: now.Add(c.left - c.life), NotAfter: now.Add(c.left)}
		if got := rest(leaf, now); got != c.want {
			t.Errorf("rest with %v of %v left: %v, want %v", c.left, c.life, got, c.want)
		}
	}
}
