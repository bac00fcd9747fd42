package policy

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// rule is a Rule that has been read.
type rule struct {
	Rule
	index      int
	action     Action
	patterns   string // comma-separated, for module.MatchPrefixPatterns
	ranges     []Range
	conditions []condition
	onlyNew    bool
	since      time.Time
	exemptions []exemption
}

// exemption is an Exemption that has been read.
type exemption struct {
	Exemption
	patterns string
	ranges   []Range
	until    time.Time // it counts before that
}

// compiler reads rules and gathers what is wrong with them.
type compiler struct {
	found []error
	line  int // of the rule or exemption at hand
}

func (c *compiler) wrong(path, problem, advice string) {
	c.found = append(c.found, &Mistake{Line: c.line, Path: path, Problem: problem, Advice: advice})
}

// compile reads cfg into p.
func (p *Policy) compile(cfg Rules) []error {
	c := &compiler{}
	p.otherwise = rule{Rule: Rule{Name: defaultRule, Reason: cfg.Reason, Link: cfg.Link, Owner: cfg.Owner}, index: -1}
	switch cfg.Default {
	case "", "allow":
	case "deny":
		p.otherwise.action = Deny
		if p.otherwise.Reason == "" {
			p.otherwise.Reason = "it is not on the list of what is allowed here"
		}
	default:
		c.wrong("default", fmt.Sprintf("%q is not a default", clip(cfg.Default, 40)), "write allow or deny")
	}
	c.texts("", cfg.Reason, cfg.Link, cfg.Owner)
	lines := make(map[string]int)
	for i, r := range cfg.Rules {
		c.line = r.Line
		at := fmt.Sprintf("rules[%d]", i)
		if line, twice := lines[r.Name]; twice && r.Name != "" {
			c.wrong(at+".name", fmt.Sprintf("the name %s is taken by the rule in line %d", r.Name, line), "give each rule its own")
		}
		lines[r.Name] = r.Line
		if r.Link == "" {
			r.Link = cfg.Link
		}
		if r.Owner == "" {
			r.Owner = cfg.Owner
		}
		p.rules = append(p.rules, c.rule(at, r, p))
		p.file(&p.rules[i], int32(i))
		p.strict = p.strict || r.Strict
	}
	p.judges = len(p.rules) > 0 || p.otherwise.action == Deny
	return c.found
}

// file puts r into the index that its action calls for.
func (p *Policy) file(r *rule, i int32) {
	r.index = int(i)
	x, patterns := &p.folded, strings.ToLower(r.patterns)
	if r.action == Allow {
		x, patterns = &p.exact, r.patterns
	}
	for pattern := range strings.SplitSeq(patterns, ",") {
		if pattern != "" || patterns == "" {
			x.add(pattern, i)
		}
	}
}

// rule reads one rule.
func (c *compiler) rule(at string, r Rule, p *Policy) rule {
	out := rule{Rule: r}
	if !isName(r.Name) {
		c.wrong(at+".name", fmt.Sprintf("%q is not a name", clip(r.Name, 40)), "write up to 60 letters, digits, -, _ or .")
	}
	if r.Name == defaultRule {
		c.wrong(at+".name", "default names what happens if no rule decides", "choose another name")
	}
	var ok bool
	if out.action, ok = parseAction(r.Action); !ok {
		c.wrong(at+".action", fmt.Sprintf("%q is not an action", clip(r.Action, 40)), "write allow, deny, warn or audit")
	}
	if r.Strict && out.action != Deny {
		c.wrong(at+".strict", "strict belongs to action: deny", "change the action, or leave this out")
	}
	if out.action == Deny && r.Reason == "" {
		c.wrong(at+".reason", "a refusal needs a reason", "say in one line what developers should know")
	}
	out.patterns = c.modules(at, r.Modules)
	out.ranges = c.versions(at, r.Versions)
	c.groups(at, r.Groups)
	out.conditions = c.when(at, r.When, p)
	switch r.AppliesTo {
	case "", "all":
	case "new":
		out.onlyNew = true
	default:
		c.wrong(at+".applies_to", fmt.Sprintf("%q is not something to apply to", clip(r.AppliesTo, 40)), "write all or new")
	}
	if r.Since != "" {
		out.since = c.date(at+".since", r.Since)
		if !out.onlyNew {
			c.wrong(at+".since", "since belongs to applies_to: new", "add that line, or leave this out")
		}
	}
	c.texts(at+".", r.Reason, r.Link, r.Owner)
	for i, e := range r.Exemptions {
		out.exemptions = append(out.exemptions, c.exemption(fmt.Sprintf("%s.exemptions[%d]", at, i), e))
	}
	return out
}

