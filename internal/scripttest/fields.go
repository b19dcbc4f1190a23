package scripttest

import (
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Fields are the key=value words of an input.
type Fields map[string]string

func parse(words []string) (Fields, error) {
	f := Fields{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("%q is no key=value", w)
		}
		if key == "inc" {
			key = "incarnation"
		}
		f[key] = value
	}
	return f, nil
}

// Fill sets the fields of the struct that target points to; those of structs inside
// it count as its own. Case does not matter; a key that fits nothing is an error.
func (f Fields) Fill(target any) error {
	used := map[string]bool{}
	if err := f.fill(reflect.ValueOf(target).Elem(), used); err != nil {
		return err
	}
	for key := range f {
		if !used[key] {
			return fmt.Errorf("%T has no field %s", target, key)
		}
	}
	return nil
}

func (f Fields) fill(v reflect.Value, used map[string]bool) error {
	for i := range v.NumField() {
		field := v.Field(i)
		if field.Kind() == reflect.Struct && field.Type() != reflect.TypeFor[time.Time]() {
			if err := f.fill(field, used); err != nil {
				return err
			}
			continue
		}
		for key, value := range f {
			if strings.EqualFold(key, v.Type().Field(i).Name) {
				used[key] = true
				if err := set(field, value); err != nil {
					return fmt.Errorf("%s=%s: %w", key, value, err)
				}
			}
		}
	}
	return nil
}

func set(v reflect.Value, text string) error {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(text)
		v.SetInt(int64(d))
		return err
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, 64)
		v.SetInt(n)
		return err
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, 64)
		v.SetUint(n)
		return err
	case v.CanFloat():
		x, err := strconv.ParseFloat(text, 64)
		v.SetFloat(x)
		return err
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(b)
		return err
	case v.Kind() == reflect.Slice:
		v.SetZero()
		if text == "" {
			return nil
		}
		for _, part := range strings.Split(text, ",") {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			if err := set(v.Index(v.Len()-1), part); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("a %s cannot be written in a script", v.Type())
	}
	return nil
}

// Show is a value as one line: its type, then its fields that are not zero.
func Show(v any) string {
	return strings.TrimSpace(show(reflect.ValueOf(v), true))
}

func show(v reflect.Value, named bool) string {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return show(v.Elem(), named)
	case reflect.Struct:
		if s, ok := spanOf(v); ok {
			return s
		}
		return fields(v, named)
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, show(v.Index(i), v.Type().Elem().Kind() == reflect.Interface))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', 4, 64)
	case reflect.String:
		if strings.ContainsAny(v.String(), " \"") {
			return strconv.Quote(v.String())
		}
		return v.String()
	}
	return fmt.Sprint(v.Interface())
}

// spanOf shows a struct of two int64 From and To, which may have a third, Due.
func spanOf(v reflect.Value) (string, bool) {
	if !isSpan(v.Type()) {
		return "", false
	}
	mark := ""
	if due := v.FieldByName("Due"); due.IsValid() && due.Int() > 0 {
		mark = fmt.Sprintf("@%d", due.Int())
	}
	return fmt.Sprintf("%d..%d%s", v.FieldByName("From").Int(), v.FieldByName("To").Int(), mark), true
}

func isSpan(t reflect.Type) bool {
	_, from := t.FieldByName("From")
	_, to := t.FieldByName("To")
	_, due := t.FieldByName("Due")
	return from && to && (t.NumField() == 2 || due && t.NumField() == 3)
}

func fields(v reflect.Value, named bool) string {
	var words []string
	if named {
		words = append(words, lower(v.Type().Name()))
	}
	for i := range v.NumField() {
		f := v.Field(i)
		name := lower(v.Type().Field(i).Name)
		switch {
		case f.IsZero() || f.Type() == reflect.TypeFor[time.Time]():
		case f.Kind() == reflect.Interface:
			words = append(words, show(f, true))
		case f.Kind() == reflect.Struct:
			words = append(words, name+"={"+show(f, false)+"}")
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && f.Type().Elem().NumField() > 2 && !isSpan(f.Type().Elem()):
			for j := range f.Len() {
				words = append(words, name+"={"+show(f.Index(j), false)+"}")
			}
		default:
			words = append(words, name+"="+show(f, false))
		}
	}
	return strings.Join(words, " ")
}

func lower(name string) string {
	return cmp.Or(strings.ToLower(name[:min(1, len(name))])+name[min(1, len(name)):], "value")
}
