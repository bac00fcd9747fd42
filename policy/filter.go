package policy

import (
	"slices"

	"golang.org/x/mod/module"
)

// Filter returns those of facts.Module.Versions that caller may know of, in
// their order: what Decide refuses is left out, and so is what the newest
// version retracts where that version is left out itself, because then no go
// command could learn of the retraction (golang/go#76485). Verdict.Wants are
// facts without which it cannot be told. If versions exist and none is left,
// the Verdict says why.
func (p *Policy) Filter(caller Caller, path string, facts Facts) ([]string, Verdict) {
	visible, d := p.visible(caller, path, facts)
	if d.wants != 0 {
		return nil, Verdict{Wants: d.wants, Judged: p.judges}
	}
	if len(visible) > 0 || d.rule == nil {
		return visible, Verdict{Judged: p.judges}
	}
	q := question{caller: caller, mod: module.Version{Path: path}, facts: facts}
	return nil, p.verdict(&q, &d)
}

// visible is Filter with the decision about the newest version; without a rule
// if all versions are visible.
func (p *Policy) visible(caller Caller, path string, facts Facts) ([]string, decision) {
	var room [32]int32
	known := facts.Module != nil && facts.Known&FactVersions != 0
	switch {
	case p.otherwise.action == Allow && !p.mayDeny(p.candidates(path, room[:0])):
		if known {
			return facts.Module.Versions, decision{}
		}
		return nil, decision{}
	case !known:
		return nil, decision{wants: FactVersions}
	}
	var wants Fact
	hidden := func(v string) (decision, bool) {
		q := facts.about(caller, module.Version{Path: path, Version: v})
		d := p.decide(&q, nil)
		if !d.sure {
			wants |= d.wants
		}
		return d, !d.sure || d.rule.action == Deny
	}
	all := facts.Module.Versions
	visible := slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		_, hide := hidden(v)
		return hide
	})
	if wants != 0 || len(visible) == len(all) {
		return visible, decision{wants: wants}
	}
	d, hide := hidden(Newest(all))
	if hide && len(visible) > 0 {
		if facts.Known&FactNewest == 0 {
			return nil, decision{wants: FactNewest}
		}
		visible = slices.DeleteFunc(visible, func(v string) bool {
			_, is := facts.Module.retracted(v)
			return is
		})
	}
	d.wants = 0
	return visible, d
}

// mayDeny reports whether one of the rules can refuse something.
func (p *Policy) mayDeny(rules []int32) bool {
	return slices.ContainsFunc(rules, func(i int32) bool { return p.rules[i].action == Deny })
}

// about returns the question whether caller may have m, a tagged version.
func (f Facts) about(caller Caller, m module.Version) question {
	f.FirstSeen = f.Module.FirstSeen[m.Version]
	f.Tags, f.Known = nil, f.Known|FactTags
	return question{caller: caller, mod: m, facts: f}
}

// newestAllowed returns the version that caller gets for the latest, and
// whether that can be told.
func (p *Policy) newestAllowed(q *question) (string, bool) {
	if q.facts.Module == nil || q.facts.Known&FactVersions == 0 {
		return "", false
	}
	visible, d := p.visible(q.caller, q.mod.Path, q.facts)
	if d.wants != 0 {
		return "", false
	}
	fine := slices.DeleteFunc(slices.Clone(visible), func(version string) bool {
		_, is := q.facts.Module.retracted(version)
		return is && q.facts.Known&FactNewest != 0
	})
	if len(fine) == 0 {
		fine = visible
	}
	return Newest(fine), true
}