func (c *compiler) exemption(at string, e Exemption) exemption {
	line := c.line
	defer func() { c.line = line }()
	c.line = max(e.Line, line)
	out := exemption{Exemption: e, patterns: c.modules(at, e.Modules), ranges: c.versions(at, e.Versions)}
	c.groups(at, e.Groups)
	for _, text := range [...][2]string{{"reason", e.Reason}, {"approver", e.Approver}, {"expires", e.Expires}} {
		if text[1] == "" {
			c.wrong(at+"."+text[0], "an exemption needs reason, approver and expires", "add "+text[0])
		}
		c.plain(at+"."+text[0], text[1], maxReason)
	}
	if e.Expires != "" {
		out.until = c.date(at+".expires", e.Expires)
		if len(e.Expires) == len(time.DateOnly) {
			out.until = out.until.AddDate(0, 0, 1) // that day counts
		}
	}
	return out
}

func (c *compiler) modules(at string, patterns []string) string {
	for i, pattern := range patterns {
		path := fmt.Sprintf("%s.modules[%d]", at, i)
		switch err := checkPattern(pattern); {
		case pattern == "" || strings.Contains(pattern, ","):
			c.wrong(path, fmt.Sprintf("%q is not one pattern", clip(pattern, 80)), "write one on each line")
		case err != nil:
			c.wrong(path, fmt.Sprintf("the pattern %q matches nothing", clip(pattern, 80)), err.Error())
		}
	}
	return strings.Join(patterns, ",")
}

func (c *compiler) versions(at string, texts []string) []Range {
	var ranges []Range
	for i, text := range texts {
		r, err := ParseRange(text)
		if err != nil {
			c.wrong(fmt.Sprintf("%s.versions[%d]", at, i), err.Error(), "")
		}
		ranges = append(ranges, r)
	}
	return ranges
}

func (c *compiler) groups(at string, groups []string) {
	for i, g := range groups {
		if g == "" || clip(g, 200) != g {
			c.wrong(fmt.Sprintf("%s.groups[%d]", at, i), fmt.Sprintf("%q is not a group", clip(g, 80)), "write its name as the tokens have it")
		}
	}
}

func (c *compiler) when(at string, w When, p *Policy) []condition {
	var all []condition
	if w.Retracted != nil {
		all = append(all, retracted{*w.Retracted})
	}
	if w.Deprecated != nil {
		all = append(all, deprecated{*w.Deprecated})
	}
	if w.Private != nil {
		all = append(all, private{*w.Private, p})
	}
	if w.Pseudo != nil {
		all = append(all, pseudo{*w.Pseudo})
	}
	if w.Toolchain != "" {
		r, err := parseToolchain(w.Toolchain)
		if err != nil {
			c.wrong(at+".when.toolchain", err.Error(), "")
		}
		all = append(all, toolchain{r})
	}
	return all
}

func (c *compiler) date(at, text string) time.Time {
	for _, layout := range [...]string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	c.wrong(at, fmt.Sprintf("%q is not a day", clip(text, 40)), "write it as 2027-01-31")
	return time.Time{}
}

// Bounds of texts that clients read, in bytes, so that all of them fit.
const (
	maxName   = 60
	maxReason = 200
	maxLink   = 120
	maxOwner  = 60
)

func (c *compiler) texts(at, reason, link, owner string) {
	c.plain(at+"reason", reason, maxReason)
	c.plain(at+"link", link, maxLink)
	c.plain(at+"owner", owner, maxOwner)
	if u, err := url.Parse(link); link != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		c.wrong(at+"link", fmt.Sprintf("%q is not a web address", clip(link, 80)), "begin it with https://")
	}
}

// plain accepts what the go command prints as it is.
func (c *compiler) plain(at, text string, most int) {
	switch {
	case len(text) > most:
		c.wrong(at, fmt.Sprintf("the text has %d bytes, and %d are shown", len(text), most), "put the rest behind the link")
	case clip(text, most) != text:
		c.wrong(at, "the text has characters beside plain ASCII, or several lines", "the go command would not show it: spell it in ASCII, in one line")
	}
}

// isName reports whether s can stand in a refusal, a header and a log line
// without quotes.
func isName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxName
}
