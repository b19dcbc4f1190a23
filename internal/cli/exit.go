package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/serve"
)

// Exit codes, as docs/cli.md promises them.
const (
	exitDone        = 0
	exitFailure     = 1
	exitInput       = 2   // the user can mend it: a flag, a file, a folder
	exitInterrupted = 130 // by a signal, after saving what could be saved
)

// exitCode is the one place where kinds of errors become exit codes.
func exitCode(err error) int {
	var input *fault.Input
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, serve.ErrInterrupted), errors.Is(err, errStopped), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &input):
		return exitInput
	default:
		return exitFailure
	}
}

// shown marks an error whose JSON form is on stdout already.
type shown struct{ error }

func (s shown) Unwrap() error { return s.error }

// conclude reports an error on one line and gives the exit code. With --json the
// error also stands on stdout, unless the verb has printed its object.
func (env *Env) conclude(cmd *cobra.Command, err error) int {
	code := exitCode(err)
	if err == nil {
		return code
	}
	text := oneLine(err.Error())
	if code == exitInterrupted && errors.Is(err, context.Canceled) {
		text = "interrupted" // where it happened to be is no fault
	}
	fmt.Fprintf(env.Stderr, "mistura: %s\n", text)
	if errors.As(err, &shown{}) || !env.wantsJSON(cmd) {
		return code
	}
	if err := printJSON(env.Stdout, struct {
		Error    string `json:"error"`
		ExitCode int    `json:"exit_code"`
	}{text, code}); err != nil {
		fmt.Fprintf(env.Stderr, "mistura: %v\n", err)
	}
	return code
}

// wantsJSON looks at the arguments too, for a bad flag before --json ends the parsing.
func (env *Env) wantsJSON(cmd *cobra.Command) bool {
	f := cmd.Flags().Lookup("json")
	return f != nil && (f.Value.String() == "true" || slices.Contains(env.Args, "--json"))
}

// printJSON writes one object on one line.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// usage is bad input on the command line.
func usage(where, value, problem, next string) error {
	return &fault.Input{Where: where, Value: value, Problem: problem, Next: next}
}
