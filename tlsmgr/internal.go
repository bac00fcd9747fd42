package tlsmgr

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// internal is the source of mode Internal. The authority is shared by all
// replicas, through the storage; each process issues its own certificate for
// all names, whose key never leaves the memory.
type internal struct {
	m       *Manager
	storage certmagic.Storage
	slot    *slot
	ca      atomic.Pointer[authority] // nil until the storage has answered
}

func newInternal(m *Manager) *internal {
	return &internal{m: m, storage: m.cfg.Storage, slot: m.addSlot(strings.Join(m.cfg.Domains, ","), m.cfg.Domains...)}
}

// load tries once.
func (i *internal) load(ctx context.Context) { i.try(ctx) }

// run issues a certificate when one is due, and again and again while the
// storage does not answer. It looks at the clock now and then: a timer stands
// still while the machine is suspended, and a renewal that was asked for moves
// what is due.
func (i *internal) run(ctx context.Context) error {
	next, failures := i.due(), 0
	for {
		i.m.update(i.slot, func(s *Status) { s.NextAttempt = next.UTC() })
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(time.Until(next), lookEvery)):
		}
		switch {
		case i.due().After(time.Now()):
			next, failures = i.due(), 0
		case next.After(time.Now()):
		case i.try(ctx):
			next, failures = i.due(), 0
		default:
			failures++
			next = time.Now().Add(backoff(time.Second, time.Minute, failures))
		}
	}
}

// renew issues another certificate.
func (i *internal) renew(ctx context.Context, word string) error {
	if name, _ := ParseDomain(word); word != i.slot.key && !slices.Contains(i.slot.names, name) {
		return unknownName(word, i.slot.names)
	}
	if !i.try(ctx) {
		return errors.New("no certificate was issued; the status says why")
	}
	return nil
}

// due returns when a certificate should be issued.
func (i *internal) due() time.Time {
	cert := i.m.served(i.slot)
	if cert == nil {
		return time.Now()
	}
	return cert.Leaf.NotAfter.Add(-leafLife / 3)
}

// try issues a certificate and reports whether that worked.
func (i *internal) try(ctx context.Context) bool {
	i.m.update(i.slot, func(s *Status) { s.LastAttempt = time.Now().UTC() })
	ca, err := openAuthority(ctx, i.storage)
	if err == nil {
		i.ca.Store(ca)
		err = i.issue(ca)
	}
	if err != nil && ctx.Err() != nil {
		return false
	}
	if err != nil {
		i.m.metrics.attempts.WithLabelValues(resultFailed).Inc()
		i.m.cfg.Logger.Error("no certificate from our own authority", "error", err)
		i.m.update(i.slot, func(s *Status) { s.Alarm = "the storage of our authority: " + err.Error() })
		return false
	}
	i.m.metrics.attempts.WithLabelValues(resultOK).Inc()
	next := i.due().UTC()
	i.m.update(i.slot, func(s *Status) { s.Alarm, s.NextAttempt = "", next })
	return true
}

func (i *internal) issue(ca *authority) error {
	cert, err := ca.issue(i.m.cfg.Domains)
	if err != nil {
		return fmt.Errorf("issue: %w", err)
	}
	i.m.install(i.slot, cert)
	i.m.cfg.Logger.Info("certificate issued by our own authority", "names", certNames(cert), "not_after", cert.Leaf.NotAfter.UTC(), "authority", ca.root.Subject.CommonName)
	return nil
}

// rootPEM returns the root, or nil if it is not known yet.
func (i *internal) rootPEM() []byte {
	ca := i.ca.Load()
	if ca == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.root.Raw})
}

// backoff returns how long to wait after n failures in a row: least, then twice
// as long each time up to most, give or take a fifth so that replicas do not
// come at once.
func backoff(least, most time.Duration, n int) time.Duration {
	d := most
	if n < 20 {
		d = min(least<<max(n-1, 0), most)
	}
	return d*4/5 + rand.N(d*2/5+1)
}
