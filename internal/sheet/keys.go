package sheet

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/mistura-project/mistura/internal/fault"
)

// Fields gives the settable fields of the struct v by key, those of embedded
// structs included.
func Fields(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			for key, field := range Fields(v.Field(i)) {
				fields[key] = field
			}
			continue
		}
		if key := Key(f); key != "" {
			fields[key] = v.Field(i)
		}
	}
	return fields
}

// Key is the key of a field in the file, empty when it has none.
func Key(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if !f.IsExported() || key == "-" {
		return ""
	}
	return key
}

// KeysOf lists every key of a struct as a dotted path, in the order of its fields; a
// key of a list's entries reads "islands[].pace".
func KeysOf(t reflect.Type) []string { return keysOf(t, "") }

func keysOf(t reflect.Type, prefix string) []string {
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			keys = append(keys, keysOf(f.Type, prefix)...)
			continue
		}
		key := Key(f)
		switch {
		case key == "":
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type, join(prefix, key))...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			keys = append(keys, keysOf(f.Type.Elem(), join(prefix, key)+"[]")...)
		default:
			keys = append(keys, join(prefix, key))
		}
	}
	return keys
}

// unknown is the fault of a key that does not exist, with the closest that does:
// in the same section, or the same key in another section.
func (d *Reader) unknown(n *ast.MappingValueNode, path, key string, fields map[string]reflect.Value) error {
	where := fmt.Sprintf("%s:%d", d.File, n.Key.GetToken().Position.Line)
	in := ""
	if path != "" {
		in = " in " + path
	}
	known := make([]string, 0, len(fields))
	for k := range fields {
		known = append(known, k)
	}
	slices.Sort(known)
	near := fault.Closest(key, known)
	next := "the keys are " + strings.Join(known, ", ")
	if near != "" {
		next = fmt.Sprintf("did you mean %q?", near)
	} else if there := d.elsewhere(key); there != "" {
		next = fmt.Sprintf("did you mean %q?", there)
	}
	return &fault.Input{Where: where, Problem: fmt.Sprintf("unknown key %q%s", key, in), Next: next}
}

// elsewhere finds a key in any section by its exact last part.
func (d *Reader) elsewhere(key string) string {
	if d.Keys == nil {
		return ""
	}
	for _, path := range d.Keys() {
		if strings.HasSuffix("."+path, "."+key) {
			return path
		}
	}
	return ""
}
