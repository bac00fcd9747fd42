package tlsmgr

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

const problemJSON = "application/problem+json"

// TestProblems holds what people are told against the ways in which an attempt
// can fail: the type and the detail of the CA, and what to do about it.
func TestProblems(t *testing.T) {
	pki, stranger := tlstest.New(t), tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	p.SetDNS(t, "set-servfail", map[string]string{"host": "servfail.test"})
	fault := tlstest.NewFault(t, pki, p.Directory)
	limited := `{"type":"urn:ietf:params:acme:error:rateLimited","status":429,"detail":"too many certificates already issued`
	until := time.Now().Add(5 * time.Hour).UTC().Truncate(time.Second)
	through := func(change func(*ACMEConfig)) func(*Config) { return func(c *Config) { change(&c.ACME) } }
	for _, c := range []struct {
		name   string
		domain string
		path   string // that the fault is for
		times  int
		fault  http.HandlerFunc
		change func(*ACMEConfig)
		kind   string // of the problem
		detail string
		advice string
		next   time.Duration // at least, until the next attempt
	}{
		{name: "http-01 refused", kind: "connection", detail: "connection refused", advice: "port 80"},
		{name: "tls-alpn-01 refused", change: func(a *ACMEConfig) { a.Challenge = TLSALPN01 }, kind: "unauthorized", detail: "tls-alpn-01 challenge", advice: "port 443"},
		{name: "SERVFAIL", domain: "servfail.test", kind: "connection", detail: "could not resolve", advice: "cannot resolve servfail.test"},
		{name: "forbidden name", domain: "blocked-domain.example", kind: "rejectedIdentifier", detail: "forbidden by policy", advice: "does not sign"},
		{name: "bad contact", change: func(a *ACMEConfig) { a.Email = "foo@bar@baz" }, kind: "invalidContact", detail: "invalid", advice: "tls.email"},
		{name: "unknown profile", change: func(a *ACMEConfig) { a.Profile = "nosuch" }, detail: "unknown profile name", advice: "tls.profile"},
		{name: "unknown authority", change: func(a *ACMEConfig) { a.Roots = stranger.Pool() }, detail: "unknown authority", advice: "tls.ca_roots"},
		{name: "no CA there", change: func(a *ACMEConfig) { a.CA = "https://" + tlstest.Loopback(tlstest.Port(t)) + "/dir" }, detail: "connection refused", advice: "cannot be reached"},
		{name: "no such host", change: func(a *ACMEConfig) { a.CA = "https://acme.invalid/dir" }, detail: "acme.invalid", advice: "cannot be resolved"},
		{name: "not a directory", change: func(a *ACMEConfig) { a.CA = strings.TrimSuffix(a.CA, "dir") + "nothing" }, detail: "HTTP 404", advice: "URL of the ACME directory"},
		{name: "rate limit with a time", path: "/order-plz", times: 9, fault: tlstest.Answer(429, problemJSON, limited+`, retry after `+until.Format(time.DateTime)+` UTC: see https://example.com/"}`), kind: "rateLimited", detail: "too many certificates", advice: "wait", next: 4 * time.Hour},
		{name: "rate limit without", path: "/order-plz", times: 9, fault: tlstest.Answer(429, problemJSON, limited+`"}`), kind: "rateLimited", detail: "too many", advice: "wait", next: 59 * time.Minute},
		{name: "maintenance", path: "/order-plz", times: 9, fault: tlstest.Answer(503, problemJSON, `{"type":"urn:ietf:params:acme:error:serverInternal","status":503,"detail":"The service is down for maintenance"}`), kind: "serverInternal", detail: "maintenance"},
		{name: "HTML", path: "/order-plz", times: 9, fault: tlstest.Answer(500, "text/html", "<html>oops</html>"), detail: "HTTP 500"},
		{name: "CAA", path: "/order-plz", times: 9, fault: tlstest.Answer(403, problemJSON, `{"type":"urn:ietf:params:acme:error:caa","status":403,"detail":"CAA record for x.test prevents issuance"}`), kind: "caa", detail: "CAA record", advice: "CAA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fault.Set(c.path, c.times, c.fault)
			if c.domain == "" {
				c.domain = "broken.test"
			}
			o := options{domains: []string{c.domain}, mute: true, change: through(func(a *ACMEConfig) {
				a.CA = fault.Directory
				if c.change != nil {
					c.change(a)
				}
			})}
			r := startReplica(t, p, pki, o)
			problem := r.awaitProblem(t)
			if problem.Type != c.kind || !strings.Contains(problem.Detail, c.detail) || !strings.Contains(problem.Advice, c.advice) || (c.advice == "") != (problem.Advice == "") {
				t.Errorf("%+v", problem)
			}
			s := r.Status()[0]
			if s.Failures != 1 || !strings.Contains(s.Alarm, problem.Detail) || time.Until(s.NextAttempt) < max(c.next, 40*time.Second) || time.Until(s.NextAttempt) > max(c.next*3/2, 90*time.Second) {
				t.Errorf("%+v", s)
			}
			err := r.Renew(t.Context(), c.domain)
			if told := (*Problem)(nil); c.next == 0 && !errors.As(err, &told) || c.next > 0 && (err == nil || !strings.Contains(err.Error(), "refuses until")) {
				t.Errorf("renewed by hand: %v", err)
			}
			fault.Set("", 0, nil)
		})
	}
}

