package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/dash"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// trainFlags are the flags of train; docs/formats/run.md names their counterparts.
type trainFlags struct {
	data    []string
	tokens  countFlag
	model   string
	from    string
	islands islandsFlag
	out     string
	seed    uint64
	json    bool
	resume  string
	listen  string
}

func newTrain(env *Env) *cobra.Command {
	f, l := &trainFlags{}, &limitFlags{}
	cmd := &cobra.Command{
		Use:   "train [RUN.yaml]",
		Short: "Train a model on this machine",
		Long: `Train a model on islands of this machine, each a process of its own.

Without a run file it is the built-in run: a small model on the Go source tree,
two islands of which the second is paced to half the speed of the first. Flags
win over the run file; docs/formats/run.md describes every key.

With --listen islands of other hosts join beside those of this machine, by the
join string that is printed (docs/serve.md).

Ctrl-C finishes the current step, saves and says how to go on; a second Ctrl-C
stops at once.`,
		Example: `  mistura train
  mistura train run.yaml --tokens 2M
  mistura train --data notes.jsonl --data books/ --islands 3
  mistura train --from runs/ling-nano-1 --data notes.jsonl
  mistura train --resume runs/ling-nano-1
  mistura train --resume runs/ling-nano-1 other-islands.yaml
  mistura train run.yaml --listen 10.0.0.5:7070`,
		ValidArgsFunction: cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE: func(cmd *cobra.Command, args []string) error {
			limits, err := l.token("token-", time.Now())
			if err != nil {
				return err
			}
			return runTrain(env, cmd, args, f, &serve.Options{Listen: f.listen, Limits: limits})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.listen, "listen", "", "`HOST:PORT` by which islands of other hosts may join, too (default they may not)")
	l.add(cmd, "token-")
	return cmd
}

// add declares what train and serve have in common.
func (f *trainFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.data, "data", nil, "text `PATH` to train on: file, folder or JSON Lines with a \"text\" field; may be repeated (default the Go source tree)")
	flags.Var(&f.tokens, "tokens", "`N` tokens to train in all, such as 400k, 2M, 1B")
	flags.StringVar(&f.model, "model", "", "preset `NAME` of the model, or the path of a Hugging Face config.json")
	flags.StringVar(&f.from, "from", "", "take the model and its first weights from a run or checkpoint folder `DIR`")
	flags.Var(&f.islands, "islands", "`N` islands, or the pace of each, such as 1,0.5")
	flags.StringVar(&f.out, "out", "", "run folder `DIR` (default the next free runs/NAME-N)")
	flags.Uint64Var(&f.seed, "seed", 1, "`N` that every random draw comes from")
	flags.BoolVar(&f.json, "json", false, "end stdout with one JSON object on one line; progress goes to stderr")
	flags.StringVar(&f.resume, "resume", "", "go on with the run in `DIR`; with it go --tokens, --json, and other islands: --islands or a RUN.yaml of nothing else")
	complete(cmd, "model", model.PresetNames())
}

// complete offers fixed values for a flag.
func complete(cmd *cobra.Command, flag string, values []string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("cli: " + err.Error())
	}
}

// runTrain begins a run or goes on with one: train and serve differ in o only.
func runTrain(env *Env, cmd *cobra.Command, args []string, f *trainFlags, o *serve.Options) error {
	env.keepHeapSmall()
	var err error
	if o.Resume = cmd.Flags().Changed("resume"); o.Resume {
		o.Run, err = resumedRun(cmd, args, f, o)
	} else {
		o.Run, err = newRun(env, cmd, args, f, o)
	}
	if err != nil {
		return err
	}
	if len(o.Run.Islands) == 0 && !o.Outside {
		return usage(o.Run.Where("islands"), "", "are none, so that nobody trains", "list some, or let them join: "+env.self()+" serve")
	}
	if err := serve.CheckMemory(*o); err != nil {
		return err
	}
	if o.Resume {
		o.Dir = f.resume
		return env.train(*o, f.json)
	}
	dir, undo, err := claim(o.Run)
	if err != nil {
		return err
	}
	o.Dir = dir
	if err = env.train(*o, f.json); err != nil {
		undo() // only if no run has begun
	}
	return err
}

