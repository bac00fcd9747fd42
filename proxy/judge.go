package proxy

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

// factPatience bounds how long a refusal waits for what would only make its
// text more helpful.
const factPatience = 3 * time.Second

// restFrom is how long facts that could not be had soon are not asked for, where
// there is an answer without them.
const restFrom = 30 * time.Second

// deniedError is a verdict that refuses, or that cannot be given now.
type deniedError struct{ policy.Verdict }

func (e *deniedError) Error() string {
	if e.unsure() {
		return "undecided: facts that rules need cannot be had"
	}
	return "denied by rule " + e.Rule
}

func (e *deniedError) Public() string { return e.Text }

// Cause is empty where a rule says no.
func (e *deniedError) Cause() string {
	if e.unsure() {
		return CauseUndecided
	}
	return ""
}

func (e *deniedError) unsure() bool { return e.Wants != 0 }

// permit asks whether caller may have req, a version, and answers itself if
// not. A go.mod is refused by strict rules
// alone: the go command needs those of versions that it does not select (go mod
// tidy, go list -m all; measured with go1.26), and builds nothing from them.
func (s *Server) permit(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request) bool {
	req.rules = s.inForce()
	facts := atHand(req)
	if req.kind == KindMod {
		if p, ok := req.rules.(sparing); ok && p.SparesGoMod(req.mod.Path) {
			return true
		}
		facts.Now = time.Now()
		if !req.rules.Decide(caller, req.mod, facts).Strict { // whatever the facts are
			return true
		}
	}
	v := s.judge(r.Context(), caller, req, facts)
	if req.kind == KindMod && (!v.Deny || !v.Strict) {
		return true
	}
	return s.heed(w, r, caller, req, v)
}

// atHand are the facts that come with req.
func atHand(req request) policy.Facts {
	if req.kind != KindZip {
		return policy.Facts{}
	}
	return policy.Facts{Known: policy.FactFirstSeen, FirstSeen: req.since}
}

// firstSeen is when a stored file came here. One that another program has put
// there is as old as time.
func firstSeen(stored cache.Attrs) time.Time {
	if stored.FirstSeen.IsZero() {
		return time.Unix(0, 0)
	}
	return stored.FirstSeen
}

// permitFetch is permit for a zip that is not here. One that is refused is not
// fetched to learn that it exists: the small .info tells as much, and what does
// not exist is absent and not refused.
func (s *Server) permitFetch(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request) bool {
	if req.kind != KindZip {
		return true // as cheap to fetch as to judge; asked when it is here
	}
	req.rules = s.inForce()
	v := s.judge(r.Context(), caller, req, atHand(req))
	if !v.Deny {
		return true // and noted when it is here
	}
	if _, err := s.read(r.Context(), req.sibling(KindInfo, req.mod.Version)); err != nil && !(errors.Is(err, fs.ErrNotExist) && s.knows(r.Context(), req)) {
		s.fail(w, r, req, err)
		return false
	}
	return s.heed(w, r, caller, req, v)
}

// refusesKnown refuses a file that cannot be had, if it is of a version that is
// known here and denied: "not found" would send a client whose GOPROXY goes on
// behind a comma around the rule. It reports whether it has answered.
func (s *Server) refusesKnown(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request) bool {
	req.rules = s.inForce()
	now := policy.Facts{Now: time.Now()}
	if !req.rules.Decide(caller, req.mod, now).Deny || !s.knows(r.Context(), req) {
		return false
	}
	if req.kind == KindZip {
		req.since = s.servedSince(r.Context(), req)
	}
	v := s.judge(r.Context(), caller, req, atHand(req))
	if !v.Deny || req.kind == KindMod && !v.Strict {
		return false
	}
	s.heed(w, r, caller, req, v)
	return true
}

// knows reports whether the version that req is about is known here without
// asking anybody: a file of it is stored, or the stored list names it.
func (s *Server) knows(ctx context.Context, req request) bool {
	for _, kind := range [...]string{KindInfo, KindMod, KindZip} {
		if obj, err := s.get(ctx, req.sibling(kind, req.mod.Version).name); err == nil {
			obj.Close()
			return true
		}
	}
	return s.listed(ctx, req, req.mod.Version)
}

// listed reports whether the stored list of the module of req names version.
func (s *Server) listed(ctx context.Context, req request, version string) bool {
	list, _ := s.load(ctx, req.sibling(kindList, ""))
	return slices.Contains(strings.Fields(string(list.body)), version)
}

// heed does what v says to the answer, and reports whether there may be one.
func (s *Server) heed(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, v policy.Verdict) bool {
	for _, n := range v.Notes {
		s.noted(w, r, caller, req, n)
	}
	if v.Deny {
		if v.Wants != 0 {
			s.metrics.decisions.WithLabelValues(undecided).Inc()
			if v.Text == "" {
				v.Text = v.Undecided(req.mod)
			}
		} else {
			s.noted(w, r, caller, req, v.Note)
		}
		s.fail(w, r, req, &deniedError{v})
		return false
	}
	if v.Judged {
		// A cache in front would go on after a rule has changed, and knows no
		// groups: it has to ask, and gets a short 304.
		w.Header()["Cache-Control"] = []string{"private, no-cache"}
	}
	return true
}

