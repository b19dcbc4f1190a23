package cli

import (
	"errors"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/runfile"
)

// flagFault turns what the flag library finds wrong into bad input.
func flagFault(cmd *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	help := "see " + cmd.CommandPath() + " --help"
	switch {
	case errors.As(err, &unknown):
		next := help
		if near := fault.Closest(unknown.GetSpecifiedName(), flagNames(cmd)); near != "" {
			next = "did you mean --" + near + "?"
		}
		return usage("--"+unknown.GetSpecifiedName(), "", "no such flag of "+cmd.CommandPath(), next)
	case errors.As(err, &missing):
		return usage("--"+missing.GetSpecifiedName(), "", "needs a value", help)
	case errors.As(err, &invalid):
		problem := invalid.Unwrap()
		next := help
		if in := (*fault.Input)(nil); errors.As(problem, &in) {
			return usage("--"+invalid.GetFlag().Name, invalid.GetValue(), in.Problem, in.Next)
		}
		return usage("--"+invalid.GetFlag().Name, invalid.GetValue(), "is not "+kindOf(invalid.GetFlag()), next)
	default:
		return usage("command line", "", oneLine(err.Error()), help)
	}
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// kindOf names the type of a flag's value for a user.
func kindOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "int", "uint64":
		return "a whole number in range"
	case "float64":
		return "a number"
	default:
		return "a " + f.Value.Type()
	}
}

// countFlag is a number of tokens: 400k, 2M, 1B.
type countFlag struct{ n runfile.Count }

func (f *countFlag) Set(s string) error {
	n, err := runfile.ParseCount(s)
	if err != nil || n == runfile.Auto {
		return usage("", s, "is not a number of tokens", "write 400k, 2M or 1B")
	}
	f.n = n
	return nil
}

func (f *countFlag) String() string {
	if f.n == 0 {
		return ""
	}
	return f.n.String()
}

func (f *countFlag) Type() string { return "tokens" }

// mostShown is the length of a line that somebody can still read.
const mostShown = 4000

// oneLine keeps a text of many lines on one, without what would steer a terminal: a
// file that somebody else made may have put it there. Of a text without end the middle
// goes; what to do about it stands at the end.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !unicode.IsSpace(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.Join(strings.Fields(s), " "))
	if len(s) <= mostShown {
		return s
	}
	return strings.ToValidUTF8(s[:mostShown*3/4], "") + " … " + strings.ToValidUTF8(s[len(s)-mostShown/4:], "")
}
