package tlsmgr

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// The CA says when it wants a certificate renewed, and why; it is renewed then,
// also by a replica that has only the storage to know it from.
func TestRenewalInfo(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	storage := newMemory()
	o := options{domains: []string{"a.test"}, storage: storage}
	r := startReplica(t, p, pki, o)
	r.awaitAll(t)
	n := r.Manager.source.(*acmeSource).names[0]
	r.await(t, "the CA was asked", func() bool { return n.renewalInfo().HasWindow() })
	first := r.Status()[0]
	if life := first.NotAfter.Sub(first.NotBefore); first.NextAttempt.Before(first.NotBefore.Add(life/2)) || first.NextAttempt.After(first.NotAfter) {
		t.Errorf("%+v", first)
	}
	// It would be asked again in six hours; a start asks if that time has come.
	leaf := r.served(n.slot).Leaf
	r.stop()
	stored, ok := n.storedRenewalInfo(t.Context())
	if !ok {
		t.Fatal("not stored")
	}
	past := time.Now().Add(-time.Hour)
	stored.RetryAfter = &past
	if err := storage.Store(t.Context(), n.ownName("renewal"), fmt.Appendf(nil, `{"suggestedWindow":{"start":%q,"end":%q},"_uniqueIdentifier":%q,"_retryAfter":%q,"_selectedTime":%q}`,
		stored.SuggestedWindow.Start.Format(time.RFC3339), stored.SuggestedWindow.End.Format(time.RFC3339), stored.UniqueIdentifier, past.Format(time.RFC3339), stored.SelectedTime.Format(time.RFC3339))); err != nil {
		t.Fatal(err)
	}
	p.SetRenewalInfo(t, leaf, fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q},"explanationURL":"https://ca.example/incident"}`,
		time.Now().Add(-2*time.Hour).Format(time.RFC3339), time.Now().Add(-time.Hour).Format(time.RFC3339)))
	// What has just come rests first: a CA that says so of each would be asked for
	// one after the other.
	r = startReplica(t, p, pki, o)
	r.await(t, "an alarm", func() bool {
		return strings.Contains(r.Status()[0].Alarm, "wants a certificate renewed that it has just given")
	})
	if !strings.Contains(r.log.String(), "https://ca.example/incident") || r.Status()[0].RenewalReason != "https://ca.example/incident" {
		t.Errorf("why the CA wants it is not told:\n%s", r.log)
	}
	r.stop()
	if n := p.Orders(); n != 1 {
		t.Errorf("%d orders", n)
	}
	o.ahead = mostRest
	r = startReplica(t, p, pki, o)
	r.await(t, "it is renewed", func() bool { return r.Status()[0].Serial != "" && r.Status()[0].Serial != first.Serial })
	if n := p.Orders(); n != 2 {
		t.Errorf("%d orders", n)
	}
	if !strings.Contains(p.Log(), "order-plz") || strings.Contains(p.Log(), "is a replacement of") {
		t.Error("the order says what it replaces: a CA that was rebuilt refuses that for ever")
	}
}

// Renewals under load: a handshake every 20 ms over three certificates of 20
// seconds, none of which fails.
func TestRenewalUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: newMemory(), profile: "tiny"})
	r.awaitAll(t)
	pool, serials, handshakes := p.Pool(t), map[string]bool{}, 0
	for begin := time.Now(); len(serials) < 4; handshakes++ {
		cert, err := r.handshake(pool, "a.test")
		if err != nil {
			t.Fatalf("after %v and %d handshakes: %v\n%s", time.Since(begin), handshakes, err, r.log)
		}
		serials[cert.SerialNumber.String()] = true
		if time.Since(begin) > 80*time.Second {
			t.Fatalf("%d serials\n%s", len(serials), r.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := p.Orders(); n != 4 {
		t.Errorf("%d orders for one certificate and three renewals", n)
	}
	t.Logf("%d handshakes", handshakes)
}
