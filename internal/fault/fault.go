package fault

import (
	"fmt"
	"strings"
)

// Input is bad input: where it stands, what was read, what is wrong with it and
// what to do next. Value may be empty when there is nothing to quote.
type Input struct {
	Where   string // flag, field with file and line, or path
	Value   string // the value as the user wrote it
	Problem string // what is wrong, without a full stop
	Next    string // what to do about it, without a full stop
	Err     error  // the cause, or nil
}

// Error is always a single line.
func (e *Input) Error() string {
	var b strings.Builder
	b.WriteString(e.Where)
	if e.Value != "" {
		fmt.Fprintf(&b, " %q", e.Value)
	}
	fmt.Fprintf(&b, ": %s", e.Problem)
	if e.Err != nil {
		fmt.Fprintf(&b, " (%v)", e.Err)
	}
	if e.Next != "" {
		fmt.Fprintf(&b, "; %s", e.Next)
	}
	return strings.ReplaceAll(b.String(), "\n", " ")
}

// Unwrap gives the cause.
func (e *Input) Unwrap() error { return e.Err }