// A CA that answers late, or with the wrong nonce half of the time, is one that
// works.
func TestAwkwardCA(t *testing.T) {
	pki := tlstest.New(t)
	t.Run("half of the nonces are refused", func(t *testing.T) {
		p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{NonceReject: "50"})
		startReplica(t, p, pki, options{domains: []string{"a.test"}}).awaitAll(t)
	})
	t.Run("all of them", func(t *testing.T) {
		p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{NonceReject: "100"})
		if problem := startReplica(t, p, pki, options{domains: []string{"a.test"}}).awaitProblem(t); problem.Type != "badNonce" || !strings.Contains(problem.Advice, "nonces") {
			t.Errorf("%+v", problem)
		}
	})
	t.Run("busy twice", func(t *testing.T) {
		p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
		fault := tlstest.NewFault(t, pki, p.Directory)
		fault.Set("/order-plz", 2, tlstest.Answer(503, problemJSON, `{"type":"urn:ietf:params:acme:error:rateLimited","status":503,"detail":"Service busy; retry later."}`))
		startReplica(t, p, pki, options{domains: []string{"a.test"}, change: func(c *Config) { c.ACME.CA = fault.Directory }}).awaitAll(t)
	})
}

// A CA that takes an order and says nothing is given up after a while.
func TestSilentCA(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	fault := tlstest.NewFault(t, pki, p.Directory)
	fault.Set("/order-plz", 9, tlstest.Hang)
	r := startReplica(t, p, pki, options{domains: []string{"a.test"}, change: func(c *Config) { c.ACME.CA, c.ACME.Patience = fault.Directory, time.Second }})
	problem := r.awaitProblem(t)
	if !strings.Contains(problem.Detail, "deadline exceeded") || !strings.Contains(problem.Advice, "does not answer in time") {
		t.Errorf("%+v", problem)
	}
}

// External account binding, right and wrong.
func TestExternalAccount(t *testing.T) {
	pki := tlstest.New(t)
	mac := "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{EAB: map[string]string{"kid-1": mac}})
	for _, c := range []struct{ name, kid, mac, kind, advice string }{
		{"none", "", "", "externalAccountRequired", "tls.eab_key_id"},
		{"unknown", "kid-2", mac, "unauthorized", "as the CA gave them out"},
		{"wrong", "kid-1", strings.Repeat("A", len(mac)), "unauthorized", "as the CA gave them out"},
		{"not base64url", "kid-1", "***", "", "base64url"},
		{"right", "kid-1", mac, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startReplica(t, p, pki, options{domains: []string{"a.test"}, change: func(cfg *Config) { cfg.ACME.AccountKeyID, cfg.ACME.AccountMAC = c.kid, c.mac }})
			defer r.stop()
			if c.name == "right" {
				r.awaitAll(t)
				return
			}
			if problem := r.awaitProblem(t); problem.Type != c.kind || !strings.Contains(problem.Advice, c.advice) {
				t.Errorf("%+v", problem)
			}
		})
	}
}

