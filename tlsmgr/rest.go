package tlsmgr

import (
	"crypto/x509"
	"fmt"
	"time"
)

// mostRest bounds the rest of a certificate that was not due by its age when it
// came: a CA may have to take back within a day what it has given.
const mostRest = 6 * time.Hour

// next returns when to try for a certificate: when it is due, but not before r
// allows it. A rest that was written by a clock far ahead of ours binds nobody:
// it may end after the certificate does.
func (n *managed) next(r record, missing bool) time.Time {
	next := n.due(missing)
	if !missing && r.Rest.After(next) && !r.LastAttempt.After(n.m.now().Add(mostBackoff)) {
		next = r.Rest
	}
	if at := n.allowed(r); at.After(next) {
		next = at
	}
	return next
}

// allowed returns when r allows the next attempt. Of one that a clock far ahead of
// ours has noted, the wait counts from when this process first sees it: it does
// not last until that date comes, and replicas with different clocks do not take
// turns without a wait.
func (n *managed) allowed(r record) time.Time {
	now := n.m.now()
	if !r.LastAttempt.After(now.Add(mostBackoff)) {
		return r.NextAttempt
	}
	n.aheadMu.Lock()
	defer n.aheadMu.Unlock()
	if !n.ahead.Equal(r.LastAttempt) {
		n.ahead, n.aheadSeen = r.LastAttempt, now
	}
	return n.aheadSeen.Add(max(r.NextAttempt.Sub(r.LastAttempt), leastBackoff))
}

// rest is how long a certificate is kept that has just come, however due it
// seems: by a clock ahead of the CA's, by a CA that dates back, or that wants
// renewed what it has just given. Another one would be due just so, and the next
// would follow it at once.
func rest(leaf *x509.Certificate, now time.Time) time.Duration {
	life, left := leaf.NotAfter.Sub(leaf.NotBefore), leaf.NotAfter.Sub(now)
	least := max(min(life/20, mostRest), time.Second)
	if left <= life/3 {
		return max(left/2, least)
	}
	return least
}

// dueAlready returns an alarm if the certificate that is served rests, and is
// due all the same.
func (n *managed) dueAlready(r record) string {
	cert, now := n.m.served(n.slot), n.m.now()
	if cert == nil || !now.Before(r.Rest) || now.Before(n.due(false)) {
		return ""
	}
	leaf := cert.Leaf
	if r.LastAttempt.Sub(leaf.NotBefore) < leaf.NotAfter.Sub(leaf.NotBefore)/2 {
		return "the CA wants a certificate renewed that it has just given; the next one is obtained at " + r.Rest.Format(time.RFC3339) + " → ask the CA why"
	}
	return fmt.Sprintf("the certificate was due when it came: the clock here said %s, and it is good from %s to %s; the next one is obtained at %s → set the clock of this machine; if that is right, the CA's",
		r.LastAttempt.Format(time.RFC3339), leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), r.Rest.Format(time.RFC3339))
}
