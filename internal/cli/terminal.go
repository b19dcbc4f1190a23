package cli

import (
	"io"
	"os"

	"golang.org/x/term"

	"github.com/mistura-project/mistura/internal/dash"
)

// Environment variables that the command line reads; docs/cli.md lists them.
const (
	noColorVariable = "NO_COLOR" // any value: no colours
	termVariable    = "TERM"     // dumb: plain lines
)

// screen says what a dashboard may expect of w.
func (env *Env) screen(w io.Writer) dash.Options {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || env.Getenv(termVariable) == "dumb" {
		return dash.Options{}
	}
	return dash.Options{
		Live:  true,
		Color: env.Getenv(noColorVariable) == "",
		Size: func() (columns, rows int) {
			columns, rows, err := term.GetSize(int(file.Fd()))
			if err != nil {
				return 0, 0
			}
			return columns, rows
		},
	}
}
