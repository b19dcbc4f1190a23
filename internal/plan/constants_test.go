package plan

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

func TestConstantsThatCannotBeRead(t *testing.T) {
	const head = "mistura constants,1,2026-11-29\nname,value,rows\n"
	for text, want := range map[string]string{
		"":                                "is no file of constants",
		"mistura constants,2,2026\na,b,c": "is no file of constants of format 1",
		"mistura constants,1,now\na,b,c":  `k "now": is no day`,
		head + "keys,1":                   `k:3 "keys,1": has 2 cells`,
		head + "keys,-1,0":                "has no value",
		head + "keys,NaN,0":               "has no value",
		head + "keys,1,-1":                "has no number of rows",
		head + "a b,1,1":                  "has no name",
		head + "keys,1,0\nkeys,2,0":       `k:4 "keys,2,0": is there twice`,
	} {
		_, err := ParseConstants("k", []byte(text))
		var in *fault.Input
		if !errors.As(err, &in) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q", text, err, want)
		}
	}
}

// What is read is written, and read again as it was written.
func FuzzConstants(f *testing.F) {
	f.Add(builtinConstants)
	f.Add(builtinMemory)
	f.Add([]byte("mistura constants,1,2026-01-02\nname,value,rows\nx.y,0.12345678,3\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ParseConstants("k", data)
		if err != nil {
			return
		}
		once := k.Marshal()
		again, err := ParseConstants("k", once)
		if err != nil || !bytes.Equal(again.Marshal(), once) {
			t.Fatalf("%v\n%s", err, once)
		}
	})
}
