package wire

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew")

// Danger: a renumbered or retyped field is read as another one by a peer that
// was built yesterday, and nothing fails. A changed line here means that
// Protocol rises; a new line at the end of a message does not.
func TestFieldsAreFrozen(t *testing.T) {
	const path = "testdata/fields.golden"
	var b strings.Builder
	fmt.Fprintf(&b, "protocol %d\n", Protocol)
	messages := File_mistura_proto.Messages()
	for i := range messages.Len() {
		m := messages.Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			fmt.Fprintf(&b, "%s %d %s %s\n", m.Name(), f.Number(), f.Name(), fieldType(f))
		}
	}
	enums := File_mistura_proto.Enums()
	for i := range enums.Len() {
		for j := range enums.Get(i).Values().Len() {
			v := enums.Get(i).Values().Get(j)
			fmt.Fprintf(&b, "%s %d %s\n", enums.Get(i).Name(), v.Number(), v.Name())
		}
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("fields differ from %s; when that is meant, raise Protocol and run the test with -rewrite\n%s", path, b.String())
	}
}

// fieldType is a type as a .proto file writes it.
func fieldType(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	if f.Message() != nil {
		kind = string(f.Message().Name())
	}
	if f.Enum() != nil {
		kind = string(f.Enum().Name())
	}
	if f.Cardinality() == protoreflect.Repeated {
		return "repeated " + kind
	}
	return kind
}
