package tlsmgr

import (
	"context"
	"regexp"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// explain says why an attempt has failed. If the error does not tell what the
// CA saw, the CA is asked.
func (n *managed) explain(ctx context.Context, err error) *Problem {
	p := newProblem(err)
	if p.Type == "" && len(p.Challenges) == 0 {
		if order := orderOf(err); order != "" {
			ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
			defer cancel()
			states, rerr := n.readBack(ctx, order)
			if rerr != nil {
				n.m.cfg.Logger.Debug("the CA does not tell more", "name", n.name, "order", order, "error", rerr)
			}
			p.Challenges = states
		}
	}
	p.Advice = p.advise(err, n.cfg, n.name)
	return p
}

var orderText = regexp.MustCompile(`\(order=(https://[^)\s]+)\)`)

// orderOf returns the URL of the order that an error of certmagic is about.
func orderOf(err error) string {
	m := orderText.FindStringSubmatch(err.Error())
	if m == nil {
		return ""
	}
	return m[1]
}

// readBack asks the CA what it has recorded of the challenges of an order. Some
// leave a challenge that they could not check pending for ever, so that all
// else that is known is a timeout.
func (n *managed) readBack(ctx context.Context, orderURL string) ([]ChallengeState, error) {
	account, err := n.account(ctx)
	if err != nil {
		return nil, err
	}
	order, err := n.client.GetOrder(ctx, account, acme.Order{Location: orderURL})
	if err != nil {
		return nil, err
	}
	var states []ChallengeState
	for _, u := range order.Authorizations {
		authz, err := n.client.GetAuthorization(ctx, account, u)
		if err != nil {
			return states, err
		}
		states = append(states, challengeStates(authz)...)
	}
	return states, nil
}
