package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxConfigFile bounds a configuration file, in bytes.
const maxConfigFile = 1 << 20

// decode sets what the YAML in data says. It walks the syntax tree by itself,
// and not through a struct decoder, because that one stops at the first
// mistake. Anchors, aliases and tags are refused: a file that needs them is not
// read at a glance.
func (s *settings) decode(name string, data []byte) mistakes {
	d := decoder{settings: s, name: name, source: hideLines(strings.Split(string(data), "\n")), table: map[string]key{}, groups: map[string]bool{"": true}}
	for _, k := range keys() {
		d.table[k.name] = k
		for i, c := range k.name {
			if c == '.' {
				d.groups[k.name[:i]] = true
			}
		}
	}
	file, err := parse(data)
	if err != nil {
		at := mistake{origin: name}
		if e := yaml.Error(nil); errors.As(err, &e) {
			at = d.at("", e.GetToken())
			at.problem, at.advice = plainWords(e.GetMessage())
			d.found = append(d.found, at)
			return d.found
		}
		d.found.add(err, at)
		return d.found
	}
	for i, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if i > 0 {
			d.wrong("", doc.Body, "a second document begins here", "keep one document in one file")
			break
		}
		d.group("", doc.Body)
	}
	return d.found
}

// parse calls the YAML parser, whose panics on odd input are errors.
func parse(data []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not readable as YAML: %v", p)
		}
	}()
	return parser.ParseBytes(data, 0)
}

// hideLines returns the lines of a file as they may be shown beside a mistake:
// without the values of hidden keys, which may go on over deeper lines. It
// rather hides too much: the file may be no YAML at all.
func hideLines(lines []string) []string {
	hidden := map[string]bool{}
	for _, k := range keys() {
		if k.hidden || k.url {
			hidden[k.name[strings.LastIndex(k.name, ".")+1:]] = true
		}
	}
	shown := slices.Clone(lines)
	depth := -1 // of the hidden key that we are in
	for i, line := range lines {
		text := strings.TrimLeft(line, " \t-")
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		word, _, isKey := strings.Cut(text, ":")
		switch word = strings.Trim(word, `"' `); {
		case isKey && hidden[word]:
			depth, shown[i] = indent, line[:indent]+word+": hidden"
		case depth >= 0 && (indent > depth || strings.HasPrefix(line[indent:], "-") || text == ""):
			shown[i] = line[:indent] + "hidden"
		default:
			depth = -1
		}
		for name := range hidden { // in a flow mapping
			if depth < 0 && strings.Contains(line, name) {
				shown[i] = "hidden"
			}
		}
	}
	return shown
}

// decoder is one run of decode.
type decoder struct {
	settings *settings
	name     string
	source   []string // lines, as people may see them
	table    map[string]key
	groups   map[string]bool // names that have keys below them
	found    mistakes
}

// group reads a mapping whose keys are below prefix ("" or "cache").
func (d *decoder) group(prefix string, node ast.Node) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			d.entry(prefix, v)
		}
	case *ast.MappingValueNode:
		d.entry(prefix, n)
	case *ast.NullNode, *ast.CommentGroupNode:
	default:
		advice := "indent them below " + prefix
		if _, ok := d.table[prefix+".file"]; ok {
			advice = "did you mean " + prefix + ".file? write file: and the value, indented, on the line below " + prefix + ":"
		}
		if prefix == "" {
			advice = "write each key at the beginning of a line, without a - before it; modgate config --reference lists all"
		}
		d.wrong(prefix, node, "keys are expected here, as in \"listen: 127.0.0.1:8080\"", advice)
	}
}

func (d *decoder) entry(prefix string, v *ast.MappingValueNode) {
	word := v.Key.GetToken().Value
	name := word
	if prefix != "" {
		name = prefix + "." + word
	}
	k, known := d.table[name]
	switch {
	case strings.Contains(word, ".") && known:
		group, leaf, _ := strings.Cut(name, ".")
		d.wrong("", v.Key, fmt.Sprintf("%q is two keys in one", word), "write "+leaf+": indented below "+group+":")
	case known:
		d.value(k, v.Value)
	case d.groups[name]:
		d.group(name, v.Value)
	default:
		advice := "modgate config --reference lists all keys"
		if within := keysWithin(name); len(within) > 0 {
			advice = "the keys are " + strings.Join(within, ", ")
		} else if near := d.nearest(name); near != "" {
			advice = "did you mean " + near + "?"
		}
		d.wrong("", v.Key, fmt.Sprintf("%q is not a key", name), advice)
	}
}

func (d *decoder) nearest(name string) string {
	var names []string
	for _, k := range keys() {
		names = append(names, k.name)
	}
	return nearest(name, names)
}

// keysWithin returns the keys that name was meant to be a group of: those of
// tls.eab are tls.eab_key_id and tls.eab_mac_key.
func keysWithin(name string) []string {
	var names []string
	for _, k := range keys() {
		if strings.HasPrefix(k.name, name+"_") {
			names = append(names, k.name)
		}
	}
	return names
}

// value sets k to the scalar or the sequence of scalars in node.
func (d *decoder) value(k key, node ast.Node) {
	raw, ok := scalar(node)
	if seq, isSeq := node.(*ast.SequenceNode); isSeq && k.kind() == "list" {
		var words []string
		for _, v := range seq.Values {
			if d.starred(k, v) {
				return
			}
			word, fine := scalar(v)
			if !fine || strings.Contains(word, ",") {
				d.wrong(k.name, v, "a single word is expected here", "write one word on each line")
				return
			}
			words = append(words, word)
		}
		raw, ok = strings.Join(words, ","), true
	}
	if d.starred(k, node) {
		return
	}
	if !ok {
		d.wrong(k.name, node, "a "+k.kind()+" is expected here", "write it behind the colon")
		return
	}
	d.found = append(d.found, d.settings.assign(k, raw, d.at(k.name, node.GetToken()))...)
}

// starred reports a word that begins with * and is not in quotes, and whether node
// is one.
func (d *decoder) starred(k key, node ast.Node) bool {
	alias, ok := node.(*ast.AliasNode)
	if ok {
		text := alias.Value.String()
		if k.hidden || k.url {
			text = "…"
		}
		problem, advice := unquotedStar(text)
		d.wrong(k.name, node, problem, advice)
	}
	return ok
}

// scalar returns the text of a scalar as it stands in the file, so that 010
// and 1e3 mean what they look like.
func scalar(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.NullNode:
		return "", true
	}
	return "", false
}

func (d *decoder) wrong(name string, node ast.Node, problem, advice string) {
	at := d.at(name, node.GetToken())
	at.problem, at.advice = problem, advice
	d.found = append(d.found, at)
}

// at returns a mistake that points to t, which may be nil.
func (d *decoder) at(name string, t *token.Token) mistake {
	m := mistake{key: name, origin: d.name}
	if t == nil || t.Position == nil || t.Position.Line < 1 || t.Position.Line > len(d.source) {
		return m
	}
	line, column := t.Position.Line, max(t.Position.Column, 1)
	m.origin = fmt.Sprintf("%s:%d", d.name, line)
	if t.Type == token.MappingValueType && t.Prev != nil && t.Prev.Position != nil {
		column = t.Prev.Position.Column
	}
	var b strings.Builder
	for i := max(line-1, 1); i <= line; i++ {
		fmt.Fprintf(&b, "%4d | %.120s\n", i, strings.TrimRight(d.source[i-1], "\r"))
	}
	fmt.Fprintf(&b, "     | %s^\n", strings.Repeat(" ", min(column, 120)-1))
	m.snippet = b.String()
	return m
}
