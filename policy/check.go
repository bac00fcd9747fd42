package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// Doubts returns what is allowed in a rule file and yet likely a slip: rules
// that can never decide because of one before them, an allow list that says nothing
// about toolchains, exemptions that have
// expired by now, groups that are not among groups, if that is not nil, and, if seen
// is not nil, patterns that match none of the module paths in it.
func (p *Policy) Doubts(now time.Time, seen, groups []string) []*Mistake {
	var found []*Mistake
	if p.forgetsToolchains() {
		found = append(found, &Mistake{0, "default", "it refuses " + toolchainPath + ", so that no go command gets the newer Go that a go.mod asks for", "add the rule {name: toolchains, modules: " + toolchainPath + ", action: allow}, or one that denies it if that is meant"})
	}
	for i := range p.rules {
		r := &p.rules[i]
		at := fmt.Sprintf("rules[%d]", i)
		for j := range i {
			if p.rules[j].shadows(r) {
				found = append(found, &Mistake{r.Line, at, fmt.Sprintf("the rule %s never decides: %s in line %d has decided on all that it is for", r.Name, p.rules[j].Name, p.rules[j].Line), "move it before that rule, or delete it"})
				break
			}
		}
		found = append(found, strangers(r.Line, at, r.Groups, groups)...)
		for k, e := range r.exemptions {
			found = append(found, strangers(e.Line, fmt.Sprintf("%s.exemptions[%d]", at, k), e.Groups, groups)...)
			if !now.Before(e.until) {
				found = append(found, &Mistake{e.Line, fmt.Sprintf("%s.exemptions[%d]", at, k), fmt.Sprintf("the exemption from %s expired %s", r.Name, e.Expires), "delete it, or have it approved anew"})
			}
		}
		if seen == nil {
			continue
		}
		for k, pattern := range r.Modules {
			if !slices.ContainsFunc(seen, func(path string) bool { return r.means(pattern, path) }) {
				found = append(found, &Mistake{r.Line, fmt.Sprintf("%s.modules[%d]", at, k), fmt.Sprintf("%s matches none of the %d modules seen here", pattern, len(seen)), "look for a slip; a guard against what may come is fine"})
			}
		}
	}
	return found
}

// forgetsToolchains reports whether p refuses toolchains without a word about them.
func (p *Policy) forgetsToolchains() bool {
	for i := range p.rules {
		r := &p.rules[i]
		if r.action != Allow && r.action != Deny {
			continue
		}
		if slices.ContainsFunc(r.Modules, func(pattern string) bool { return r.means(pattern, toolchainPath) }) {
			return false
		}
	}
	some := module.Version{Path: toolchainPath, Version: "v0.0.1-go1.26.0.linux-amd64"}
	v := p.Decide(Caller{Groups: p.Groups()}, some, Facts{})
	return v.Deny && v.Wants == 0 && v.Rule == defaultRule
}

// strangers doubts those of named that are not in groups; nil: nobody knows.
func strangers(line int, at string, named, groups []string) (found []*Mistake) {
	for i, g := range named {
		if groups != nil && !slices.Contains(groups, g) {
			found = append(found, &Mistake{line, fmt.Sprintf("%s.groups[%d]", at, i), "no caller is in the group " + g, "look for a slip, or give a token that group"})
		}
	}
	return found
}

// Groups returns the groups that rules and exemptions are for, sorted.
func (p *Policy) Groups() []string {
	var all []string
	for i := range p.rules {
		all = append(all, p.rules[i].Groups...)
		for _, e := range p.rules[i].exemptions {
			all = append(all, e.Groups...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// means reports whether one of r's patterns matches modulePath.
func (r *rule) means(pattern, modulePath string) bool {
	if r.action != Allow {
		pattern, modulePath = strings.ToLower(pattern), strings.ToLower(modulePath)
	}
	return module.MatchPrefixPatterns(pattern, modulePath)
}

// shadows reports whether r surely decides on everything that other, which
// comes later, applies to.
func (r *rule) shadows(other *rule) bool {
	if r.action != Allow && r.action != Deny || len(r.exemptions) > 0 || len(r.conditions) > 0 || r.onlyNew {
		return false
	}
	if len(r.Groups) > 0 && (len(other.Groups) == 0 || !subset(other.Groups, r.Groups)) {
		return false
	}
	if len(r.ranges) > 0 && (len(other.ranges) == 0 || !covered(other.ranges, r.ranges)) {
		return false
	}
	if len(r.Modules) == 0 {
		return true
	}
	for _, pattern := range other.Modules {
		if !slices.ContainsFunc(r.Modules, func(wide string) bool { return r.wider(wide, pattern) }) {
			return false
		}
	}
	return len(other.Modules) > 0
}

// wider reports whether wide surely matches all that narrow does.
func (r *rule) wider(wide, narrow string) bool {
	if r.action != Allow {
		wide, narrow = strings.ToLower(wide), strings.ToLower(narrow)
	}
	w, n := strings.Split(strings.TrimSuffix(wide, "/"), "/"), strings.Split(strings.TrimSuffix(narrow, "/"), "/")
	if len(w) > len(n) {
		return false
	}
	for i, elem := range w {
		ok := elem == "*" || elem == n[i]
		if !ok && !strings.ContainsAny(n[i], `*?[\`) {
			ok, _ = path.Match(elem, n[i])
		}
		if !ok {
			return false
		}
	}
	return true
}

// covered reports whether each of narrow surely lies in one of wide.
func covered(narrow, wide []Range) bool {
	return !slices.ContainsFunc(narrow, func(n Range) bool {
		return !slices.ContainsFunc(wide, func(w Range) bool { return n.within(w) })
	})
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// Rules returns how many rules there are.
func (p *Policy) Rules() int { return len(p.rules) }

// NextExpiry returns the first moment after now at which an exemption ends, so that
// what is decided now may be decided otherwise; zero if there is none.
func (p *Policy) NextExpiry(now time.Time) (next time.Time) {
	for i := range p.rules {
		for _, e := range p.rules[i].exemptions {
			if now.Before(e.until) && (next.IsZero() || e.until.Before(next)) {
				next = e.until
			}
		}
	}
	return next
}