// What is stored and cannot be used is put aside and obtained anew; what is only
// described badly is not.
func TestSpoiltStorage(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	storage := newMemory()
	o := options{domains: []string{"a.test"}, storage: storage}
	r := startReplica(t, p, pki, o)
	r.awaitAll(t)
	good, n := r.Status()[0].Serial, r.Manager.source.(*acmeSource).names[0]
	r.stop()
	other := pki.Issue(tlstest.Leaf{Hosts: []string{"other.test"}})
	for _, c := range []struct {
		name  string
		spoil func()
		again bool
	}{
		{"certificate cut off", func() { storage.files[n.certName()] = storage.files[n.certName()][:300] }, true},
		{"key of another", func() { storage.files[n.keyName()] = tlstest.KeyPEM(t, other) }, true},
		{"key missing", func() { delete(storage.files, n.keyName()) }, true},
		{"certificate of another name", func() {
			storage.files[n.certName()], storage.files[n.keyName()] = tlstest.PEM(other), tlstest.KeyPEM(t, other)
		}, true},
		{"description missing", func() { delete(storage.files, n.metaName()) }, false},
		{"record is junk", func() { storage.files[n.ownName("attempts")] = []byte("junk") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spoil()
			orders := p.Orders()
			r := startReplica(t, p, pki, o)
			r.awaitAll(t)
			serial := r.Status()[0].Serial
			if again := serial != good; again != c.again || p.Orders()-orders > 1 {
				t.Errorf("obtained again: %v, %d orders", again, p.Orders()-orders)
			}
			if aside := strings.Contains(r.log.String(), "was put aside"); aside != c.again {
				t.Errorf("put aside: %v\n%s", aside, r.log)
			}
			good = serial
			r.stop()
		})
	}
	aside := 0
	for key := range storage.files {
		if strings.HasPrefix(key, "modgate/spoilt/a.test/") && strings.HasSuffix(key, ".crt") {
			aside++
		}
	}
	if aside == 0 {
		t.Error("nothing is kept to look at")
	}
}

// A stored account that cannot be used is put aside, and another is registered;
// one that the CA has closed, or whose key is another's, is told with what to do.
func TestSpoiltAccount(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	storage := newMemory()
	r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage, email: "Ops@example.com"})
	r.awaitAll(t)
	s := r.source.(*acmeSource)
	name := s.accountName()
	otherKey := tlstest.KeyPEM(t, pki.Issue(tlstest.Leaf{}))
	aside := func() (n int) {
		for key := range keys(t, storage) {
			if strings.HasPrefix(key, spoiltDir+"/account/") {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name, key string
		value     []byte
		advice    string // empty: healed
	}{
		{"cut off", name + ".json", []byte(`{"status": "val`), ""},
		{"empty", name + ".json", nil, ""},
		{"key is junk", name + ".key", []byte("junk"), ""},
		{"key of another", name + ".key", otherKey, "not that of its key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := storage.Store(t.Context(), c.key, c.value); err != nil {
				t.Fatal(err)
			}
			err := r.Renew(t.Context(), "a.test")
			if told := (*Problem)(nil); c.advice != "" && (!errors.As(err, &told) || !strings.Contains(told.Advice, c.advice)) {
				t.Errorf("%v, want %q", err, c.advice)
			}
			if c.advice == "" && (err != nil || aside() == 0 || !strings.Contains(r.log.String(), "another is registered")) {
				t.Errorf("%v, %d put aside\n%s", err, aside(), r.log)
			}
			if err := storage.Delete(t.Context(), spoiltDir); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := storage.Delete(t.Context(), "acme"); err != nil { // as the advice says
		t.Fatal(err)
	}
	if err := r.Renew(t.Context(), "A.test."); err != nil {
		t.Error(err)
	}
	account, err := s.account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	account.Status = "deactivated"
	if _, err := s.client.UpdateAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	if told := (*Problem)(nil); !errors.As(r.Renew(t.Context(), "a.test"), &told) || !strings.Contains(told.Advice, "closed our account") {
		t.Errorf("%+v", told)
	}
}

// A storage that is down at the start delays, and no more. One that fails when
// the certificate comes does not lose it.
func TestStorageTrouble(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	down := errors.New("connection refused")
	t.Run("down at the start", func(t *testing.T) {
		storage, orders := newMemory(), p.Orders()
		storage.breakBy(func(string, string) error { return down })
		r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage})
		r.await(t, "an alarm", func() bool { return strings.Contains(r.Status()[0].Alarm, "connection refused") })
		if n := p.Orders() - orders; n != 0 {
			t.Errorf("%d orders that could not be stored", n)
		}
		storage.breakBy(nil)
		r.awaitAll(t)
		r.await(t, "no alarm", func() bool { return r.Status()[0].Alarm == "" })
	})
	t.Run("reading only", func(t *testing.T) {
		storage, orders := newMemory(), p.Orders()
		storage.breakBy(func(op, _ string) error {
			if op == "store" {
				return errors.New("read-only")
			}
			return nil
		})
		r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage})
		r.await(t, "an alarm", func() bool { return strings.Contains(r.Status()[0].Alarm, "read-only") })
		if n := p.Orders() - orders; n != 0 {
			t.Errorf("%d orders that could not be stored", n)
		}
	})
	t.Run("full when the certificate comes", func(t *testing.T) {
		storage, orders := newMemory(), p.Orders()
		storage.breakBy(func(op, key string) error {
			if op == "store" && strings.HasPrefix(key, "certificates/") {
				return errors.New("no space left on device")
			}
			return nil
		})
		r := startReplica(t, p, pki, options{domains: []string{"b.test"}, storage: storage})
		r.awaitAll(t)
		r.await(t, "an alarm", func() bool { return strings.Contains(r.Status()[0].Alarm, "could not be stored") })
		if _, err := r.handshake(p.Pool(t), "b.test"); err != nil {
			t.Error(err)
		}
		storage.breakBy(nil)
		r.await(t, "no alarm", func() bool { return r.Status()[0].Alarm == "" })
		serial := r.Status()[0].Serial
		r.stop()
		r = startReplica(t, p, pki, options{domains: []string{"b.test"}, storage: storage})
		r.awaitAll(t)
		if got := r.Status()[0].Serial; got != serial || p.Orders()-orders != 1 {
			t.Errorf("%s, was %s; %d orders", got, serial, p.Orders()-orders)
		}
	})
	t.Run("back and empty", func(t *testing.T) {
		storage := newMemory()
		r := startReplica(t, p, pki, options{domains: []string{"c.test"}, storage: storage})
		r.awaitAll(t)
		storage.mu.Lock()
		clear(storage.files)
		storage.mu.Unlock()
		if err := r.Renew(t.Context(), "c.test"); err != nil {
			t.Error(err)
		}
	})
}

