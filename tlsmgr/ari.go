package tlsmgr

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

const (
	// ariPause is how long the CA is left alone if it does not say when to ask
	// again, or has no answer.
	ariPause = 6 * time.Hour
	// ariRetry is how long the CA is left alone if it had an answer before, and
	// has none now.
	ariRetry = time.Hour
	// ariLeastLife is the life below which certificates are renewed by their
	// age alone: the CA would not be asked often enough to matter.
	ariLeastLife = 48 * time.Hour
)

// renewalInfo returns when the CA wants the certificate that is served to be
// renewed (RFC 9773); without a window if it has not said.
func (n *managed) renewalInfo() acme.RenewalInfo {
	n.ariMu.Lock()
	defer n.ariMu.Unlock()
	cert := n.m.served(n.slot)
	if cert == nil {
		return acme.RenewalInfo{}
	}
	if id, err := acme.ARIUniqueIdentifier(cert.Leaf); err != nil || id != n.ari.UniqueIdentifier {
		return acme.RenewalInfo{}
	}
	return n.ari
}

// askRenewalInfo asks the CA if it is time to, or takes over what another
// replica was told, so that all renew at one time. Failure is no trouble: then
// the age decides.
func (n *managed) askRenewalInfo(ctx context.Context) {
	cert := n.m.served(n.slot)
	if cert == nil || cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore) < ariLeastLife {
		return
	}
	id, err := acme.ARIUniqueIdentifier(cert.Leaf)
	if err != nil {
		return
	}
	known, pause := n.renewalInfo(), ariPause
	if known.HasWindow() {
		pause = ariRetry
	}
	if known.HasWindow() && !known.NeedsRefresh() || time.Since(n.asked) < pause {
		return
	}
	if stored, ok := n.storedRenewalInfo(ctx); ok && stored.UniqueIdentifier == id {
		if !stored.NeedsRefresh() {
			n.setRenewalInfo(stored)
			return
		}
		if !known.HasWindow() {
			known = stored // of the process before this one
		}
	}
	n.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	told, err := n.client.GetRenewalInfo(ctx, cert.Leaf)
	if err != nil {
		if !errors.Is(err, acme.ErrUnsupported) {
			n.m.cfg.Logger.Warn("the CA does not say when it wants the certificate renewed; its age decides", "name", n.name, "error", err)
		}
		return
	}
	told.UniqueIdentifier = id
	if told.RetryAfter == nil {
		at := time.Now().Add(ariPause)
		told.RetryAfter = &at
	}
	if known.HasWindow() && known.SameWindow(told) {
		told.SelectedTime = known.SelectedTime
	} else if known.HasWindow() {
		n.m.cfg.Logger.Warn("the CA wants the certificate renewed at another time than before", "name", n.name, "at", told.SelectedTime, "why", told.ExplanationURL)
	}
	n.setRenewalInfo(told)
	if data, err := json.Marshal(told); err == nil {
		if err := n.storage.Store(ctx, n.ownName("renewal"), data); err != nil {
			n.m.cfg.Logger.Debug("renewal information could not be stored", "name", n.name, "error", err)
		}
	}
}

func (n *managed) setRenewalInfo(info acme.RenewalInfo) {
	n.ariMu.Lock()
	defer n.ariMu.Unlock()
	n.ari = info
}

func (n *managed) storedRenewalInfo(ctx context.Context) (info acme.RenewalInfo, ok bool) {
	data, err := n.storage.Load(ctx, n.ownName("renewal"))
	if err != nil || json.Unmarshal(data, &info) != nil {
		return acme.RenewalInfo{}, false
	}
	return info, info.HasWindow()
}
