package runfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/sheet"
)

// Marshal writes the run as a file that Parse reads back to the same run.
func (r Run) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString("# A run of mistura; docs/formats/run.md explains each key.\n")
	encodeStruct(&b, "", reflect.ValueOf(r))
	return b.Bytes()
}

// JSON is the run as a JSON object with the same keys as in the file.
func (r Run) JSON() ([]byte, error) { return json.Marshal(valueOf(reflect.ValueOf(r))) }

// valueOf is what encodeValue writes, as a value of JSON.
func valueOf(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Struct:
		out := map[string]any{}
		addFields(out, v)
		return out
	case v.Kind() == reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = valueOf(v.Index(i))
		}
		return out
	case v.Kind() == reflect.Pointer && v.IsNil():
		return Auto.String()
	case v.Kind() == reflect.Pointer:
		return valueOf(v.Elem())
	case v.Type() == reflect.TypeFor[Count]() && v.Interface() != Auto:
		return v.Int()
	case v.Type() == reflect.TypeFor[Count]():
		return Auto.String()
	}
	return v.Interface()
}

func addFields(out map[string]any, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			addFields(out, v.Field(i))
		} else if key := sheet.Key(f); key != "" {
			out[key] = valueOf(v.Field(i))
		}
	}
}

// encodeStruct writes the fields of a struct, one a line, in their order. A prefix
// of "- " on the first line makes it an entry of a list.
func encodeStruct(b *bytes.Buffer, indent string, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			encodeStruct(b, indent, v.Field(i))
			continue
		}
		if key := sheet.Key(f); key != "" {
			fmt.Fprintf(b, "%s%s:", indent, key)
			encodeValue(b, indent, v.Field(i))
			indent = strings.ReplaceAll(indent, "-", " ")
		}
	}
}

// encodeValue writes what follows a key.
func encodeValue(b *bytes.Buffer, indent string, v reflect.Value) {
	inner := strings.ReplaceAll(indent, "-", " ") + "  "
	switch {
	case v.Kind() == reflect.Struct:
		b.WriteString("\n")
		encodeStruct(b, inner, v)
	case v.Kind() == reflect.Slice && v.Len() == 0:
		b.WriteString(" []\n")
	case v.Kind() == reflect.Slice:
		b.WriteString("\n")
		for i := range v.Len() {
			if t, ok := v.Index(i).Interface().(Tensor); ok {
				fmt.Fprintf(b, "%s- %s\n", inner, t.line())
			} else if v.Index(i).Kind() == reflect.Struct {
				encodeStruct(b, inner+"- ", v.Index(i))
			} else {
				fmt.Fprintf(b, "%s- %s\n", inner, encodeScalar(v.Index(i)))
			}
		}
	default:
		fmt.Fprintf(b, " %s\n", encodeScalar(v))
	}
}

func encodeScalar(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "auto"
		}
		return encodeScalar(v.Elem())
	case reflect.String:
		return quote(v.String())
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	default:
		return fmt.Sprint(v.Interface())
	}
}

// plain text needs no quotes: nothing else that YAML reads looks like it.
var plain = regexp.MustCompile(`^[A-Za-z/_][A-Za-z0-9/._-]*$`)

// quote writes text so that every YAML reader gives it back. JSON's double quotes
// are YAML's.
func quote(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "auto", "yes", "no", "on", "off", "y", "n":
	default:
		if plain.MatchString(s) {
			return s
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("runfile: text that JSON cannot hold: " + err.Error())
	}
	return strings.TrimSpace(b.String())
}
