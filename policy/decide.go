package policy

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// defaultRule is the name of what happens if no rule decides.
const defaultRule = "default"

// Verdict is a decision about a module version. The zero Verdict is a plain
// "yes".
type Verdict struct {
	// Deny refuses the version.
	Deny bool `json:"deny"`
	// Text is what the client reads when denied: at most eight lines of plain
	// ASCII, 648 bytes in all (facts of the go command: cmd/go/internal/web).
	// Empty while it cannot be told: see Undecided.
	Text string `json:"text,omitempty"`
	// Judged says that there are rules, so that the answer may be another
	// tomorrow, or for another caller, and nobody in between may keep it.
	Judged bool `json:"-"`
	// Wants are facts that the decision depends on and that were not known.
	// With Deny it cannot be told yet, which must not be taken for a "yes" and
	// is no refusal either; without, some note is missing.
	Wants Fact `json:"wants,omitempty"`
	// Strict says that the go.mod is refused too; where it cannot be told yet,
	// that it may be.
	Strict bool `json:"strict,omitempty"`
	// Note says which rule denies or, without an ID, may; the zero Note if none
	// does.
	Note
	// Notes are of the rules on the way that warn or audit.
	Notes []Note `json:"notes,omitempty"`
}

// Note says which rule has applied.
type Note struct {
	// ID is the same for the same rule and version, at all times and in all
	// replicas, so that a refusal, a log line and an explanation can be matched.
	ID     string `json:"id,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Action Action `json:"action"`
}

// question is what a decision is about.
type question struct {
	caller Caller
	mod    module.Version
	facts  Facts

	looked, pseudo bool // see isPseudo
}

// isPseudo reports whether mod.Version is a pseudo-version. It looks once: to look
// costs more than to find out that no rule is about the module.
func (q *question) isPseudo() bool {
	if !q.looked {
		q.looked, q.pseudo = true, module.IsPseudoVersion(q.mod.Version)
	}
	return q.pseudo
}

// outcome is what came of one rule.
type outcome uint8

const (
	otherModule outcome = iota
	otherGroup
	otherVersion
	exempted
	notNew
	otherFact
	cannotTell
	applies
)

// finding is what came of one rule, and what of it made the difference.
type finding struct {
	outcome outcome
	by      string // the version that the rule was held against
	index   int    // of the exemption or the condition
	wants   Fact
}

// decision is what came of all rules.
type decision struct {
	rule   *rule // that decides
	by     string
	wants  Fact
	sure   bool // or wants stands in the way
	strict bool // is the rule, or while not sure one that may decide
	hidden bool // the rule keeps the caller from all of a private module
	notes  []*rule
}

// Decide says whether caller may have m. It is asked for hits and misses
// alike, once it is known that m exists, with an exact version. Without a version
// it says whether caller may read m.Path, which need not exist, at all: that
// refuses private modules alone, and depends on facts.Now and nothing else.
func (p *Policy) Decide(caller Caller, m module.Version, facts Facts) Verdict {
	q := question{caller: caller, mod: m, facts: facts}
	if m.Version == "" {
		if r := p.withholds(caller, m.Path, facts.Now); r != nil {
			return p.verdict(&q, &decision{rule: r, sure: true, strict: true, hidden: true})
		}
		return Verdict{Judged: p.judges}
	}
	d := p.decide(&q, nil)
	if d.sure && d.rule.action == Allow && len(d.notes) == 0 {
		return Verdict{Wants: d.wants, Judged: p.judges}
	}
	return p.verdict(&q, &d)
}

// verdict puts d into words.
func (p *Policy) verdict(q *question, d *decision) Verdict {
	v := Verdict{Wants: d.wants, Judged: p.judges}
	for _, r := range d.notes {
		v.Notes = append(v.Notes, newNote(r, q.mod))
	}
	v.Strict = d.strict
	switch {
	case !d.sure:
		v.Deny, v.Rule, v.Action = true, d.rule.Name, Deny
	case d.rule.action == Deny:
		v.Deny, v.Note = true, newNote(d.rule, q.mod)
		v.Text = p.refusal(q, d, v.ID)
	}
	return v
}

// decide asks the rules that can matter, in order. see, if not nil, is shown
// what comes of each, also of those behind the one that decides.
//
// A rule that cannot be told to apply does not stop the search: if what comes
// behind it says the same, it does not matter.
func (p *Policy) decide(q *question, see func(*rule, finding)) decision {
	var room [32]int32
	d := decision{rule: &p.otherwise, sure: true}
	var open [Deny + 1]*rule // that may decide, by action
	var wants Fact           // of those
	strict := false          // is one of those
	decided := false
	for _, i := range p.candidates(q.mod.Path, room[:0]) {
		r := &p.rules[i]
		f := r.judge(q)
		if see != nil {
			see(r, f)
		}
		decides := r.action == Allow || r.action == Deny
		switch {
		case decided, f.outcome != applies && f.outcome != cannotTell:
		case f.outcome == cannotTell && decides:
			wants |= f.wants
			strict = strict || r.Strict
			if open[r.action] == nil {
				open[r.action] = r
			}
		case f.outcome == cannotTell:
			d.wants |= f.wants
		case decides:
			d.rule, d.by, decided = r, f.by, true
		default:
			d.notes = append(d.notes, r)
		}
		if decided && see == nil {
			break
		}
	}
	d.strict = d.rule.Strict
	for action, r := range open {
		// What is refused in any case may yet be refused strictly.
		if r != nil && (Action(action) != d.rule.action || strict && !d.strict) {
			d.rule, d.sure = r, false
			d.wants |= wants
		}
	}
	if !d.sure {
		d.strict = d.strict || strict
	}
	if d.rule.action == Deny || !d.sure {
		if r := p.withholds(q.caller, q.mod.Path, q.facts.Now); r != nil {
			return decision{rule: r, by: q.mod.Version, sure: true, strict: true, hidden: true}
		}
	}
	return d
}

// candidates appends the rules with a pattern for path, in order.
func (p *Policy) candidates(path string, rules []int32) []int32 {
	rules = p.folded.root.find(strings.ToLower(path), rules)
	rules = p.exact.root.find(path, rules)
	slices.Sort(rules)
	return slices.Compact(rules)
}

// judge says what comes of r, one of whose patterns matches.
func (r *rule) judge(q *question) finding {
	if !means(r.Groups, q.caller.Groups, r.action == Allow) {
		return finding{outcome: otherGroup}
	}
	f := r.judgeAs(q, q.mod.Version)
	if f.outcome == applies || r.action == Allow || !q.isPseudo() {
		return f
	}
	// The commit may have been given a better name, and that one be refused.
	for _, tag := range q.facts.Tags {
		switch as := r.judgeAs(q, tag); as.outcome {
		case applies:
			return as
		case cannotTell:
			f = as
		}
	}
	if r.action == Deny && f.outcome != exempted && q.facts.Known&FactTags == 0 && r.meansTags() {
		return finding{outcome: cannotTell, by: q.mod.Version, wants: FactTags | f.wants}
	}
	return f
}

// judgeAs is judge for one of the names of a version.
func (r *rule) judgeAs(q *question, version string) finding {
	f := finding{by: version}
	if len(r.ranges) > 0 && !contains(r.ranges, q.mod.Path, version) {
		f.outcome = otherVersion
		return f
	}
	for i := range r.exemptions {
		if r.exemptions[i].covers(q, version) {
			f.outcome, f.index = exempted, i
			return f
		}
	}
	if r.onlyNew {
		if q.facts.Known&FactFirstSeen == 0 {
			f.outcome, f.wants = cannotTell, FactFirstSeen
			return f
		}
		if seen := q.facts.FirstSeen; !seen.IsZero() && (r.since.IsZero() || seen.Before(r.since)) {
			f.outcome = notNew
			return f
		}
	}
	m := module.Version{Path: q.mod.Path, Version: version}
	for i, c := range r.conditions {
		switch c.test(m, q.facts) {
		case no:
			return finding{outcome: otherFact, by: version, index: i}
		case unknown:
			f.wants |= c.wants()
		}
	}
	f.outcome = applies
	if f.wants != 0 {
		f.outcome = cannotTell
	}
	return f
}

// meansTags reports whether r may apply to a tagged version and not to a
// pseudo-version of the same commit.
func (r *rule) meansTags() bool {
	for _, c := range r.conditions {
		if c.wants() != 0 {
			return true
		}
	}
	return slices.ContainsFunc(r.ranges, Range.tagged)
}

// covers reports whether e takes version out of its rule.
func (e *exemption) covers(q *question, version string) bool {
	return e.counts(q.facts.Now) && e.means(q, version)
}

// counts reports whether e has not expired.
func (e *exemption) counts(now time.Time) bool { return now.Before(e.until) && !now.IsZero() }

// means is covers without the time.
func (e *exemption) means(q *question, version string) bool {
	return e.isFor(q) &&
		(len(e.ranges) == 0 || contains(e.ranges, q.mod.Path, version) || contains(e.ranges, q.mod.Path, q.mod.Version))
}

// isFor is means for some version.
func (e *exemption) isFor(q *question) bool {
	return (e.patterns == "" || module.MatchPrefixPatterns(e.patterns, q.mod.Path)) && means(e.Groups, q.caller.Groups, true)
}

// contains reports whether version of path is in one of ranges. The versions of
// toolchains have the form of pre-releases, and are none.
func contains(ranges []Range, path, version string) bool {
	for _, r := range ranges {
		if r.Contains(version) && !(path == toolchainPath && r.prerelease()) {
			return true
		}
	}
	return false
}

// means reports whether what is written for groups, none for all, is for who is in
// in. lets says that it lets something through.
func means(groups, in []string, lets bool) bool {
	return len(groups) == 0 || overlap(groups, in) || lets && slices.Contains(in, Inside)
}

func overlap(a, b []string) bool {
	for _, s := range a {
		if slices.Contains(b, s) {
			return true
		}
	}
	return false
}

// newNote returns the note of r about m.
func newNote(r *rule, m module.Version) Note {
	sum := sha256.Sum256([]byte(r.Name + "\x00" + r.action.String() + "\x00" + m.String()))
	id := base32.StdEncoding.EncodeToString(sum[:10])
	return Note{ID: strings.ToLower(id[:10]), Rule: r.Name, Action: r.action}
}
