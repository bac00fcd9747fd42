package tlsmgr

import (
	"context"
	"crypto/x509"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Stored is what the storage has for one name of mode ACME.
type Stored struct {
	// Status is as a server with this storage would tell it.
	Status Status
	// Err says why there is no certificate that can be served: fs.ErrNotExist
	// if none was obtained yet.
	Err error
	// RetryAfter is until when the CA refuses, as it has said. Zero: it has not.
	RetryAfter time.Time
	// Tried and Issued are when attempts began and when they were successful,
	// in the last week, the oldest first.
	Tried, Issued []time.Time
}

// Inspect reads what the storage has for each name of mode ACME, in the order
// of the configuration. It writes nothing and asks no CA. It is for a Manager
// that does not run, and comes before Status and Chains of such a one.
func (m *Manager) Inspect(ctx context.Context) ([]Stored, error) {
	s, ok := m.source.(*acmeSource)
	if !ok {
		return nil, nil
	}
	var all []Stored
	for _, n := range s.names {
		missing := n.reload(ctx)
		if missing != nil && !isMissing(missing) {
			return nil, fmt.Errorf("the storage of certificates: %w", missing)
		}
		r, err := n.loadRecord(ctx)
		if err != nil {
			return nil, fmt.Errorf("the storage of certificates: %w", err)
		}
		if info, ok := n.storedRenewalInfo(ctx); ok {
			n.setRenewalInfo(info)
		}
		n.show(r)
		all = append(all, Stored{Err: missing, RetryAfter: r.NotBefore, Tried: r.Tried, Issued: r.Issued})
	}
	for i, st := range m.Status() {
		all[i].Status = st
	}
	return all, nil
}

// Chain is what is served under one name, or of one pair of files.
type Chain struct {
	Name         string
	Certificates []*x509.Certificate // the server's own first
}

// Chains returns the certificates that are served, in the order of the
// configuration.
func (m *Manager) Chains() []Chain {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Chain
	for _, s := range m.slots {
		if s.cert == nil {
			continue
		}
		if chain, err := parseChain(s.cert); err == nil {
			all = append(all, Chain{s.key, chain})
		}
	}
	return all
}

// Account is an account at a CA.
type Account struct {
	URL    string
	Status string // valid, deactivated or revoked (RFC 8555, 7.1.2)
}

// Account asks the CA whether it knows our account; it registers none. The error
// is fs.ErrNotExist if the storage has no account yet, and a *Problem of the
// type accountDoesNotExist if the CA does not know it.
func (m *Manager) Account(ctx context.Context) (Account, error) {
	s, ok := m.source.(*acmeSource)
	if !ok || len(s.names) == 0 {
		return Account{}, fmt.Errorf("mode %s has no account: %w", m.cfg.Mode, fs.ErrNotExist)
	}
	n := s.names[0]
	ours, err := n.account(ctx)
	if err != nil {
		return Account{}, err
	}
	known, err := s.client.GetAccount(ctx, ours)
	if err != nil {
		p := newProblem(err)
		p.Advice = p.advise(err, s.cfg, n.name)
		return Account{URL: ours.Location, Status: ours.Status}, p
	}
	return Account{URL: known.Location, Status: known.Status}, nil
}

// historyLife and historyLength bound what is remembered of attempts: Let's
// Encrypt counts over a week at most, and to no more than 50.
const (
	historyLife   = 7 * 24 * time.Hour
	historyLength = 100
)

// remember adds now to times, and forgets what is old.
func remember(times []time.Time, now time.Time) []time.Time {
	times = slices.DeleteFunc(append(slices.Clone(times), now.UTC().Truncate(time.Second)), func(t time.Time) bool {
		return now.Sub(t) > historyLife
	})
	return times[max(0, len(times)-historyLength):]
}
