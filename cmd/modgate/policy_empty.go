package main

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml/ast"

	"github.com/modgate/modgate/policy"
)

// emptyKeys reports the keys in a file of rules that are there and say nothing:
// a key that is left out means "all", and a slip must not make a rule mean that.
type emptyKeys struct {
	anchors map[string]ast.Node
	found   []*policy.Mistake
}

func findEmptyKeys(tree *ast.File) []*policy.Mistake {
	e := &emptyKeys{anchors: make(map[string]ast.Node)}
	for _, doc := range tree.Docs {
		if doc.Body != nil {
			ast.Walk(e, doc.Body)
			e.look("", doc.Body, 0)
		}
	}
	return e.found
}

// refuseNothing is an error for a file that is empty, or that has a key with nothing
// behind it at its top: likely somebody is still writing it, and it must not take away
// what it said before. none is what to write if that is meant.
func refuseNothing(name string, data []byte, none string) error {
	tree, err := parse(data)
	if err != nil {
		return atLine(name, err)
	}
	e := &emptyKeys{anchors: make(map[string]ast.Node)}
	for _, doc := range tree.Docs {
		var pairs []*ast.MappingValueNode
		switch n := doc.Body.(type) {
		case *ast.MappingNode:
			pairs = n.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{n}
		case nil, *ast.NullNode, *ast.CommentGroupNode:
			continue
		}
		for _, pair := range pairs {
			if _, null := e.plain(pair.Value).(*ast.NullNode); null {
				key := pair.Key.GetToken()
				err = errors.Join(err, fmt.Errorf("%s:%d: %s: nothing stands behind the key\n  → write %s: [] if that is meant", name, key.Position.Line, key.Value, key.Value))
			}
		}
		return err
	}
	return fmt.Errorf("%s: the file says nothing, and may be one that was cut off\n  → write %s", name, none)
}

// Visit gathers anchors.
func (e *emptyKeys) Visit(node ast.Node) ast.Visitor {
	if a, ok := node.(*ast.AnchorNode); ok && a.Name != nil {
		e.anchors[a.Name.String()] = a.Value
	}
	return e
}

// maxEmptyDepth is deeper than any key of a rule file.
const maxEmptyDepth = 16

// look goes through node, which path leads to.
func (e *emptyKeys) look(path string, node ast.Node, depth int) {
	if depth > maxEmptyDepth {
		return
	}
	switch n := e.plain(node).(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			e.key(path, v, depth)
		}
	case *ast.MappingValueNode:
		e.key(path, n, depth)
	case *ast.SequenceNode:
		for i, v := range n.Values {
			e.look(fmt.Sprintf("%s[%d]", path, i), v, depth+1)
		}
	}
}

func (e *emptyKeys) key(path string, pair *ast.MappingValueNode, depth int) {
	name := pair.Key.String()
	if path != "" {
		name = path + "." + name
	}
	if name == "rules" || !e.saysNothing(pair.Value) {
		e.look(name, pair.Value, depth+1)
		return
	}
	line := 1
	if t := pair.Key.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	e.found = append(e.found, &policy.Mistake{Line: line, Path: name, Problem: "the key is there and says nothing", Advice: "leave it out if it is to mean all, or say what it is for"})
}

func (e *emptyKeys) saysNothing(node ast.Node) bool {
	switch n := e.plain(node).(type) {
	case nil, *ast.NullNode:
		return true
	case *ast.SequenceNode:
		return len(n.Values) == 0
	case *ast.MappingNode:
		return len(n.Values) == 0
	case *ast.StringNode:
		return n.Value == ""
	}
	return false
}

// plain returns what stands behind anchors, aliases and tags.
func (e *emptyKeys) plain(node ast.Node) ast.Node {
	for range maxEmptyDepth {
		switch n := node.(type) {
		case *ast.AnchorNode:
			node = n.Value
		case *ast.TagNode:
			node = n.Value
		case *ast.AliasNode:
			node = e.anchors[n.Value.String()]
		default:
			return node
		}
	}
	return node
}
