package runfile

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/mistura-project/mistura/internal/sheet"
)

// Keys lists every key of the run file as a dotted path, in the order of the
// structs; a key of a list's entries reads "islands[].pace".
func Keys() []string { return sheet.KeysOf(reflect.TypeFor[Run]()) }

// text is the value at a dotted path as it would be written in the file, empty when
// there is no single value or it is empty itself.
func (r Run) text(path string) string {
	v := reflect.ValueOf(&r).Elem()
	for key := range strings.SplitSeq(path, ".") {
		if v.Kind() != reflect.Struct {
			return ""
		}
		field, ok := sheet.Fields(v)[key]
		if !ok {
			return ""
		}
		v = field
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Slice:
		return ""
	case reflect.Pointer:
		if v.IsNil() {
			return "auto"
		}
		v = v.Elem()
	}
	return fmt.Sprint(v.Interface())
}
