package sheet

import (
	"bytes"
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

// Reader lays a parsed file over a value. The YAML library parses; laying it over
// structs is done here, because what stays unsaid must keep its default and every
// fault needs file, line, key and next step on one line.
type Reader struct {
	File   string         // as it stands in faults
	Lines  map[string]int // out: the line of each dotted path that the file has
	Page   string         // that describes the file
	Sample string         // a key with its value, to show
	Holds  string         // what one file is of, in a word
	// Hint is the next step for a value at a path that is of the wrong kind; nil: the page.
	Hint func(path string) string
	// Keys are all dotted paths, for keys that stand in the wrong section; nil: none are offered.
	Keys func() []string
	// Entry prepares a pointer to a new entry of a list before it is read; nil: it counts from zero.
	Entry func(entry any)
}

// Texter is a type whose value is read from a text of its own.
type Texter interface {
	// SetText sets the value, or says what is wrong with the text.
	SetText(text string) error
	// Wanted says what should have been written.
	Wanted() string
}

// Parse gives the mapping at the top of a file; an empty file has no keys.
func (d *Reader) Parse(data []byte) (Section, error) {
	d.Lines = map[string]int{}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // as editors of Windows begin a file
	if line := tooDeep(data); line > 0 {
		return Section{}, &fault.Input{Where: fmt.Sprintf("%s:%d", d.File, line), Problem: fmt.Sprintf("has more than %d brackets open", mostOpen), Next: "close them"}
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		return Section{}, d.syntax(err)
	}
	if len(f.Docs) == 0 || f.Docs[0].Body == nil || f.Docs[0].Body.Type() == ast.NullType || f.Docs[0].Body.Type() == ast.CommentType {
		return Section{}, nil
	}
	if len(f.Docs) > 1 {
		return Section{}, d.at(f.Docs[1].Body, "", "", "a second document", "keep one "+d.Holds+" in a file")
	}
	switch n := f.Docs[0].Body.(type) {
	case *ast.MappingNode:
		return Section{n}, nil
	case *ast.MappingValueNode:
		return Section{ast.Mapping(n.GetToken(), false, n)}, nil
	default:
		return Section{}, d.at(n, "", n.GetToken().Value, "is not a list of keys", fmt.Sprintf("write keys such as %q", d.Sample))
	}
}

// mostOpen is how deep brackets may be nested: the parser takes long for more.
const mostOpen = 1000

// tooDeep is the line on which too many brackets are open; 0: there is none.
func tooDeep(data []byte) int {
	open, line := 0, 1
	for _, c := range data {
		switch c {
		case '\n':
			line++
		case '[', '{':
			if open++; open > mostOpen {
				return line
			}
		case ']', '}':
			open = max(0, open-1)
		}
	}
	return 0
}

// Read lays the file's keys over the struct that to points to.
func (d *Reader) Read(root Section, to any) error {
	if root.mapping == nil {
		return nil
	}
	return d.mapping(root.mapping, "", reflect.ValueOf(to).Elem())
}

// syntax turns the library's error, which is several lines long, into one.
func (d *Reader) syntax(err error) error {
	var positioned interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &positioned) || positioned.GetToken() == nil {
		return &fault.Input{Where: d.File, Problem: "is not YAML", Next: "see " + d.Page, Err: err}
	}
	where := fmt.Sprintf("%s:%d", d.File, positioned.GetToken().Position.Line)
	problem, next := "is not YAML: "+positioned.GetMessage(), "correct the line"
	if strings.Contains(problem, "already defined") {
		problem, next = "the same key twice: "+positioned.GetMessage(), "keep one of them"
	}
	return &fault.Input{Where: where, Problem: problem, Next: next}
}

func (d *Reader) at(n ast.Node, path, value, problem, next string) error {
	where := d.File
	if n != nil && n.GetToken() != nil {
		where = fmt.Sprintf("%s:%d", d.File, n.GetToken().Position.Line)
	}
	if path != "" {
		where += ": " + path
	}
	return &fault.Input{Where: where, Value: value, Problem: problem, Next: next}
}

// mapping sets the fields of the struct v from a mapping.
func (d *Reader) mapping(m *ast.MappingNode, path string, v reflect.Value) error {
	fields := Fields(v)
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
func (d *Reader) value(n ast.Node, path string, v reflect.Value) error {
	if n.GetToken() != nil {
		d.Lines[path] = n.GetToken().Position.Line
	}
	if own, ok := v.Addr().Interface().(Texter); ok {
		if s, single := scalar(n); single || v.Kind() != reflect.Struct {
			return d.text(n, path, s, single, own)
		}
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
		return d.at(n, path, s, "is not "+wanted(v.Type()), d.hint(path))
	}
	return nil
}

// text sets a value that reads its own text.
func (d *Reader) text(n ast.Node, path, s string, single bool, v Texter) error {
	if !single {
		return d.at(n, path, "", "needs a single value", "write "+v.Wanted())
	}
	if err := v.SetText(s); err != nil {
		return d.at(n, path, s, "is not "+v.Wanted(), d.hint(path))
	}
	return nil
}

func (d *Reader) hint(path string) string {
	if d.Hint == nil {
		return "see " + d.Page
	}
	return d.Hint(path)
}

// tokens sets a number of tokens that is no [Count], in the same ways of writing. Minus
// is left to whoever knows the range.
func (d *Reader) tokens(n ast.Node, path, s string, v reflect.Value) error {
	if c, err := ParseCount(s); err == nil && c != Auto {
		v.SetInt(int64(c))
		return nil
	}
	if !setScalar(v, s) {
		return d.at(n, path, s, "is not "+new(Count).Wanted(), d.hint(path))
	}
	return nil
}

func (d *Reader) section(n ast.Node, path string, v reflect.Value) error {
	switch n := n.(type) {
	case *ast.MappingNode:
		return d.mapping(n, path, v)
	case *ast.MappingValueNode:
		return d.mapping(ast.Mapping(n.GetToken(), false, n), path, v)
	case *ast.NullNode:
		return nil // "train:" with every key commented out
	default:
		s, _ := scalar(n)
		return d.at(n, path, s, "needs keys of its own", "see "+d.Page)
	}
}

// list replaces the slice v.
func (d *Reader) list(n ast.Node, path string, v reflect.Value) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		s, _ := scalar(n)
		return d.at(n, path, s, "needs a list", `write one entry a line, each after "- "`)
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, entry := range seq.Values {
		if d.Entry != nil {
			d.Entry(out.Index(i).Addr().Interface())
		}
		if err := d.value(entry, join(path, strconv.Itoa(i)), out.Index(i)); err != nil {
			return err
		}
	}
	v.Set(out)
	return nil
}

// optional sets a pointer: nil for "auto".
func (d *Reader) optional(n ast.Node, path string, v reflect.Value) error {
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
		panic("sheet: field of kind " + v.Kind().String())
	}
	return true
}

// wanted names a type for a user.
func wanted(t reflect.Type) string {
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
