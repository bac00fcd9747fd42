package tlsmgr

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// attemptPatience is how long an attempt may take beside what the CA may
	// take to look at the challenge; dnsPatience if it has to wait, too, until a
	// DNS record is seen everywhere.
	attemptPatience = 30 * time.Second
	dnsPatience     = 4 * time.Minute
)

// attempt tries once to get a certificate, under the lock of the name, which
// is then free for other replicas. Unless it is forced, it does nothing if
// another replica was faster or if the record forbids it.
func (n *managed) attempt(ctx context.Context, forced bool) error {
	select {
	case n.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-n.slots }()
	if err := n.storage.Lock(ctx, n.lockName()); err != nil {
		n.storageTrouble(err)
		return fmt.Errorf("lock: %w", err)
	}
	err := n.attemptLocked(ctx, forced)
	if uerr := n.storage.Unlock(context.WithoutCancel(ctx), n.lockName()); uerr != nil {
		n.m.cfg.Logger.Warn("a lock in the storage of certificates could not be freed; it ends by itself", "name", n.name, "error", uerr)
	}
	return err
}

func (n *managed) attemptLocked(ctx context.Context, forced bool) error {
	missing := n.reload(ctx)
	r, err := n.loadRecord(ctx)
	if err != nil || missing != nil && !isMissing(missing) {
		err = errors.Join(err, missing)
		n.storageTrouble(err)
		return err
	}
	now := n.m.now()
	switch {
	case forced && now.Before(r.NotBefore):
		return fmt.Errorf("the CA refuses until %s: %s", r.NotBefore.Format(time.RFC3339), r.Problem)
	case !forced && now.Before(n.next(r, missing != nil)):
		n.show(r)
		return nil
	}
	if errors.Is(missing, errSpoilt) {
		if err := n.putAside(ctx, n.name, n.certName(), n.keyName(), n.metaName()); err != nil {
			n.storageTrouble(err)
			return err
		}
		n.m.cfg.Logger.Error("a stored certificate cannot be used; it was put aside, and another is obtained", "name", n.name, "error", missing, "aside", spoiltDir)
	}
	// Written before the order: a process that dies in the middle has tried.
	r.Failures++
	r.LastAttempt, r.NextAttempt = now.UTC(), now.Add(n.backoff(r.Failures)).UTC()
	r.Tried = remember(r.Tried, now)
	if err := n.storeRecord(ctx, r); err != nil {
		n.storageTrouble(err)
		return err
	}
	n.m.cfg.Logger.Info("obtaining a certificate", "name", n.name, "ca", n.cfg.CA, "challenge", n.cfg.Challenge, "attempt", r.Failures)
	o, err := n.order(ctx)
	if err != nil {
		return n.failed(ctx, r, err)
	}
	return n.succeeded(ctx, r, o)
}

// backoff is how long to wait after so many failures in a row. Certificates
// that live for minutes cannot wait for minutes.
func (n *managed) backoff(failures int) time.Duration {
	least := leastBackoff
	if cert := n.m.served(n.slot); cert != nil && !isPublicCA(n.cfg.CA) {
		least = max(min(least, cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/20), 5*time.Second)
	}
	return backoff(least, mostBackoff, failures)
}

