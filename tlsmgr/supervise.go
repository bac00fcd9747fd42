package tlsmgr

import (
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// ErrUnknownName is returned for a name that we keep no certificate for.
var ErrUnknownName = errors.New("unknown name")

// unknownName returns the error for a name that is none of names.
func unknownName(word string, names []string) error {
	if len(names) > 10 {
		names = append(names[:10:10], "…")
	}
	return fmt.Errorf("%w: %q is not among tls.domains (%s)", ErrUnknownName, word, strings.Join(names, ", "))
}

const (
	// lookEvery is how often the storage is asked whether another replica has
	// got a new certificate, and whether what is served is still due.
	lookEvery = time.Minute
	// lookEveryWithout is the same while nothing is served.
	lookEveryWithout = 5 * time.Second
	// storageRetry bounds the wait while the storage does not answer.
	storageRetry = time.Minute
	// leastBackoff and mostBackoff bound the wait after a failed attempt.
	leastBackoff = time.Minute
	mostBackoff  = 30 * time.Minute
)

const unsavedAlarm = "the new certificate is served but could not be stored; a restart loses it"

// managed is a name whose certificate is obtained and renewed. Only its own
// goroutine, in run, changes the fields below forced.
type managed struct {
	*acmeSource
	name   string
	slot   *slot
	forced chan chan error // requests to renew now; who asks gets the outcome

	failedAt time.Time // when our own last attempt began, if it failed
	unsaved  *obtained // what could not be stored yet, and is served all the same
	troubles int       // times in a row that the storage did not answer

	ariMu sync.Mutex // guards ari: load and run come one after the other, Status beside them
	ari   acme.RenewalInfo
	asked time.Time // when the CA was last asked for renewal information

	aheadMu   sync.Mutex // guards what follows
	ahead     time.Time  // of an attempt that a clock far ahead of ours has noted
	aheadSeen time.Time  // when we first saw that, by ours
}

// run looks after the name until ctx ends.
func (n *managed) run(ctx context.Context) error {
	for {
		wait := n.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		case done := <-n.forced:
			done <- n.attempt(ctx, true)
		}
	}
}

// renewNow asks run for an attempt and waits for its outcome.
func (n *managed) renewNow(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case n.forced <- done:
	case <-ctx.Done():
		return fmt.Errorf("another attempt is in progress: %w", ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look does what is due, and returns how long to wait before the next look.
func (n *managed) look(ctx context.Context) time.Duration {
	err := n.reload(ctx)
	if errors.Is(err, fs.ErrNotExist) && n.unsaved == nil {
		n.unsaved = n.remembered()
	}
	if n.unsaved != nil {
		err = n.save(ctx)
	}
	var r record
	if err == nil || isMissing(err) {
		var rerr error
		if r, rerr = n.loadRecord(ctx); rerr != nil {
			err = rerr
		}
	}
	if err != nil && !isMissing(err) {
		return n.storageTrouble(err)
	}
	n.troubles = 0
	n.askRenewalInfo(ctx)
	n.show(r)
	next := n.next(r, err != nil)
	if next.Equal(r.NextAttempt) && n.failedAt.Equal(r.LastAttempt) {
		next = next.Add(courtesy(r))
	}
	if wait := next.Sub(n.m.now()); wait > 0 {
		return min(wait, n.lookInterval())
	}
	if err := n.attempt(ctx, false); err != nil {
		return time.Second // and then as the record says
	}
	return 0
}

// remembered returns the certificate that is served, to be stored again, unless
// it is due or there is none: a storage that was emptied is no reason to order.
func (n *managed) remembered() *obtained {
	cert := n.m.served(n.slot)
	if cert == nil || !n.m.now().Before(n.due(false)) {
		return nil
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil
	}
	n.m.cfg.Logger.Warn("the storage has lost the certificate that is served; it is stored again", "name", n.name)
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return &obtained{chain: chain, key: key}
}

// courtesy is how much longer the replica waits whose attempt has failed: if the
// fault is its own, another one gets the certificate meanwhile.
func courtesy(r record) time.Duration {
	return min(r.NextAttempt.Sub(r.LastAttempt)/4, 15*time.Second)
}

// isMissing reports whether an attempt would mend err.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errSpoilt) }

// lookInterval is how long not to look at most: less for a certificate that
// lives for minutes.
func (n *managed) lookInterval() time.Duration {
	cert := n.m.served(n.slot)
	if cert == nil {
		return lookEveryWithout
	}
	return max(min(lookEvery, cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/30), time.Second)
}

// storageTrouble tells that the storage does not answer. What is served goes on
// being served; nothing is ordered that could not be kept.
func (n *managed) storageTrouble(err error) time.Duration {
	n.troubles++
	wait := backoff(time.Second, storageRetry, n.troubles)
	if n.troubles == 1 {
		n.m.metrics.attempts.WithLabelValues(resultStorage).Inc()
		n.m.cfg.Logger.Error("the storage of certificates does not work; it is asked again until it does", "name", n.name, "error", err)
	}
	alarm := "the storage of certificates: " + err.Error()
	if n.unsaved != nil {
		alarm = unsavedAlarm + ": " + err.Error()
	}
	n.m.update(n.slot, func(s *Status) {
		s.Alarm = alarm
		s.NextAttempt = n.m.now().Add(wait).UTC()
	})
	return wait
}

// reload serves what is stored, if that is another certificate than the one
// that is served.
func (n *managed) reload(ctx context.Context) error {
	cert, err := n.loadStored(ctx)
	if err != nil {
		return err
	}
	served := n.m.served(n.slot)
	if served != nil && digestOf(served) == digestOf(cert) {
		return nil
	}
	if served != nil && n.unsaved != nil && served.Leaf.NotAfter.After(cert.Leaf.NotAfter) {
		return nil // what is stored is older than what could not be
	}
	n.m.install(n.slot, cert)
	n.m.cfg.Logger.Info("certificate loaded", "name", n.name, "not_after", cert.Leaf.NotAfter.UTC(), "issuer", cert.Leaf.Issuer.String())
	return nil
}

// due returns when the certificate should be replaced: when the CA says so,
// else when a third of its life is left.
func (n *managed) due(missing bool) time.Time {
	cert := n.m.served(n.slot)
	if cert == nil || missing {
		return time.Time{}
	}
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	due := cert.Leaf.NotAfter.Add(-life / 3)
	if ari := n.renewalInfo(); ari.HasWindow() {
		due = ari.SelectedTime
		if last := cert.Leaf.NotAfter.Add(-life / 10); due.After(last) {
			due = last // room for retries, whatever the CA suggests
		}
	}
	return due
}

// show makes r visible in the status.
func (n *managed) show(r record) {
	next, ari := n.next(r, n.m.served(n.slot) == nil), n.renewalInfo()
	alarm := n.dueAlready(r)
	n.m.update(n.slot, func(s *Status) {
		s.Failures, s.LastAttempt, s.NextAttempt, s.Problem = r.Failures, r.LastAttempt, next.UTC(), r.Problem
		s.RenewalReason = ari.ExplanationURL
		s.Alarm = alarm
		if r.Problem != nil {
			s.Alarm = r.Problem.String()
		}
		if n.unsaved != nil {
			s.Alarm = unsavedAlarm
		}
	})
}