// undecided is the label of what is neither refused nor allowed.
const undecided = "undecided"

// noted tells the client, the log and the metrics that a rule has applied.
func (s *Server) noted(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, n policy.Note) {
	word := n.Action.String()
	if n.Action == policy.Audit {
		word = "would-deny"
	}
	w.Header().Add("Modgate-Policy", word+"; rule="+n.Rule+"; id="+n.ID)
	rec := access.From(w)
	rec.Decision, rec.Rule = n.ID, n.Rule
	if n.Action == policy.Deny && !s.doubles.first(n.ID, req.kind, caller.Name, r) {
		return
	}
	s.metrics.decisions.WithLabelValues(n.Action.String()).Inc()
	s.log.Warn("policy", "decision", n.ID, "action", n.Action.String(), "rule", n.Rule, "module", req.mod.Path, "version", req.mod.Version,
		"kind", req.kind, "caller", caller.Name, "client", r.RemoteAddr, "request", rec.ID())
}

// judge asks the policy about req, a version, and finds out the facts that it
// wants. Where they cannot be had, the Verdict says so.
func (s *Server) judge(ctx context.Context, caller policy.Caller, req request, facts policy.Facts) policy.Verdict {
	facts.Now = time.Now()
	s.recall(caller, req, &facts)
	v := req.rules.Decide(caller, req.mod, facts)
	if !v.Deny && v.Wants == 0 {
		return v
	}
	v, err := s.inform(ctx, caller, req, &facts, v)
	switch {
	case v.Deny && v.Wants != 0 && isRefused(err):
		v.Text = withheldText(req.what(), err)
		return v
	case !v.Deny || v.Wants != 0:
		return v
	}
	// What could be had instead makes the refusal one that helps.
	ctx, cancel := context.WithTimeout(ctx, factPatience)
	defer cancel()
	s.filter(ctx, caller, req, &facts)
	return req.rules.Decide(caller, req.mod, facts)
}

// withheldText is what a developer reads where the source refuses to say what
// rules need: to try again does not help.
func withheldText(what string, err error) string {
	why, _, _ := strings.Cut(publicText(err, "refused by the upstream"), "\n")
	return "not decided: " + what + "\nwhy: rules need facts about the module that the upstream does not give: " + why +
		"\ndo: have the upstream give them, or ask for an exemption\n"
}

// inform finds out the facts that v wants and decides again; the error is what
// stood in the way. A note is not worth
// a long wait: where its facts cannot be had soon, nobody asks for them for a
// while.
func (s *Server) inform(ctx context.Context, caller policy.Caller, req request, facts *policy.Facts, v policy.Verdict) (policy.Verdict, error) {
	var tried policy.Fact
	var errs []error
	for missing := v.Wants; missing != 0; missing = v.Wants &^ tried {
		tried |= missing
		if v.Deny {
			errs = append(errs, s.learn(ctx, caller, req, facts, missing))
		} else if !s.tired.fresh(req.mod.Path, restFrom) {
			soon, cancel := context.WithTimeout(ctx, refreshPatience)
			s.learn(soon, caller, req, facts, missing)
			cancel()
			if facts.Known&missing != missing {
				s.tired.remember(req.mod.Path)
			}
		}
		v = req.rules.Decide(caller, req.mod, *facts)
	}
	return v, errors.Join(errs...)
}

// filter asks the policy which versions of the module of req caller may know
// of. It adds what that takes to facts; the error is what stood in the way of
// what the Verdict still wants.
func (s *Server) filter(ctx context.Context, caller policy.Caller, req request, facts *policy.Facts) ([]string, policy.Verdict, error) {
	a := s.known.get(req.mod.Path, facts.Now)
	if !a.addTo(facts) {
		a = nil
	}
	rules, _ := req.rules.(*policy.Policy)
	if v := a.view(rules, caller, facts.Now); v != nil {
		facts.Module, facts.Known = v.module, facts.Known|a.facts
		return v.visible, v.verdict, nil
	}
	// When a single version was first seen says nothing about the others.
	f := policy.Facts{Now: facts.Now, Known: facts.Known &^ policy.FactFirstSeen, Module: facts.Module}
	visible, v := req.rules.Filter(caller, req.mod.Path, f)
	var tried policy.Fact
	var errs []error
	for missing := v.Wants; missing != 0; missing = v.Wants &^ tried {
		tried |= missing
		if missing&policy.FactFirstSeen != 0 {
			s.learnAllFirstSeen(ctx, req, &f)
		}
		errs = append(errs, s.learn(ctx, caller, req, &f, missing&^policy.FactFirstSeen))
		visible, v = req.rules.Filter(caller, req.mod.Path, f)
	}
	facts.Module, facts.Known = f.Module, facts.Known|f.Known&^policy.FactFirstSeen
	if a != nil && rules != nil && v.Wants == 0 && sameList(a.module, facts.Module) {
		a.addView(newView(rules, caller, facts, visible, v))
	}
	return visible, v, errors.Join(errs...)
}