// order gets a certificate from the CA.
func (n *managed) order(ctx context.Context) (*obtained, error) {
	patience := attemptPatience
	if n.cfg.Challenge == DNS01 {
		patience = dnsPatience
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Patience+patience)
	defer cancel()
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	t := &x509.CertificateRequest{DNSNames: []string{n.name}}
	if ip := net.ParseIP(n.name); ip != nil {
		t.DNSNames, t.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	// It only tells the issuer our address, and never asks a person. Without one
	// it would take that of another issuer of this process, or of an old account.
	if n.cfg.Email != "" {
		if err := n.issuer.PreCheck(ctx, []string{n.name}, false); err != nil {
			return nil, err
		}
	}
	if err := n.mendAccount(ctx); err != nil {
		return nil, err
	}
	issued, err := n.issuer.Issue(ctx, csr)
	if err != nil && strings.Contains(err.Error(), "no certificate chains") {
		// What certmagic says when the CA has forgotten our account. It has
		// registered another meanwhile.
		n.m.cfg.Logger.Warn("the CA does not know our account any more; a new one is registered", "name", n.name, "ca", n.cfg.CA)
		issued, err = n.issuer.Issue(ctx, csr)
	}
	if err != nil {
		return nil, err
	}
	return &obtained{chain: issued.Certificate, key: key, metadata: issued.Metadata}, nil
}

// failed remembers what went wrong.
func (n *managed) failed(ctx context.Context, r record, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // we are ending; the record says that we tried
	}
	r.Problem = n.explain(ctx, err)
	n.failedAt = r.LastAttempt
	// What took long is not begun anew at once: others, who may be able to, wait
	// for the lock.
	r.NextAttempt = n.m.now().Add(r.NextAttempt.Sub(r.LastAttempt)).UTC()
	if until := r.Problem.retryAfter(n.m.now()); until.After(r.NextAttempt) {
		r.NextAttempt, r.NotBefore = until.UTC(), until.UTC()
	}
	n.m.metrics.attempts.WithLabelValues(resultFailed).Inc()
	n.m.cfg.Logger.Error("no certificate obtained", "name", n.name, "ca", n.cfg.CA, "challenge", n.cfg.Challenge, "problem", r.Problem.Told(), "advice", r.Problem.Advice, "failures", r.Failures, "next", r.NextAttempt, "error", withoutContact(err.Error()))
	if serr := n.storeRecord(ctx, r); serr != nil {
		n.m.cfg.Logger.Warn("the outcome of an attempt could not be stored", "name", n.name, "error", serr)
	}
	n.show(r)
	return r.Problem
}

// succeeded serves and stores what was obtained. If it cannot be stored it is
// served all the same: the CA counts it.
func (n *managed) succeeded(ctx context.Context, r record, o *obtained) error {
	if err := n.serve(o); err != nil {
		return n.failed(ctx, r, err)
	}
	n.m.metrics.attempts.WithLabelValues(resultOK).Inc()
	n.unsaved = o
	if err := n.save(ctx); err != nil {
		n.m.cfg.Logger.Error("the new certificate is served but could not be stored", "name", n.name, "error", err)
		n.show(record{LastAttempt: n.m.now().UTC()})
	}
	return nil
}

// serve installs o.
func (n *managed) serve(o *obtained) error {
	key, err := certmagic.PEMEncodePrivateKey(o.key)
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(o.chain, key)
	if err != nil {
		return fmt.Errorf("the CA sent a certificate that cannot be used: %w", err)
	}
	if err := cert.Leaf.VerifyHostname(probe(n.name)); err != nil {
		return fmt.Errorf("the CA sent a certificate for something else: %w", err)
	}
	n.m.install(n.slot, &cert)
	n.m.cfg.Logger.Info("certificate obtained", "name", n.name, "issuer", cert.Leaf.Issuer.String(), "not_after", cert.Leaf.NotAfter.UTC())
	if _, trouble := chainTrouble(&cert, n.m.cfg.Roots); trouble != "" {
		n.m.cfg.Logger.Warn("the CA sent a chain that clients may refuse", "name", n.name, "why", trouble)
	}
	return nil
}

// save stores what could not be stored yet, and that all is well.
func (n *managed) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second) // even if we are ending: it was paid for
	defer cancel()
	if err := n.store(ctx, n.unsaved); err != nil {
		return err
	}
	old, err := n.loadRecord(ctx)
	if err != nil {
		return err
	}
	now := n.m.now()
	r := record{LastAttempt: now.UTC(), Tried: old.Tried, Issued: old.Issued}
	if cert := n.m.served(n.slot); cert != nil {
		r.Rest = now.Add(rest(cert.Leaf, now)).UTC()
	}
	if n.unsaved.metadata != nil { // else the storage had lost it
		r.Issued = remember(r.Issued, now)
	}
	n.unsaved = nil
	n.show(r)
	if alarm := n.dueAlready(r); alarm != "" {
		n.m.cfg.Logger.Error("the new certificate is due already", "name", n.name, "alarm", alarm)
	}
	return n.storeRecord(ctx, r)
}
