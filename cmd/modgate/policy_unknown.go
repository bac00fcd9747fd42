package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/modgate/modgate/policy"
)

// findUnknownKeys reports all keys in a file of rules that there are none of: the
// decoder stops at the first.
func findUnknownKeys(tree *ast.File) []*policy.Mistake {
	var u unknownKeys
	for _, doc := range tree.Docs {
		if doc.Body != nil {
			u.look("", doc.Body, reflect.TypeFor[policyFile]())
		}
	}
	return u.found
}

type unknownKeys struct{ found []*policy.Mistake }

// look goes through node, which path leads to and which is read into a t.
func (u *unknownKeys) look(path string, node ast.Node, t reflect.Type) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			u.key(path, v, t)
		}
	case *ast.MappingValueNode:
		u.key(path, n, t)
	case *ast.SequenceNode:
		if t.Kind() == reflect.Slice {
			for i, v := range n.Values {
				u.look(fmt.Sprintf("%s[%d]", path, i), v, t.Elem())
			}
		}
	}
}

func (u *unknownKeys) key(path string, pair *ast.MappingValueNode, t reflect.Type) {
	if t.Kind() != reflect.Struct {
		return
	}
	token := pair.Key.GetToken()
	if token == nil || token.Position == nil || token.Value == "<<" {
		return
	}
	name := strings.TrimPrefix(path+"."+token.Value, ".")
	var known []string
	for i := range t.NumField() {
		f := t.Field(i)
		if known = append(known, f.Tag.Get("yaml")); f.Tag.Get("yaml") == token.Value {
			u.look(name, pair.Value, f.Type)
			return
		}
	}
	advice := "there are " + strings.Join(known, ", ")
	if near := nearest(token.Value, known); near != "" {
		advice = "did you mean " + near + "?"
	}
	u.found = append(u.found, &policy.Mistake{Line: token.Position.Line, Path: name, Problem: fmt.Sprintf("%q is not a key", token.Value), Advice: advice})
}
