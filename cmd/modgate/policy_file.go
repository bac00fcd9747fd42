package main

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

// policyFile is the rule file. What its fields mean is said in policy.Rules.
type policyFile struct {
	Default string     `yaml:"default"`
	Reason  string     `yaml:"reason"`
	Link    string     `yaml:"link"`
	Owner   string     `yaml:"owner"`
	Rules   []ruleFile `yaml:"rules"`
}

type ruleFile struct {
	Name       string          `yaml:"name"`
	Modules    words           `yaml:"modules"`
	Versions   words           `yaml:"versions"`
	When       whenFile        `yaml:"when"`
	Groups     words           `yaml:"groups"`
	AppliesTo  string          `yaml:"applies_to"`
	Since      string          `yaml:"since"`
	Action     string          `yaml:"action"`
	Strict     bool            `yaml:"strict"`
	Reason     string          `yaml:"reason"`
	Link       string          `yaml:"link"`
	Owner      string          `yaml:"owner"`
	Exemptions []exemptionFile `yaml:"exemptions"`
}

type whenFile struct {
	Retracted  *bool  `yaml:"retracted"`
	Deprecated *bool  `yaml:"deprecated"`
	Private    *bool  `yaml:"private"`
	Pseudo     *bool  `yaml:"pseudo"`
	Toolchain  string `yaml:"toolchain"`
}

type exemptionFile struct {
	Modules  words  `yaml:"modules"`
	Versions words  `yaml:"versions"`
	Groups   words  `yaml:"groups"`
	Reason   string `yaml:"reason"`
	Approver string `yaml:"approver"`
	Expires  string `yaml:"expires"`
}

// words are a list, or one word in place of a list of one.
type words []string

// UnmarshalYAML reads both forms.
func (w *words) UnmarshalYAML(node ast.Node) error {
	if one, ok := scalar(node); ok {
		*w = nil
		if _, null := node.(*ast.NullNode); !null {
			*w = words{one}
		}
		return nil
	}
	return yaml.NodeToValue(node, (*[]string)(w), yaml.Strict())
}

// readRules reads the rule file called name, and reports all that is wrong in
// it with lines.
func readRules(name string, data []byte, private string) (*policy.Policy, error) {
	p, _, err := readRulesAt(name, data, private)
	return p, err
}

// readRulesAt is readRules for who has to say where things stand.
func readRulesAt(name string, data []byte, private string) (*policy.Policy, lineFinder, error) {
	tree, err := parse(data)
	if err != nil {
		return nil, lineFinder{}, atLine(name, err)
	}
	wrong := findWrongShape(tree, reflect.TypeFor[policyFile]())
	var f policyFile
	err = decodeStrict(name, data, &f)
	if unknown := (*yaml.UnknownFieldError)(nil); errors.As(err, &unknown) {
		f = policyFile{} // go on: what else is wrong is told as well
		if err = yaml.Unmarshal(data, &f); err != nil {
			err = atLine(name, err)
		}
	}
	if err != nil && len(wrong) > 0 {
		err = keyMistakes(name, wrong)
	}
	if err != nil {
		return nil, lineFinder{}, err
	}
	if f.Default == "" && len(f.Rules) == 0 {
		// Likely a file that somebody is still writing. It must not turn all
		// rules off.
		return nil, lineFinder{}, fmt.Errorf("%s: the file has no rules: write default: allow if that is meant", name)
	}
	lines := lineFinder{tree}
	p, err := policy.New(policy.Config{Private: private, Rules: f.rules(lines)})
	err = errors.Join(keyMistakes(name, wrong), lines.locate(name, err), keyMistakes(name, findEmptyKeys(tree)))
	return p, lines, err
}

// keyMistakes are mistakes about keys in the file called name, with their lines.
func keyMistakes(name string, all []*policy.Mistake) (err error) {
	for _, m := range all {
		err = errors.Join(err, fmt.Errorf("%s:%d: %w", name, m.Line, &policy.Mistake{Path: m.Path, Problem: m.Problem, Advice: m.Advice}))
	}
	return err
}

func (f *policyFile) rules(lines lineFinder) policy.Rules {
	all := policy.Rules{Default: f.Default, Reason: f.Reason, Link: f.Link, Owner: f.Owner}
	for i, r := range f.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		out := policy.Rule{
			Line: lines.line(at), Name: r.Name, Modules: r.Modules, Versions: r.Versions, When: policy.When(r.When), Groups: r.Groups,
			AppliesTo: r.AppliesTo, Since: r.Since, Action: r.Action, Strict: r.Strict, Reason: r.Reason, Link: r.Link, Owner: r.Owner,
		}
		for k, e := range r.Exemptions {
			out.Exemptions = append(out.Exemptions, policy.Exemption{
				Line: lines.line(fmt.Sprintf("%s.exemptions[%d]", at, k)), Modules: e.Modules, Versions: e.Versions, Groups: e.Groups,
				Reason: e.Reason, Approver: e.Approver, Expires: e.Expires,
			})
		}
		all.Rules = append(all.Rules, out)
	}
	return all
}

