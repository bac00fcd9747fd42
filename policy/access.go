package policy

import (
	"slices"
	"time"

	"golang.org/x/mod/module"
)

// withholds returns the rule by which caller may not read the private module
// modulePath at all, nil if there is none. Who may not must not learn what there
// is, not even whether it is a module: it is decided without looking anything up,
// and go.mod files are withheld as well.
//
// A rule that names the module and refuses it to everybody is none of them: it is
// about the module, and not about who asks.
func (p *Policy) withholds(caller Caller, modulePath string, now time.Time) *rule {
	if !p.isMatched(modulePath) {
		return nil
	}
	r := p.refusesAll(caller, modulePath, now)
	if r == nil || r == &p.otherwise || len(r.Groups) > 0 || p.refusesAll(Caller{Groups: []string{Inside}}, modulePath, now) == nil {
		return r
	}
	return nil
}

// SparesGoMod reports whether no go.mod of modulePath is refused, whoever asks and
// whatever is known of its version: no rule is strict, and modulePath is not private.
func (p *Policy) SparesGoMod(modulePath string) bool { return !p.strict && !p.isMatched(modulePath) }

// refusesAll returns the rule that surely refuses caller every version of the
// private module modulePath, nil if there may be one that is not refused.
func (p *Policy) refusesAll(caller Caller, modulePath string, now time.Time) *rule {
	var room [32]int32
	q := question{caller: caller, mod: module.Version{Path: modulePath}, facts: Facts{Now: now}}
	for _, i := range p.candidates(modulePath, room[:0]) {
		r := &p.rules[i]
		switch {
		case !means(r.Groups, caller.Groups, r.action == Allow):
		case r.action == Allow && r.mayHold(&q):
			return nil
		case r.action == Deny && r.holdsForAll(&q):
			return r
		}
	}
	if p.otherwise.action == Deny {
		return &p.otherwise
	}
	return nil
}

// mayHold reports whether r, whose path and groups match, may apply to some version.
func (r *rule) mayHold(q *question) bool {
	return !slices.ContainsFunc(r.conditions, func(c condition) bool {
		_, ofPath := c.(private)
		return ofPath && c.test(q.mod, q.facts) == no
	})
}

// holdsForAll reports whether r, whose path and groups match, applies to every
// version whatever the facts are.
func (r *rule) holdsForAll(q *question) bool {
	for _, c := range r.conditions {
		if _, ofPath := c.(private); !ofPath || c.test(q.mod, q.facts) != yes {
			return false
		}
	}
	return len(r.ranges) == 0 && !r.onlyNew && !slices.ContainsFunc(r.exemptions, func(e exemption) bool {
		return e.counts(q.facts.Now) && e.isFor(q)
	})
}
