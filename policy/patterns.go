package policy

import (
	"errors"
	"path"
	"slices"
	"strings"
)

// checkPattern reports why pattern would match no module path, and so protect
// no name, although somebody believes it does.
func checkPattern(pattern string) error {
	for elem := range strings.SplitSeq(pattern, "/") {
		if _, err := path.Match(elem, "x"); err != nil {
			return err
		}
	}
	switch {
	case strings.Contains(pattern, "://"):
		return errors.New("a module path has no scheme: leave out https://")
	case strings.ContainsAny(pattern, " \t"):
		return errors.New("a module path has no spaces")
	case strings.ContainsAny(pattern, ":"):
		return errors.New("a module path has no port")
	case strings.ContainsAny(pattern, "@"):
		return errors.New("a pattern is for a module path, without a version or a user")
	case strings.HasPrefix(pattern, "/"), strings.HasPrefix(pattern, "."), strings.Contains(pattern, "//"):
		return errors.New("a module path begins with a host name; for all of its subdomains write *.corp.example")
	}
	return nil
}

// index finds the rules whose patterns match a path, without looking at the
// others: a tree of path elements. Its answers are those of
// module.MatchPrefixPatterns.
type index struct{ root node }

// node is a place in the tree.
type node struct {
	rules   []int32 // whose patterns end here
	literal map[string]*node
	suffix  affixes // patterns like "*.corp.example"
	prefix  affixes // patterns like "go-*"
	other   []globNode
}

// affixes are patterns of one star and a text before or behind it.
type affixes struct {
	lengths []int // of the texts
	nodes   map[string]*node
}

type globNode struct {
	glob string
	next *node
}

// add makes rule findable by pattern. No pattern, "", is every path.
func (x *index) add(pattern string, rule int32) {
	n := &x.root
	if pattern = strings.TrimSuffix(pattern, "/"); pattern != "" {
		for elem := range strings.SplitSeq(pattern, "/") {
			n = n.child(elem)
		}
	}
	if !slices.Contains(n.rules, rule) {
		n.rules = append(n.rules, rule)
	}
}

// child returns the node behind one element of a pattern.
func (n *node) child(elem string) *node {
	const meta = `*?[\`
	switch rest := strings.TrimPrefix(elem, "*"); {
	case !strings.ContainsAny(elem, meta):
		if n.literal == nil {
			n.literal = make(map[string]*node)
		}
		return add(n.literal, elem)
	case rest != elem && !strings.ContainsAny(rest, meta):
		return n.suffix.add(rest)
	case strings.HasSuffix(elem, "*") && !strings.ContainsAny(elem[:len(elem)-1], meta):
		return n.prefix.add(elem[:len(elem)-1])
	}
	for _, g := range n.other {
		if g.glob == elem {
			return g.next
		}
	}
	next := new(node)
	n.other = append(n.other, globNode{elem, next})
	return next
}

func (a *affixes) add(text string) *node {
	if a.nodes == nil {
		a.nodes = make(map[string]*node)
	}
	if !slices.Contains(a.lengths, len(text)) {
		a.lengths = append(a.lengths, len(text))
	}
	return add(a.nodes, text)
}

func add(m map[string]*node, key string) *node {
	n := m[key]
	if n == nil {
		n = new(node)
		m[key] = n
	}
	return n
}

// find appends the rules that have a pattern for modulePath, in order, each
// once.
func (x *index) find(modulePath string, rules []int32) []int32 {
	rules = x.root.find(modulePath, rules)
	slices.Sort(rules)
	return slices.Compact(rules)
}

func (n *node) find(rest string, rules []int32) []int32 {
	rules = append(rules, n.rules...)
	if rest == "" {
		return rules
	}
	elem, rest, _ := strings.Cut(rest, "/")
	if next := n.literal[elem]; next != nil {
		rules = next.find(rest, rules)
	}
	for _, size := range n.suffix.lengths {
		if size > len(elem) {
			continue
		}
		if next := n.suffix.nodes[elem[len(elem)-size:]]; next != nil {
			rules = next.find(rest, rules)
		}
	}
	for _, size := range n.prefix.lengths {
		if size > len(elem) {
			continue
		}
		if next := n.prefix.nodes[elem[:size]]; next != nil {
			rules = next.find(rest, rules)
		}
	}
	for _, g := range n.other {
		if ok, _ := path.Match(g.glob, elem); ok {
			rules = g.next.find(rest, rules)
		}
	}
	return rules
}