// lineFinder knows where things stand in a file.
type lineFinder struct{ tree *ast.File }

// line returns the line of what path, as in policy.Mistake, leads to; 0 if
// there is no such thing.
func (l lineFinder) line(path string) int {
	node := l.node(path)
	if node == nil {
		return 0
	}
	if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
		node = m.Values[0].Key
	} else if v, ok := node.(*ast.MappingValueNode); ok {
		node = v.Key
	}
	if t := node.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// node returns what path leads to, nil if there is no such thing.
func (l lineFinder) node(path string) ast.Node {
	p, err := yaml.PathString("$." + path)
	if err != nil {
		return nil
	}
	node, err := p.FilterFile(l.tree)
	if err != nil {
		return nil
	}
	return node
}

// locate puts name and line before each mistake in err.
func (l lineFinder) locate(name string, err error) error {
	if err == nil {
		return nil
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = slices.Clone(joined.Unwrap())
	}
	slices.SortStableFunc(all, func(a, b error) int { return cmp.Compare(l.of(a), l.of(b)) })
	for i, e := range all {
		if m := (*policy.Mistake)(nil); errors.As(e, &m) {
			all[i] = errors.New(l.describe(name, m))
		}
	}
	return errors.Join(all...)
}

// of returns the line that err is about, 0 if it is about none.
func (l lineFinder) of(err error) int {
	m := (*policy.Mistake)(nil)
	if !errors.As(err, &m) {
		return 0
	}
	line := l.line(m.Path)
	if line == 0 { // one word in place of a list
		line = l.line(strings.TrimSuffix(m.Path, "[0]"))
	}
	if line == 0 {
		line = max(m.Line, 1) // what is missing has no line of its own
	}
	return line
}

// describe puts m into one line.
func (l lineFinder) describe(name string, m *policy.Mistake) string {
	s := fmt.Sprintf("%s:%d: %s: %s", name, l.of(m), m.Path, m.Problem)
	if m.Advice != "" {
		s += ": " + m.Advice
	}
	return s
}

// livePolicy is the policy in force: that of the last good rule file.
type livePolicy struct{ now atomic.Pointer[policy.Policy] }

// Collectors returns the metrics of the policy in force.
func (l *livePolicy) Collectors() []prometheus.Collector {
	return []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "modgate_policy_rules",
		Help: "Rules in force, from policy.file.",
	}, func() float64 { return float64(l.now.Load().Rules()) })}
}

// Current returns the policy in force, for who decides more than one thing by it.
func (l *livePolicy) Current() *policy.Policy { return l.now.Load() }

// Route implements proxy.Policy.
func (l *livePolicy) Route(c policy.Caller, path string) policy.Route {
	return l.now.Load().Route(c, path)
}

// Decide implements proxy.Policy.
func (l *livePolicy) Decide(c policy.Caller, m module.Version, f policy.Facts) policy.Verdict {
	return l.now.Load().Decide(c, m, f)
}

// Filter implements proxy.Policy.
func (l *livePolicy) Filter(c policy.Caller, path string, f policy.Facts) ([]string, policy.Verdict) {
	return l.now.Load().Filter(c, path, f)
}

// Explain implements proxy.Policy.
func (l *livePolicy) Explain(c policy.Caller, m module.Version, f policy.Facts) policy.Explanation {
	return l.now.Load().Explain(c, m, f)
}

// IsPrivate reports whether path must not be named to the public. It does not
// change with the rule file.
func (l *livePolicy) IsPrivate(path string) bool { return l.now.Load().IsPrivate(path) }

// checkRuleFile reports what is wrong with the file of rules, if there is one.
func checkRuleFile(c *Config) error {
	if c.Policy.File == "" {
		return nil
	}
	data, err := readNamed(c.Policy.File)
	if err == nil {
		_, err = readRules(c.Policy.File, data, c.Private.String())
	}
	if err != nil {
		return fmt.Errorf("policy.file: %w", err)
	}
	return nil
}

// openPolicy returns the policy that c says, kept up to date with its file.
func (a *app) openPolicy(c *Config) (*livePolicy, error) {
	live := new(livePolicy)
	private := c.Private.String()
	if c.Policy.File == "" {
		p, err := policy.New(policy.Config{Private: private})
		live.now.Store(p)
		return live, err
	}
	return live, a.reloads.add("policy.file", c.Policy.File, func(data []byte) error {
		p, err := readRules(c.Policy.File, data, private)
		if err == nil {
			live.now.Store(p)
		}
		return err
	})
}
