package proxy

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/modgate/modgate/policy"
)

// shape makes of an answer that changes with time what caller may know of it,
// and answers itself if that is nothing. A client resolves versions by these
// answers, and must not be led to one whose zip is refused then: the go command
// does not try an older one (measured with go1.26).
func (s *Server) shape(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, a mutable) (mutable, bool) {
	req.rules = s.inForce()
	switch req.kind {
	case kindList:
		return s.shapeList(w, r, caller, req, a)
	case kindLatest:
		return s.shapeLatest(w, r, caller, req, a)
	}
	version, err := infoVersion(a.body)
	if err != nil {
		s.fail(w, r, req, err)
		return a, false
	}
	req.mod.Version = version
	return a, s.permit(w, r, caller, req)
}

func (s *Server) shapeList(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, a mutable) (mutable, bool) {
	facts := policy.Facts{Now: time.Now()}
	if v := s.viewOf(caller, req, facts.Now, a.attrs.SHA256); v != nil && !a.part {
		if v.body != nil {
			a.body, a.attrs.SHA256 = v.body, ""
		}
		return a, s.heed(w, r, caller, req, v.verdict)
	}
	if _, v := req.rules.Filter(caller, req.mod.Path, facts); v.Wants == 0 {
		return a, s.heed(w, r, caller, req, v) // no rule can hide anything
	}
	versions := strings.Fields(string(a.body))
	if a.part || !s.remembers(r.Context(), req, a) {
		change(&facts, policy.FactVersions, func(m *policy.Module) { m.Versions = versions })
	}
	visible, v, err := s.filterAnswer(r.Context(), caller, req, &facts, a)
	if v.Wants != 0 {
		v = unsure(req, v, err)
	}
	if !s.heed(w, r, caller, req, v) {
		return a, false
	}
	if len(visible) < len(versions) {
		a.body, a.attrs.SHA256 = listBody(visible), ""
	}
	return a, true
}

// remembers reports whether what is remembered of the module of req is about the
// list a.
func (s *Server) remembers(ctx context.Context, req request, a mutable) bool {
	about := s.known.get(req.mod.Path, time.Now())
	if about == nil && a.ttl > 0 && s.learnVersions(ctx, req, new(policy.Facts)) == nil {
		about = s.known.get(req.mod.Path, time.Now())
	}
	return about != nil && about.sum != "" && about.sum == a.attrs.SHA256
}

// viewOf returns how caller sees the module of req by the list whose digest is sum,
// if that is remembered.
func (s *Server) viewOf(caller policy.Caller, req request, now time.Time, sum string) *view {
	rules, _ := req.rules.(*policy.Policy)
	about := s.known.get(req.mod.Path, now)
	if about == nil || about.sum == "" || about.sum != sum {
		return nil
	}
	return about.view(rules, caller, now)
}

// filterAnswer is filter for the list a. If that is a part of the list, the newest
// version in it does not speak for the module.
func (s *Server) filterAnswer(ctx context.Context, caller policy.Caller, req request, facts *policy.Facts, a mutable) ([]string, policy.Verdict, error) {
	if !a.part {
		return s.filter(ctx, caller, req, facts)
	}
	s.learnAllFirstSeen(ctx, req, facts)
	visible, v := req.rules.Filter(caller, req.mod.Path, *facts)
	return visible, v, nil
}

// shapeLatest answers with what the go command would choose from the list that
// caller sees, if it may not have what the source calls the latest.
func (s *Server) shapeLatest(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, a mutable) (mutable, bool) {
	version, err := infoVersion(a.body)
	if err != nil {
		s.fail(w, r, req, err)
		return a, false
	}
	asked := req
	req.mod.Version = version
	facts := policy.Facts{Now: time.Now()}
	visible, listed, why := s.filter(r.Context(), caller, req, &facts)
	switch {
	case facts.Known&policy.FactVersions == 0 && listed.Wants == 0, listed.Wants == 0 && !listed.Deny && !hidden(&facts, visible, version):
		return a, s.permit(w, r, caller, req)
	case listed.Wants != 0:
		return a, s.heed(w, r, caller, asked, unsure(asked, listed, why))
	case listed.Deny:
		return a, s.heed(w, r, caller, asked, listed)
	}
	req.mod.Version = policy.Newest(visible)
	body, err := s.read(r.Context(), req.sibling(KindInfo, req.mod.Version))
	if err != nil {
		s.fail(w, r, asked, err)
		return a, false
	}
	a.body, a.attrs.SHA256 = body, ""
	return a, s.permit(w, r, caller, req)
}

// hidden reports whether version is one that exists and is not visible.
func hidden(facts *policy.Facts, visible []string, version string) bool {
	return slices.Contains(facts.Module.Versions, version) && !slices.Contains(visible, version)
}

// unsure makes of a Verdict that wants facts, which cannot be had because of err,
// one that is an answer.
func unsure(req request, v policy.Verdict, err error) policy.Verdict {
	v.Deny = true
	if isRefused(err) {
		v.Text = withheldText(req.mod.Path, err)
		return v
	}
	v.Text = "not decided yet: " + req.mod.Path + "\nwhy: rules need facts about the module that cannot be had now\ndo: try again in a moment\n"
	return v
}
