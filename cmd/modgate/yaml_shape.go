package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/modgate/modgate/policy"
)

// findWrongShape reports all keys in a file that t, which it is read into, does not
// have, and all values of another kind: the decoder stops at the first, and speaks
// of Go types. It shows no values: they may be secrets.
func findWrongShape(tree *ast.File, t reflect.Type) []*policy.Mistake {
	s := shape{emptyKeys: emptyKeys{anchors: make(map[string]ast.Node)}}
	for _, doc := range tree.Docs {
		if doc.Body != nil {
			ast.Walk(&s.emptyKeys, doc.Body)
			s.look("", doc.Body, t, 0)
			break
		}
	}
	return s.wrong
}

type shape struct {
	emptyKeys // knows what stands behind aliases
	wrong     []*policy.Mistake
}

// look compares node, which path leads to, with the t that it is read into.
func (s *shape) look(path string, node ast.Node, t reflect.Type, depth int) {
	if depth > maxEmptyDepth {
		return
	}
	if alias, ok := node.(*ast.AliasNode); ok && s.anchors[alias.Value.String()] == nil {
		s.starred(path, alias)
		return
	}
	at := node
	node = s.plain(node)
	switch node.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return // who reads the file says what may be empty
	}
	_, word := scalar(node)
	seq, isList := node.(*ast.SequenceNode)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		_, isBool := node.(*ast.BoolNode)
		if text, _ := scalar(node); !isBool && text != "true" && text != "false" {
			s.add(at, path, "true or false is expected here", "write true or false")
		}
	case reflect.String:
		if !word {
			s.add(at, path, "one value is expected here", "write it behind the colon, in quotes if it holds any of {}[],:#*")
		}
	case reflect.Slice:
		if isList {
			for i, v := range seq.Values {
				s.look(fmt.Sprintf("%s[%d]", path, i), v, t.Elem(), depth+1)
			}
		} else if !word || t != reflect.TypeFor[words]() {
			s.add(at, path, "a list is expected here", "begin each entry with a - on a line of its own")
		}
	case reflect.Struct:
		s.fields(path, node, t, depth)
	}
}

// fields compares node with a struct.
func (s *shape) fields(path string, node ast.Node, t reflect.Type, depth int) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			s.field(path, v, t, depth)
		}
	case *ast.MappingValueNode:
		s.field(path, n, t, depth)
	default:
		s.add(node, path, "keys are expected here", "there are "+strings.Join(fieldNames(t), ", ")+": write each with a colon and a space behind it")
	}
}

func (s *shape) field(path string, pair *ast.MappingValueNode, t reflect.Type, depth int) {
	if alias, ok := pair.Key.(*ast.AliasNode); ok {
		s.starred(path, alias)
		return
	}
	token := pair.Key.GetToken()
	if token == nil || token.Position == nil || token.Value == "<<" {
		return
	}
	key := token.Value
	name := strings.TrimPrefix(path+"."+key, ".")
	known := fieldNames(t)
	for i, field := range known {
		if field == key {
			s.look(name, pair.Value, t.Field(i).Type, depth+1)
			return
		}
	}
	advice := "there are " + strings.Join(known, ", ")
	if near := nearest(key, known); near != "" {
		advice = "did you mean " + near + "?"
	}
	s.add(pair.Key, name, fmt.Sprintf("%q is not a key", key), advice)
}

func fieldNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("yaml"))
	}
	return names
}

// starred reports a word that begins with * and is not in quotes.
func (s *shape) starred(path string, alias *ast.AliasNode) {
	text := alias.Value.String()
	for _, secret := range []string{"username", "password", "helper", "sha256"} {
		if strings.HasSuffix(path, "."+secret) {
			text = "…"
		}
	}
	problem, advice := unquotedStar(text)
	s.add(alias, path, problem, advice)
}

// unquotedStar says what is wrong with *text, which YAML takes for an alias.
func unquotedStar(text string) (problem, advice string) {
	return "a word that begins with * needs quotes", `write "*` + text + `"`
}

func (s *shape) add(node ast.Node, path, problem, advice string) {
	m := &policy.Mistake{Line: lineOf(node.GetToken()), Path: path, Problem: problem, Advice: advice}
	if path == "" {
		m.Path = "the file"
	}
	s.wrong = append(s.wrong, m)
}

// lineOf returns the line that t stands in, 1 if that is not known.
func lineOf(t *token.Token) int {
	if t == nil || t.Position == nil {
		return 1
	}
	return t.Position.Line
}