// train runs until the end or an interrupt, shows it, and reports.
func (env *Env) train(o serve.Options, asJSON bool) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the program that islands run: %w", err)
	}
	o.StartIsland = []string{exe, "join", fromStdin}
	out := env.Stdout
	if asJSON {
		out = env.Stderr
	}
	d := dash.New(out, env.screen(out))
	var sum ledger.Summary
	err = env.watch(d, func(ctx context.Context, interrupt <-chan struct{}) error {
		var err error
		o.Emit, o.Interrupt = d.Show, interrupt
		o.Logger = slog.New(slog.NewTextHandler(d, &slog.HandlerOptions{Level: slog.LevelWarn}))
		sum, err = env.Train(ctx, o)
		return err
	})
	if o.Resume && errors.Is(err, store.ErrNoCheckpoint) {
		if in := (*fault.Input)(nil); errors.As(err, &in) {
			err = in.Err // where and what next are said here
		}
		return &fault.Input{Where: "--resume", Value: o.Dir, Problem: "there is nothing to go on from", Next: "begin the run anew by " + env.again(o), Err: err}
	}
	if sum.RunID == "" {
		return err
	}
	return env.report(out, env.next(o, sum), asJSON, err)
}

// again is the command that runs a run once more from its beginning.
func (env *Env) again(o serve.Options) string {
	return fmt.Sprintf("%s %s %s%s", env.self(), verbOf(o), shellQuote(filepath.Join(o.Dir, runFileName)), listening(o))
}

// listening is the flag by which join strings keep their address; empty: the verb's default.
func listening(o serve.Options) string {
	if o.Listen == "" || o.Outside && o.Listen == defaultListen {
		return ""
	}
	return " --listen " + shellQuote(o.Listen)
}

// verbOf is the verb of a run.
func verbOf(o serve.Options) string {
	if o.Outside {
		return "serve"
	}
	return "train"
}

// watch calls work while it relays signals and the time: the first signal closes
// interrupt, the second ends ctx.
func (env *Env) watch(d *dash.Dash, work func(ctx context.Context, interrupt <-chan struct{}) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	interrupt := make(chan struct{})
	var stopped atomic.Bool
	stopListening := env.onSignals(
		func() {
			d.Show(ledger.Note{At: time.Now(), Text: "interrupted: finishing the step and saving; once more stops at once"})
			close(interrupt)
		},
		func() {
			stopped.Store(true)
			cancel()
		})
	ticking, stopTicking := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { tick(ticking, d) })
	err := work(ctx, interrupt)
	stopTicking()
	wg.Wait()
	stopListening()
	d.Close()
	if stopped.Load() && err != nil {
		return errStopped
	}
	return err
}

// tickEvery keeps speeds and times true while nothing happens.
const tickEvery = 500 * time.Millisecond

func tick(ctx context.Context, d *dash.Dash) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			d.Tick(now)
		case <-ctx.Done():
			return
		}
	}
}

// next is the report with the commands for what comes next.
func (env *Env) next(o serve.Options, sum ledger.Summary) dash.Report {
	r := dash.Report{Summary: sum}
	if !o.Run.Model.Foreign() {
		r.Sample = fmt.Sprintf("%s sample --from %s --prompt %s", env.self(), shellQuote(o.Dir), shellQuote(promptFor(o.Run)))
	}
	if sum.Checkpoint != nil || o.Resume {
		r.Resume = fmt.Sprintf("%s %s --resume %s", env.self(), verbOf(o), shellQuote(o.Dir))
		if !o.Outside { // serve knows it
			r.Resume += listening(o)
		}
	} else {
		r.Anew = env.again(o)
	}
	return r
}

// report closes a run that had begun: what came out and what to do next.
func (env *Env) report(out io.Writer, r dash.Report, asJSON bool, err error) error {
	fmt.Fprint(out, r)
	if !asJSON {
		return err
	}
	if printErr := printJSON(env.Stdout, r.Summary); printErr != nil {
		return errors.Join(err, fmt.Errorf("writing the summary: %w", printErr))
	}
	if err != nil {
		return shown{err}
	}
	return nil
}

// promptFor begins a text of the kind that was trained on.
func promptFor(run runfile.Run) string {
	if len(run.Data.Paths) == 0 {
		return "func "
	}
	return "The "
}
