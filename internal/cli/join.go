package cli

import (
	"bufio"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/wire"
)

// fromStdin in place of a join string: it is the first line of stdin, where others
// cannot read its secret, and the end of stdin is the death of the parent.
const fromStdin = "-"

// maxJoinBytes bounds a join string.
const maxJoinBytes = 4096

func newJoin(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "join JOINSTRING",
		Short: "Join a run as one of its islands",
		Long: `Join a run as one of its islands and train until the run is done.

JOINSTRING says where the run is and who may enter; "-" reads it from the first
line of stdin and leaves when stdin ends, which is how "mistura train" starts
islands. The first interrupt finishes the step, hands over what was trained and
leaves; a second one stops at once.`,
		Example: "  mistura join 'mistura://10.0.0.5:7070/4f1d?era=1&island=rack2&secret=…'",
		Args:    oneArg("JOINSTRING"),
		RunE: func(_ *cobra.Command, args []string) error {
			return runJoin(env, args[0])
		},
	}
}

func runJoin(env *Env, text string) error {
	o := island.Options{Version: buildOf().Version, Logger: slog.New(slog.NewTextHandler(env.Stderr, nil))}
	if text == fromStdin {
		stdin := bufio.NewReaderSize(env.Stdin, maxJoinBytes)
		line, err := stdin.ReadSlice('\n')
		if err != nil {
			return usage("join string", "", "did not come on stdin", "give it as the argument, or as the first line of stdin")
		}
		text, o.ParentStdin = strings.TrimSpace(string(line)), stdin
	}
	var err error
	env.keepHeapSmall()
	if o.Join, err = wire.ParseJoin(text); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	leave := make(chan struct{})
	o.Leave = leave
	var stopped atomic.Bool
	stop := env.onSignals(func() { close(leave) }, func() {
		stopped.Store(true)
		cancel()
	})
	defer stop()
	err = island.Run(ctx, o)
	if stopped.Load() && err != nil {
		return errStopped
	}
	return err
}

// oneArg demands one argument and names it.
func oneArg(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		problem := "is missing"
		if len(args) > 1 {
			problem = "must be one argument"
		}
		return usage(name, "", problem, "see "+cmd.CommandPath()+" --help")
	}
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage("command line", args[0], "is not expected", "see "+cmd.CommandPath()+" --help")
}
