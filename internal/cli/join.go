package cli

import (
	"bufio"
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

// fromStdin in place of a join string: it is the first line of stdin, where others
// cannot read its secret, and the end of stdin is the death of the parent.
const fromStdin = "-"

// maxJoinBytes bounds a join string.
const maxJoinBytes = 4096

func newJoin(env *Env) *cobra.Command {
	var engine, socket, name string
	noGate := false
	torch := &torchFlags{}
	cmd := &cobra.Command{
		Use:   "join JOINSTRING [-- COMMAND [ARG]...]",
		Short: "Join a run as one of its islands",
		Long: `Join a run as one of its islands and train until the run is done.

JOINSTRING says where the run is and who may enter; "-" reads it from the first
line of stdin and leaves when stdin ends, which is how "mistura train" starts
islands. With --engine external a program of yours trains: the command behind "--",
which finds the socket in MISTURA_SOCKET, or whatever opens the socket that is
printed (Python: mistura.join). With --engine torch that program is the reference
learner, on any device that PyTorch reaches. The first interrupt finishes the step, hands over what was trained and
leaves; a second one stops at once.`,
		Example: `  mistura join 'mistura://10.0.0.5:7070/4f1d?era=1&island=rack2&secret=…'
  mistura join - --engine torch --device npu --precision bf16 --ranks 8 < join.txt
  mistura join - --engine external -- torchrun --nproc-per-node 8 train.py`,
		Args: joinArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			torch.NoGate = noGate
			train, err := trainerOf(engine, args[1:], torch, args[0] == fromStdin)
			if err != nil {
				return err
			}
			return runJoin(env, args[0], name, func(ctx context.Context, o island.Options) error {
				o.NoGate = noGate
				if engine == runfile.Native {
					return island.Run(ctx, o)
				}
				return runExternal(ctx, env, o, socket, train)
			})
		},
	}
	cmd.Flags().StringVar(&engine, "engine", runfile.Native, "what trains: native, torch (the reference learner in PyTorch), or external for a program of yours")
	torch.add(cmd)
	cmd.Flags().StringVar(&socket, "socket", "", "path of the socket for --engine external; a temporary one if left out")
	cmd.Flags().BoolVar(&noGate, "no-gate", false, "do not show at the gate that this island computes the run's model; that it was skipped is recorded")
	cmd.Flags().StringVar(&name, "name", "", "of the island, if the join string has none")
	return cmd
}

// joinArgs demands a join string; behind "--" there may be a command.
func joinArgs(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		args = args[:dash]
	}
	return oneArg("JOINSTRING")(cmd, args)
}

// runJoin reads the join string and has run train until the run is done.
func runJoin(env *Env, text, name string, run func(context.Context, island.Options) error) error {
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
	o.Join.Island = cmp.Or(o.Join.Island, name)
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
	err = run(ctx, o)
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
