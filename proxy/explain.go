package proxy

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

// Explain says how the policy decides about what query (a version, a branch, a
// commit; empty: the latest) means for the module path, and why. It finds out
// what there is to know as a request does. Absent is fs.ErrNotExist.
func (s *Server) Explain(ctx context.Context, caller policy.Caller, path, query string) (policy.Explanation, error) {
	escaped, err := module.EscapePath(path)
	if err != nil {
		return policy.Explanation{}, err
	}
	file := "/@latest"
	if query != "" && query != Latest {
		version, err := module.EscapeVersion(query)
		if err != nil {
			return policy.Explanation{}, err
		}
		file = "/@v/" + version + "." + KindInfo
	}
	req, err := parse(escaped + file)
	if err != nil {
		return policy.Explanation{}, err
	}
	route := s.cfg.Policy.Route(caller, path)
	if req.from = s.supplyOf(route); req.from == nil {
		return policy.Explanation{}, errors.New(noSupply(path, route))
	}
	req.rules = s.inForce()
	facts := policy.Facts{Now: time.Now()}
	if req.from == s.private && req.rules.Decide(caller, module.Version{Path: path}, facts).Deny && !s.readsAbove(ctx, caller, req, true) {
		if !req.immutable() {
			req.mod.Version = "" // what it leads to is not looked up
		}
		return req.rules.Explain(caller, req.mod, facts), nil
	}
	if req, err = s.resolve(ctx, caller, req, &facts); err != nil {
		return policy.Explanation{}, err
	}
	missing := policy.FactFirstSeen | policy.FactNewest
	if module.IsPseudoVersion(req.mod.Version) {
		missing |= policy.FactTags
	}
	s.learn(ctx, caller, req, &facts, missing)
	s.filter(ctx, caller, req, &facts)
	return req.rules.Explain(caller, req.mod, facts), nil
}

// resolve returns the request for the .info of the version that req means,
// which exists.
func (s *Server) resolve(ctx context.Context, caller policy.Caller, req request, facts *policy.Facts) (request, error) {
	switch req.kind {
	case KindInfo:
		_, err := s.read(ctx, req)
		return req, err
	case kindLatest:
		if err := s.learn(ctx, caller, req, facts, policy.FactVersions); err == nil && len(facts.Module.Versions) > 0 {
			return req.sibling(KindInfo, policy.Newest(facts.Module.Versions)), nil
		}
	}
	answer, err := s.current(ctx, req)
	if err != nil {
		return req, err
	}
	version, err := infoVersion(answer.body)
	return req.sibling(KindInfo, version), err
}
