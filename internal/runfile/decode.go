package runfile

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/mistura-project/mistura/internal/fault"
)

// decoder lays a parsed file over a value. The YAML library parses; laying it over
// structs is done here, because what stays unsaid must keep its default and every
// fault needs file, line, key and next step on one line.
type decoder struct {
	file  string
	lines map[string]int
}

// parseYAML gives the mapping at the top of a file, or nil when the file is empty.
func (d *decoder) parseYAML(data []byte) (*ast.MappingNode, error) {
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, d.syntax(err)
	}
	if len(f.Docs) == 0 || f.Docs[0].Body == nil || f.Docs[0].Body.Type() == ast.NullType || f.Docs[0].Body.Type() == ast.CommentType {
		return nil, nil
	}
	if len(f.Docs) > 1 {
		return nil, d.at(f.Docs[1].Body, "", "", "a second document", "keep one run in a file")
	}
	switch n := f.Docs[0].Body.(type) {
	case *ast.MappingNode:
		return n, nil
	case *ast.MappingValueNode:
		return ast.Mapping(n.GetToken(), false, n), nil
	default:
		return nil, d.at(n, "", n.GetToken().Value, "is not a list of keys", `write keys such as "tokens: 400k"`)
	}
}

// syntax turns the library's error, which is several lines long, into one.
func (d *decoder) syntax(err error) error {
	var positioned interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &positioned) || positioned.GetToken() == nil {
		return &fault.Input{Where: d.file, Problem: "is not YAML", Next: "see docs/formats/run.md", Err: err}
	}
	where := fmt.Sprintf("%s:%d", d.file, positioned.GetToken().Position.Line)
	problem, next := "is not YAML: "+positioned.GetMessage(), "correct the line"
	if strings.Contains(problem, "already defined") {
		problem, next = "the same key twice: "+positioned.GetMessage(), "keep one of them"
	}
	return &fault.Input{Where: where, Problem: problem, Next: next}
}

func (d *decoder) at(n ast.Node, path, value, problem, next string) error {
	where := d.file
	if n != nil && n.GetToken() != nil {
		where = fmt.Sprintf("%s:%d", d.file, n.GetToken().Position.Line)
	}
	if path != "" {
		where += ": " + path
	}
	return &fault.Input{Where: where, Value: value, Problem: problem, Next: next}
}

// mapping sets the fields of the struct v from a mapping.
func (d *decoder) mapping(m *ast.MappingNode, path string, v reflect.Value) error {
	fields := fieldsOf(v)
	for _, kv := range m.Values {
		key := kv.Key.GetToken().Value
		field, ok := fields[key]
		if !ok {
			return d.unknown(kv, path, key, fields)
		}
		if err := d.value(kv.Value, join(path, key), field); err != nil {
			return err
		}
	}
	return nil
}

// value sets v from one node.
func (d *decoder) value(n ast.Node, path string, v reflect.Value) error {
	if n.GetToken() != nil {
		d.lines[path] = n.GetToken().Position.Line
	}
	switch {
	case v.Kind() == reflect.Struct:
		return d.section(n, path, v)
	case v.Kind() == reflect.Slice:
		return d.list(n, path, v)
	case v.Kind() == reflect.Pointer:
		return d.optional(n, path, v)
	}
	s, ok := scalar(n)
	if !ok {
		return d.at(n, path, "", "needs a single value", "write "+wanted(v.Type()))
	}
	if v.Kind() == reflect.Int && strings.HasSuffix(path, "_tokens") {
		return d.tokens(n, path, s, v)
	}
	if !setScalar(v, s) {
		return d.at(n, path, s, "is not "+wanted(v.Type()), nextStep(path))
	}
	return nil
}

// tokens sets a number of tokens that is no [Count], in the same ways of writing. Minus
// is left to whoever knows the range.
func (d *decoder) tokens(n ast.Node, path, s string, v reflect.Value) error {
	if c, err := ParseCount(s); err == nil && c != Auto {
		v.SetInt(int64(c))
		return nil
	}
	if !setScalar(v, s) {
		return d.at(n, path, s, "is not "+wanted(reflect.TypeFor[Count]()), nextStep(path))
	}
	return nil
}

func (d *decoder) section(n ast.Node, path string, v reflect.Value) error {
	switch n := n.(type) {
	case *ast.MappingNode:
		return d.mapping(n, path, v)
	case *ast.MappingValueNode:
		return d.mapping(ast.Mapping(n.GetToken(), false, n), path, v)
	case *ast.NullNode:
		return nil // "train:" with every key commented out
	default:
		s, _ := scalar(n)
		return d.at(n, path, s, "needs keys of its own", "see docs/formats/run.md")
	}
}

// list replaces the slice v.
func (d *decoder) list(n ast.Node, path string, v reflect.Value) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		s, _ := scalar(n)
		return d.at(n, path, s, "needs a list", `write one entry a line, each after "- "`)
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, entry := range seq.Values {
		if island, ok := out.Index(i).Addr().Interface().(*Island); ok {
			island.Pace = 1
		}
		if err := d.value(entry, join(path, strconv.Itoa(i)), out.Index(i)); err != nil {
			return err
		}
	}
	v.Set(out)
	return nil
}

// optional sets a pointer: nil for "auto".
func (d *decoder) optional(n ast.Node, path string, v reflect.Value) error {
	if s, _ := scalar(n); s == "auto" || n.Type() == ast.NullType {
		v.SetZero()
		return nil
	}
	to := reflect.New(v.Type().Elem())
	if err := d.value(n, path, to.Elem()); err != nil {
		return err
	}
	v.Set(to)
	return nil
}

// scalar is the text of a single value.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

// setScalar sets v from its text and says whether the text fits.
func setScalar(v reflect.Value, s string) bool {
	if c, ok := v.Addr().Interface().(*Count); ok {
		n, err := ParseCount(s)
		*c = n
		return err == nil
	}
	digits := strings.ReplaceAll(s, "_", "")
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		v.SetBool(s == "true")
		return s == "true" || s == "false"
	case reflect.Int:
		n, err := strconv.ParseInt(digits, 10, 64)
		v.SetInt(n)
		return err == nil
	case reflect.Uint64:
		n, err := strconv.ParseUint(digits, 10, 64)
		v.SetUint(n)
		return err == nil
	case reflect.Float64:
		f, err := strconv.ParseFloat(digits, 64)
		v.SetFloat(f)
		return err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	default:
		panic("runfile: field of kind " + v.Kind().String())
	}
	return true
}

// wanted names a type for a user.
func wanted(t reflect.Type) string {
	if t == reflect.TypeFor[Count]() {
		return "a number of tokens such as 400k, 2M or 1B"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Uint64:
		return "a whole number of 0 or more"
	case reflect.Float64:
		return "a number"
	default:
		return "text"
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
