package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/fit"
	"github.com/mistura-project/mistura/internal/plan/validate"
	"github.com/mistura-project/mistura/internal/published"
)

type planValidateFlags struct {
	asJSON bool
	anchor bool
	rows   bool
}

func newPlanValidate(env *Env) *cobra.Command {
	f := &planValidateFlags{}
	cmd := &cobra.Command{
		Use:   "validate [RUNS.csv]",
		Short: "Show how far predictions are off, on published runs",
		Long: `Predict published training runs from their layouts, and show how far the predictions
are off: the runs that the program carries, or those of a table with the same columns
(docs/planner.md). Whatever was measured, times of steps are compared, in seconds.

Runs that constants were fitted to are marked and summed up apart, and so are runs
with newer software. A run that cannot be compared has its reason.`,
		Example: `  mistura plan validate
  mistura plan validate mine.csv --rows
  mistura plan validate mine.csv --anchor-per-source --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("command line", strings.Join(args, " "), "takes one table of runs", "see "+cmd.CommandPath()+" --help")
			}
			return runPlanValidate(env, f, args)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.asJSON, "json", false, "write one JSON object on one line")
	flags.BoolVar(&f.anchor, "anchor-per-source", false, "let the first run of each source and chip that nothing was fitted to set a factor for the others; it is not scored")
	flags.BoolVar(&f.rows, "rows", false, "show each run, not the sums only")
	return cmd
}

func runPlanValidate(env *Env, f *planValidateFlags, args []string) error {
	runs, name := published.Builtin(), "the built-in ones"
	if len(args) > 0 {
		data, err := readTable(args[0])
		if err != nil {
			return err
		}
		if runs, err = published.Parse(args[0], data); err != nil {
			return err
		}
		name = args[0]
	}
	chips, k := chip.Builtin(), plan.BuiltinConstants()
	var r validate.Result
	if err := env.await(func() error {
		r = validate.Of(validate.Question{Runs: runs, Chips: chips, Split: published.BuiltinSplit(chips), Predict: counting(env.Stderr, len(runs), time.Now, fit.Predictor(k)), Anchor: f.anchor})
		return nil
	}); err != nil {
		return err
	}
	if f.asJSON {
		return printJSON(env.Stdout, r)
	}
	return showValidation(env.Stdout, name, r, f.rows)
}

// counting says every few seconds how far predictions are: a table may be long.
func counting(out io.Writer, all int, now func() time.Time, predict validate.Predictor) validate.Predictor {
	const pause = 3 * time.Second
	n, said := 0, now()
	return func(c published.Case) (plan.Step, error) {
		if at := now(); at.Sub(said) >= pause {
			said = at
			fmt.Fprintf(out, "predicted %s of at most %s\n", grouped(int64(n)), plural(all, "run"))
		}
		n++
		return predict(c)
	}
}

// readTable reads a table of runs.
func readTable(file string) ([]byte, error) {
	data, err := readWritten(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage("RUNS.csv", file, "does not exist", "give a table of published runs, or none for the built-in ones")
	}
	if err != nil {
		return nil, usage("RUNS.csv", file, "cannot be read: "+reason(err), "give a readable file")
	}
	return data, nil
}
