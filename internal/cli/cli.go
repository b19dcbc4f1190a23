package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/serve"
)

// Env is what the command line has of the world.
type Env struct {
	Args    []string // Args[0] is how the program was called
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) string                                                // nil: os.Getenv
	Signals <-chan os.Signal                                                   // interrupts and terminations, one after the other
	Anew    func(args []string, variable string) error                         // becomes this program again, with other arguments and one more variable; nil: that cannot be done
	Train   func(ctx context.Context, o serve.Options) (ledger.Summary, error) // nil: serve.Train
}

// Main runs one command and gives the exit code.
func Main(env Env) int {
	if env.Train == nil {
		env.Train = serve.Train
	}
	if env.Getenv == nil {
		env.Getenv = os.Getenv
	}
	root := newRoot(&env)
	strictCompletion(root)
	root.SetArgs(env.Args[1:])
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	cmd, err := root.ExecuteContextC(context.Background())
	return env.conclude(cmd, err)
}

// newRoot declares the verbs.
func newRoot(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "mistura",
		Short: "Train one Mixture-of-Experts language model on unlike machines",
		Long: `Mistura trains one Mixture-of-Experts language model on islands of unequal speed
that never wait for each other.

Exit codes: 0 done, 1 failure, 2 bad input, 130 interrupted.`,
		Example:       "  mistura train\n  mistura sample --from runs/ling-nano-1 --prompt 'func '",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noVerb,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(flagFault)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 80 "))
	root.AddCommand(newTrain(env), newServe(env), newStatus(env), newToken(env), newSample(env), newImport(env), newExport(env), newJoin(env), newVersion(env), newBench(env), newChips(env), newModel(env), newPlan(env), newDebug(env))
	return root
}

// strictCompletion has the library make its verb completion now, and makes it refuse
// shells that it does not know in place of showing its help.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd("completion")
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = noVerb
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			c.Example = "  mistura completion bash > ~/.local/share/bash-completion/completions/mistura"
			for _, shell := range c.Commands() {
				shell.Example = "  mistura completion " + shell.Name()
			}
		}
	}
}

// noVerb refuses a word that is no verb, with the closest that is.
func noVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	next := "see " + cmd.CommandPath() + " --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		next = "did you mean " + near[0] + "?"
	}
	return usage("verb", args[0], "no such verb", next)
}

// errStopped: a second interrupt ended everything at once.
var errStopped = errors.New("stopped")