// The CA loses all it knew, or the account changes: renewals go on.
func TestCALosesItsMemory(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	storage := newMemory()
	r := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage, email: "old@example.com"})
	r.awaitAll(t)
	p.Restart(t)
	if err := r.Renew(t.Context(), "a.test"); err != nil {
		t.Errorf("after the CA was rebuilt: %v", err)
	}
	if _, err := r.handshake(p.Pool(t), "a.test"); err != nil {
		t.Error(err)
	}
	r.stop()
	r = startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage, email: "new@example.com"})
	if err := r.Renew(t.Context(), "a.test"); err != nil {
		t.Errorf("with another account: %v", err)
	}
}

// A replica whose challenge cannot work keeps no other one from the certificate
// for long.
func TestBrokenReplica(t *testing.T) {
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	storage := newMemory()
	broken := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage, mute: true})
	broken.awaitProblem(t)
	healthy := startReplica(t, p, pki, options{domains: []string{"a.test"}, storage: storage})
	if err := healthy.Renew(t.Context(), "a.test"); err != nil {
		t.Error(err)
	}
	serial := healthy.Status()[0].Serial
	broken.await(t, "it serves what the other has got", func() bool { return broken.Status()[0].Serial == serial })
	broken.await(t, "no alarm", func() bool { return broken.Status()[0].Alarm == "" })
	// The one whose attempt has failed waits a little longer than the record says.
	r := record{LastAttempt: time.Now(), NextAttempt: time.Now().Add(time.Minute)}
	if d := courtesy(r); d < 10*time.Second {
		t.Errorf("it waits %v longer", d)
	}
}

// Many names are obtained beside each other within the limits.
func TestManyNames(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	var names []string
	for c := 'a'; c <= 'n'; c++ {
		names = append(names, string(c)+".many.test")
	}
	r := startReplica(t, p, pki, options{domains: names, storage: newMemory()})
	r.awaitAll(t)
	if n := p.Orders(); n != len(names) || slices.ContainsFunc(r.Status(), func(s Status) bool { return s.Alarm != "" || s.Failures > 0 }) {
		t.Errorf("%d orders\n%s", n, r.log)
	}
}
