package policy

import (
	"strings"

	"golang.org/x/mod/module"
)

// maxText is what the go command prints of a refusal, in bytes (648, in
// cmd/go/internal/web), less a few for who counts line ends differently.
const maxText = 640

// refusal is what a developer reads: what is refused by which rule, why, what
// to do, and where to turn. Its last line is the id, and nothing is cut behind
// a text that is too long but the path and the reason.
func (p *Policy) refusal(q *question, d *decision, id string) string {
	tail := p.advice(q, d)
	if d.rule.Link != "" {
		tail = append(tail, "see: "+d.rule.Link)
	}
	if d.rule.Owner != "" {
		tail = append(tail, "ask: "+d.rule.Owner)
	}
	tail = append(tail, "id: "+id)
	return layout(headline(q.mod, d), "why: "+d.rule.why(q, d.by), tail)
}

// advice says what to do, and what there is instead.
func (p *Policy) advice(q *question, d *decision) []string {
	if d.hidden {
		if q.caller.Name == "" && len(q.caller.Groups) == 0 {
			return []string{"do: put a token that may read it into ~/.netrc, or ask for access"}
		}
		return []string{"do: ask for access"}
	}
	newest, known := "", true // where it is all versions that are refused
	if q.mod.Version != "" {
		newest, known = p.newestAllowed(q)
	}
	switch {
	case known && newest != "":
		return []string{"newest allowed: " + clip(newest, 60), "do: go get " + module.Version{Path: q.mod.Path, Version: newest}.String()}
	case known && d.rule.index < 0:
		return []string{"newest allowed: none", "do: choose another module, or ask to have this one allowed"}
	case known:
		return []string{"newest allowed: none", "do: choose another module, or ask for an exemption"}
	}
	return []string{"do: choose another version or module, or ask for an exemption"}
}

// headline names what is refused and by what.
func headline(m module.Version, d *decision) string {
	s := "blocked: " + clip(m.Path, 120)
	switch {
	case m.Version == "" && d.hidden:
	case m.Version == "":
		s += " (every version)"
	default:
		s += "@" + clip(m.Version, 60)
	}
	if d.by != "" && m.Version != "" && d.by != m.Version {
		s += " (the commit of " + clip(d.by, 40) + ")"
	}
	return s + " by rule " + d.rule.Name
}

// why returns the reason, with what the author has said where that is what the
// rule goes by.
func (r *rule) why(q *question, version string) string {
	s := r.Reason
	if version == "" {
		return s
	}
	m := module.Version{Path: q.mod.Path, Version: version}
	for _, c := range r.conditions {
		if c.wants() != 0 {
			s += " (" + c.found(m, q.facts) + ")"
		}
	}
	return s
}

// Undecided is what a developer reads while v, about m, wants facts that cannot be
// had.
func (v *Verdict) Undecided(m module.Version) string {
	return layout("not decided yet: "+clip(m.Path, 160)+"@"+clip(m.Version, 60),
		"why: rule "+v.Rule+" needs facts about the module that cannot be had now",
		[]string{"do: try again in a moment"})
}

// layout puts lines together within what the go command prints. The second line
// gives way, then the advice that is too long for any of it.
func layout(first, second string, tail []string) string {
	room := maxText - len(first) - 2
	for _, line := range tail {
		room -= len(line) + 1
	}
	if room < 40 {
		for i, line := range tail {
			if strings.HasPrefix(line, "do: go get ") {
				tail[i] = "do: go get that version"
				room += len(line) - len(tail[i])
			}
		}
	}
	lines := append([]string{first, clip(second, max(room, 0))}, tail...)
	for i, line := range lines {
		lines[i] = clip(line, 400)
	}
	return strings.Join(lines, "\n") + "\n"
}

// clip returns at most n bytes of s, in one line of plain ASCII.
func clip(s string, n int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\r':
			return ' '
		case r < ' ', r > '~':
			return '?'
		}
		return r
	}, s))
	if len(s) <= n {
		return s
	}
	if n < 3 {
		return s[:n]
	}
	return s[:n-3] + "..."
}
