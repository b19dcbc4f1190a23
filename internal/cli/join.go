package cli

import (
	"bufio"
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

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

// maxJoinFileBytes bounds a file that holds one.
const maxJoinFileBytes = 64 << 10

// Where a join string may come from beside the command line.
const (
	joinVariable     = "MISTURA_JOIN"
	joinFileVariable = "MISTURA_JOIN_FILE"
)

// joinFlags are the flags of join.
type joinFlags struct {
	engine, socket, name, file, data string
	noGate                           bool
	again                            time.Duration
}

func newJoin(env *Env) *cobra.Command {
	f, torch := &joinFlags{}, &torchFlags{}
	cmd := &cobra.Command{
		Use:   "join [JOINSTRING] [-- COMMAND [ARG]...]",
		Short: "Join a run as one of its islands",
		Long: `Join a run as one of its islands and train until the run is done.

The join string says where the run is and who may enter. It is read from
MISTURA_JOIN, from --join-file or the file that MISTURA_JOIN_FILE names, or, with "-",
from the first line of stdin, whose end then ends the island: that is how "mistura
train" starts islands. One that is given as argument is moved to the environment
before anything else happens, because others on the host can read command lines.

With --engine external a program of yours trains: the command behind "--", which
finds the socket in MISTURA_SOCKET, or whatever opens the socket that is printed
(Python: mistura.join). With --engine torch that program is the reference learner, on
any device that PyTorch reaches. The first interrupt finishes the step, hands over
what was trained and leaves; a second one stops at once.`,
		Example: `  MISTURA_JOIN='mistura://10.0.0.5:7070/4f1d?authority=…&token=…' mistura join
  mistura join --join-file rack2.join --engine torch --device npu --precision bf16 --ranks 8
  mistura join - --engine external -- torchrun --nproc-per-node 8 train.py`,
		RunE: func(cmd *cobra.Command, args []string) error {
			given, command, err := splitJoin(cmd, args)
			if err != nil {
				return err
			}
			torch.NoGate = f.noGate
			text, err := f.text(env, given)
			if err != nil {
				return err
			}
			train, err := trainerOf(f.engine, command, torch, given == fromStdin, env.logger())
			if err != nil {
				return err
			}
			return runJoin(env, text, f, func(ctx context.Context, o island.Options) error {
				if f.engine == runfile.Native {
					return island.Run(ctx, o)
				}
				return runExternal(ctx, env, o, f.socket, train)
			})
		},
	}
	torch.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.engine, "engine", runfile.Native, "what trains: native, torch (the reference learner in PyTorch), or external for a program of yours")
	flags.StringVar(&f.socket, "socket", "", "path of the socket for --engine external; a temporary one if left out")
	flags.BoolVar(&f.noGate, "no-gate", false, "do not show at the gate that this island computes the run's model; that it was skipped is recorded")
	flags.DurationVar(&f.again, "again", 0, "the run was there a moment ago: one that does not answer is waited for so long")
	flags.MarkHidden("again") //nolint:errcheck // it is there
	flags.StringVar(&f.name, "name", "", "of the island, if the join string has none")
	flags.StringVar(&f.file, "join-file", "", joinFileUsage)
	flags.StringVar(&f.data, "data", "", "folder `DIR` of the run's tokens on this host (default fetched from the coordinator, once)")
	complete(cmd, "engine", runfile.Engines())
	return cmd
}

// splitJoin divides the arguments at "--" into at most one join string and a command.
func splitJoin(cmd *cobra.Command, args []string) (given string, command []string, err error) {
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		args, command = args[:dash], args[dash:]
	}
	switch len(args) {
	case 0:
		return "", command, nil
	case 1:
		return args[0], command, nil
	}
	return "", nil, usage("JOINSTRING", "", "must be one argument", "see "+cmd.CommandPath()+" --help")
}

// text is the join string, or "-". One on the command line leaves it: this program
// starts anew with the string in its environment.
func (f *joinFlags) text(env *Env, given string) (string, error) {
	variable := env.Getenv(joinVariable)
	switch {
	case given == fromStdin:
		return given, nil
	case given != "" && f.file != "":
		return "", usage("--join-file", f.file, "goes with no join string", "leave one of them out")
	case given != "":
		if j, err := wire.ParseJoin(given); err == nil && env.Anew != nil && (j.Secret != "" || j.Token != "") {
			return "", env.Anew(slices.DeleteFunc(slices.Clone(env.Args), func(a string) bool { return a == given }), joinVariable+"="+given)
		}
		return given, nil
	case f.file != "":
		return readJoin("--join-file", f.file)
	case variable != "":
		return strings.TrimSpace(variable), nil
	case env.Getenv(joinFileVariable) != "":
		return readJoin(joinFileVariable, env.Getenv(joinFileVariable))
	}
	return "", usage("JOINSTRING", "", "is missing", "set "+joinVariable+" or "+joinFileVariable+", give --join-file FILE, or \"-\" to read it from stdin")
}

// joinFileUsage describes the flag that names such a file.
const joinFileUsage = "`FILE` that holds the join string; empty lines and those that begin with # do not count"

// readJoin is the join string in a file: its first line that is neither empty nor a
// comment. The Python package reads it the same way.
func readJoin(where, path string) (string, error) {
	if strings.HasPrefix(path, "mistura:") {
		return "", usage(where, "", "is a join string and not the name of a file", "write it to a file and name that, or set "+joinVariable)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", usage(where, path, "cannot be read: "+reason(err), "give the file that holds the join string")
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxJoinFileBytes))
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			return line, nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", usage(where, path, "cannot be read: "+reason(err), "give the file that holds the join string")
	}
	return "", usage(where, path, "holds no join string", "put the one that serve or token printed on a line of its own")
}

// logger is what a verb that goes on for long says of itself.
func (env *Env) logger() *slog.Logger { return slog.New(slog.NewTextHandler(env.Stderr, nil)) }

// runJoin reads the join string and has run train until the run is done.
func runJoin(env *Env, text string, f *joinFlags, run func(context.Context, island.Options) error) error {
	o := island.Options{Version: buildOf().Version, Logger: env.logger(), NoGate: f.noGate, Patience: f.again, Data: f.data}
	if text == fromStdin {
		stdin := bufio.NewReaderSize(env.Stdin, maxJoinBytes)
		line, err := stdin.ReadSlice('\n')
		if err != nil {
			return usage("join string", "", "did not come on stdin", "give it as the argument, or as the first line of stdin")
		}
		text, o.ParentStdin = strings.TrimSpace(string(line)), untilEnd(stdin)
	}
	var err error
	env.keepHeapSmall()
	if o.Join, err = wire.ParseJoin(text); err != nil {
		return err
	}
	o.Join.Island = cmp.Or(o.Join.Island, f.name)
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

// ended is a reader of nothing that ends when something else has; any number may read it.
type ended <-chan struct{}

func (e ended) Read([]byte) (int, error) {
	<-e
	return 0, io.EOF
}

// untilEnd reads r to its end and keeps nothing.
func untilEnd(r io.Reader) io.Reader {
	over := make(chan struct{})
	go func() { // ends with the process at the latest: a read of stdin cannot be cancelled
		defer close(over)
		io.Copy(io.Discard, r) //nolint:errcheck // any end is the end
	}()
	return ended(over)
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
