package sheet

import (
	"github.com/goccy/go-yaml/ast"
)

// Section is the keys of a file, or of a part of it; the zero Section has none.
type Section struct{ mapping *ast.MappingNode }

// Node is the value of a key; the zero Node is none.
type Node struct{ node ast.Node }

// Keys lists them.
func (s Section) Keys() []string {
	if s.mapping == nil {
		return nil
	}
	keys := make([]string, len(s.mapping.Values))
	for i, kv := range s.mapping.Values {
		keys[i] = kv.Key.GetToken().Value
	}
	return keys
}

// Child is the value of a key.
func (s Section) Child(key string) Node {
	if s.mapping == nil {
		return Node{}
	}
	for _, kv := range s.mapping.Values {
		if kv.Key.GetToken().Value == key {
			return Node{kv.Value}
		}
	}
	return Node{}
}

// Section is a value that has keys of its own; ok is false for any other.
func (n Node) Section() (s Section, ok bool) {
	switch n := n.node.(type) {
	case *ast.MappingNode:
		return Section{n}, true
	case *ast.MappingValueNode:
		return Section{ast.Mapping(n.GetToken(), false, n)}, true
	}
	return Section{}, false
}

// Text is a single value; ok is false for any other.
func (n Node) Text() (s string, ok bool) { return scalar(n.node) }

// There: the file has the key.
func (n Node) There() bool { return n.node != nil }

// Empty: it has no value, or a list without entries.
func (n Node) Empty() bool {
	seq, ok := n.node.(*ast.SequenceNode)
	return n.node == nil || n.node.Type() == ast.NullType || ok && len(seq.Values) == 0
}

// Fault is bad input at a node.
func (d *Reader) Fault(n Node, path, value, problem, next string) error {
	return d.at(n.node, path, value, problem, next)
}
