package policy

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// Explanation is how a decision came about. It comes from the same run over the
// same rules as the decision itself.
type Explanation struct {
	Module  string   `json:"module"`
	Version string   `json:"version"`
	Groups  []string `json:"groups,omitempty"`
	// Action is what happens: allow or deny.
	Action Action `json:"action"`
	// Rule decides; "default" if none does.
	Rule string `json:"rule"`
	// Verdict is what Decide returns.
	Verdict Verdict `json:"verdict"`
	// Newest is the newest version that the caller may have, empty if there is
	// none or it is not known.
	Newest string `json:"newest_allowed,omitempty"`
	// Facts are what was known, in words.
	Facts []string `json:"facts"`
	// Steps are all rules of the file in order.
	Steps []Step `json:"steps"`
}

// Step is what came of one rule.
type Step struct {
	Rule   string `json:"rule"`
	Line   int    `json:"line,omitempty"`
	Action Action `json:"action"`
	// Applies says that all the rule says holds.
	Applies bool `json:"applies"`
	// Other says that the rule is for other modules.
	Other bool `json:"other_module,omitempty"`
	// Decides says that the verdict is this rule's.
	Decides bool `json:"decides,omitempty"`
	// Why says what it looked at and found, Change what would turn it.
	Why    string `json:"why"`
	Change string `json:"change,omitempty"`
}

// Explain decides as Decide does, and says how.
func (p *Policy) Explain(caller Caller, m module.Version, facts Facts) Explanation {
	q := question{caller: caller, mod: m, facts: facts}
	findings := make([]finding, len(p.rules)) // otherModule
	d := p.decide(&q, func(r *rule, f finding) { findings[r.index] = f })
	e := Explanation{
		Module: m.Path, Version: m.Version, Groups: caller.Groups,
		Rule: d.rule.Name, Verdict: p.verdict(&q, &d), Facts: facts.words(m.Version),
	}
	if d.hidden {
		e.Facts = append(e.Facts, "private, and nothing of it may be read: what exists is not told either")
	}
	if e.Verdict.Deny {
		e.Action = Deny
		if e.Verdict.Wants != 0 {
			e.Verdict.Text = e.Verdict.Undecided(m)
		}
	}
	e.Newest, _ = p.newestAllowed(&q)
	for i := range p.rules {
		r, f := &p.rules[i], findings[i]
		s := Step{Rule: r.Name, Line: r.Line, Action: r.action, Applies: f.outcome == applies, Other: f.outcome == otherModule, Decides: r == d.rule}
		s.Why, s.Change = r.explain(&q, f)
		if d.rule.index >= 0 && i > d.rule.index && s.Applies {
			s.Why, s.Change = "would apply, but "+d.rule.Name+" has decided before", "moving it before "+d.rule.Name
		}
		e.Steps = append(e.Steps, s)
	}
	return e
}

// explain puts f into words.
func (r *rule) explain(q *question, f finding) (why, change string) {
	m := module.Version{Path: q.mod.Path, Version: f.by}
	switch f.outcome {
	case otherModule:
		return "for other modules: " + listWords(r.Modules), ""
	case otherGroup:
		return "for the groups " + listWords(r.Groups) + "; the caller is in " + groupWords(q.caller.Groups), "a caller in one of them"
	case otherVersion:
		return f.by + " is not in " + rangeWords(r.ranges), "a version in that range"
	case exempted:
		e := r.exemptions[f.index]
		return fmt.Sprintf("exempt: %s (approved by %s until %s)", e.Reason, e.Approver, e.Expires), "the end of the exemption"
	case notNew:
		return "served here since " + stamp(q.facts.FirstSeen) + ", and the rule is for what is new", "the loss of the stored zip"
	case otherFact:
		c := r.conditions[f.index]
		return "it is " + c.found(m, q.facts) + "; the rule is for " + c.words(), "if it were " + c.words()
	case cannotTell:
		return "cannot be told: " + strings.Join(f.wants.words(), ", ") + " not known", "knowing that"
	}
	return "applies: " + r.holds(q, f), r.wayOut(q, f)
}

// holds names all that made r apply.
func (r *rule) holds(q *question, f finding) string {
	m := module.Version{Path: q.mod.Path, Version: f.by}
	parts := []string{"module in " + listWords(r.Modules)}
	if f.by != q.mod.Version {
		parts = append(parts, q.mod.Version+" is the commit of "+f.by)
	}
	if len(r.ranges) > 0 {
		parts = append(parts, f.by+" in "+rangeWords(r.ranges))
	}
	if len(r.Groups) > 0 {
		parts = append(parts, "caller in "+groupWords(q.caller.Groups))
	}
	if r.onlyNew {
		parts = append(parts, "new here")
	}
	for _, c := range r.conditions {
		parts = append(parts, c.found(m, q.facts))
	}
	for _, e := range r.exemptions {
		if e.means(q, f.by) {
			parts = append(parts, "an exemption expired "+e.Expires)
		}
	}
	return strings.Join(parts, "; ")
}

// wayOut says what would make a rule that applies not apply.
func (r *rule) wayOut(q *question, f finding) string {
	if r.action == Allow {
		return ""
	}
	ways := []string{"an exemption in this rule", "a rule before it that allows"}
	if len(r.ranges) > 0 {
		ways = append(ways, "a version outside "+rangeWords(r.ranges))
	}
	for _, c := range r.conditions {
		ways = append(ways, "if it were otherwise than "+c.words())
	}
	return strings.Join(ways, ", or ")
}

func groupWords(groups []string) string {
	if len(groups) == 0 {
		return "none"
	}
	return listWords(groups)
}

func listWords(words []string) string {
	const most = 5
	switch {
	case len(words) == 0:
		return "any"
	case len(words) > most:
		return strings.Join(words[:most], ", ") + fmt.Sprintf(" and %d more", len(words)-most)
	}
	return strings.Join(words, ", ")
}

func rangeWords(ranges []Range) string {
	var texts []string
	for _, r := range ranges {
		texts = append(texts, r.text)
	}
	return strings.Join(texts, " or ")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

// words names the facts in f.
func (f Fact) words() []string {
	var all []string
	for i, name := range [...]string{"when it was first served here", "which tags its commit has", "which versions exist", "what the go.mod of the newest version says"} {
		if f&(1<<i) != 0 {
			all = append(all, name)
		}
	}
	return all
}

// words says what is known.
func (f Facts) words(version string) []string {
	var all []string
	if f.Known&FactFirstSeen != 0 {
		if f.FirstSeen.IsZero() {
			all = append(all, "never served here")
		} else {
			all = append(all, "served here since "+stamp(f.FirstSeen))
		}
	}
	if len(f.Tags) > 0 {
		all = append(all, "the same commit as "+listWords(f.Tags))
	}
	if f.Module == nil {
		return all
	}
	if f.Known&FactVersions != 0 {
		exist := "tagged versions exist"
		if len(f.Module.Versions) == 1 {
			exist = "tagged version exists"
		}
		all = append(all, fmt.Sprintf("%d %s, the newest is %s", len(f.Module.Versions), exist, Newest(f.Module.Versions)))
	}
	if f.Known&FactNewest != 0 {
		m := module.Version{Version: version}
		all = append(all, retracted{}.found(m, f), deprecated{}.found(m, f))
	}
	return all
}
