package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/gauge"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
)

// benchTime is how long steps are measured where no number of tokens is given.
const benchTime = 10 * time.Second

func newBench(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure what this machine does",
		Long:    "Measure what this machine does with the parts of this program.",
		Example: "  mistura bench engine",
		Args:    noVerb,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchEngine(env))
	return cmd
}

// benchFlags are the flags of bench engine.
type benchFlags struct {
	model    string
	shape    string
	threads  int
	numeric  string
	batch    int
	sequence int
	tokens   countFlag
	json     bool
}

func newBenchEngine(env *Env) *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "Measure training steps of the native engine",
		Long: `Measure training steps of the native engine on random tokens, for about ten
seconds or for --tokens: tokens per second, what a step's time goes into, how near
it comes to this machine's own rate of large products, and its memory.

--shape takes a run file: its model section, sequence length and batch. One that
has a model section and nothing else will do.`,
		Example: `  mistura bench engine
  mistura bench engine --model ling-micro --threads 1 --json
  mistura bench engine --shape run.yaml --batch 8`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBenchEngine(env, cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.model, "model", runfile.DefaultPreset, "preset `NAME` of the model, or the path of a Hugging Face config.json")
	flags.StringVar(&f.shape, "shape", "", "take model, sequence length and batch from the run file `FILE`")
	flags.IntVar(&f.threads, "threads", 0, "`N` workers (default all cores)")
	flags.StringVar(&f.numeric, "numeric", "", "emulate the arithmetic of the format or chip `NAME`, as islands[].numeric of a run file")
	flags.IntVar(&f.batch, "batch", 0, "`N` sequences of a step (default 4, or the run file's)")
	flags.IntVar(&f.sequence, "sequence", 0, "`N` tokens of a sequence (default 128, or the run file's)")
	flags.Var(&f.tokens, "tokens", "train `N` tokens, such as 20k (default as many as ten seconds take)")
	flags.BoolVar(&f.json, "json", false, "write one JSON object on one line; progress goes to stderr")
	complete(cmd, "model", model.PresetNames())
	var formats []string
	for _, p := range numeric.Profiles() {
		formats = append(formats, p.Name)
	}
	complete(cmd, "numeric", formats)
	return cmd
}

func runBenchEngine(env *Env, cmd *cobra.Command, f *benchFlags) error {
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	need := gauge.Predict(o)
	if err := fitsMemory(f.shapeFlag(), o.Model.Name, need); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer env.onSignals(cancel)()
	env.keepHeapSmall()
	out := env.Stdout
	if f.json {
		out = env.Stderr
	}
	fmt.Fprintf(out, "%s, %s parameters, batch %d x %d tokens, %d threads, kernels %s, %s of memory\n", o.Model.Name,
		ledger.Amount(float64(o.Model.Count().Total)), o.BatchSequences, o.SequenceTokens, o.Threads, o.Kernel.Name(), ledger.Bytes(need))
	o.Progress = func(p gauge.Progress) {
		fmt.Fprintf(out, "%4.0f s  %d steps  %.0f tokens/s\n", p.Seconds, p.Steps, p.TokensPerSecond)
	}
	r, err := gauge.Engine(ctx, o)
	if err != nil {
		return err
	}
	r.Version = buildOf().Version
	if f.json {
		return printJSON(env.Stdout, r)
	}
	return showBench(env.Stdout, r)
}

// shapeFlag is the flag that the model came by.
func (f *benchFlags) shapeFlag() string {
	if f.shape != "" {
		return "--shape"
	}
	return "--model"
}

// options are what file and flags ask for, checked.
func (f *benchFlags) options(cmd *cobra.Command) (gauge.Options, error) {
	if f.shape != "" && cmd.Flags().Changed("model") {
		return gauge.Options{}, usage("--model", f.model, "cannot go with --shape, which names the model", "give one of them")
	}
	run, err := f.run(cmd)
	if err != nil {
		return gauge.Options{}, err
	}
	set, err := kernel.FromEnvironment()
	if err != nil {
		return gauge.Options{}, err
	}
	threads := machine.CPUs()
	if cmd.Flags().Changed("threads") {
		threads = f.threads
	}
	if threads < 1 || threads > engine.MaxThreads {
		return gauge.Options{}, usage("--threads", fmt.Sprint(threads), "is out of range", fmt.Sprintf("use 1 to %d", engine.MaxThreads))
	}
	if cmd.Flags().Changed("tokens") && f.tokens.n < 1 {
		return gauge.Options{}, usage("--tokens", "0", "is nothing to train", "give at least 1, or leave it out for ten seconds")
	}
	profile, err := numeric.Find(f.numeric)
	if err != nil {
		return gauge.Options{}, fromFlag("--numeric", err)
	}
	t := run.Train
	return gauge.Options{
		Model: run.Model.Config, BatchSequences: t.BatchSequences, SequenceTokens: t.SequenceTokens, Threads: threads, Kernel: set, Numeric: profile,
		Optimizer: engine.AdamWConfig{Beta1: t.Beta1, Beta2: t.Beta2, Eps: t.Eps, WeightDecay: t.WeightDecay, ClipNorm: t.ClipNorm},
		Tokens:    int64(f.tokens.n), Duration: benchTime, Seed: run.Seed,
	}, nil
}

// fromFlag says of bad input which flag it came by.
func fromFlag(flag string, err error) error {
	if in := (*fault.Input)(nil); errors.As(err, &in) {
		return usage(flag, in.Value, in.Problem, in.Next)
	}
	return err
}

// run is the run file that --shape names, or the built-in one, under the other flags.
func (f *benchFlags) run(cmd *cobra.Command) (runfile.Run, error) {
	r := runfile.Default()
	var err error
	if f.shape != "" {
		r, err = readRun(f.shape)
	} else {
		r, err = withModel(r, f.model)
	}
	if err != nil {
		return r, err
	}
	if cmd.Flags().Changed("batch") {
		r = r.FromFlag("train.batch_sequences", "--batch")
		r.Train.BatchSequences = f.batch
	}
	if cmd.Flags().Changed("sequence") {
		r = r.FromFlag("train.sequence_tokens", "--sequence")
		r.Train.SequenceTokens = f.sequence
	}
	return r.Resolve()
}

// showBench writes the report for a reader.
func showBench(w io.Writer, r gauge.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\ntokens per second  %.0f\n", r.TokensPerSecond)
	fmt.Fprintf(&b, "model FLOPs        %.1f GFLOP/s, %.0f %% of this machine's large product (%.1f GFLOP/s)\n",
		r.GFLOPS, 100*r.ShareOfSGEMM, r.SGEMMGFLOPS)
	peak := "unknown"
	if r.PeakBytes != nil {
		peak = ledger.Bytes(*r.PeakBytes)
	}
	fmt.Fprintf(&b, "memory             %s at most, %s were announced\n", peak, ledger.Bytes(r.PredictedBytes))
	fmt.Fprintf(&b, "step               %.2f ms, mean of %d\n", 1000*r.StepSeconds["total"], r.Steps)
	for _, name := range gauge.PartNames() {
		if x := r.StepSeconds[name]; name != "total" && x > 0 {
			fmt.Fprintf(&b, "  %-18s %7.2f ms %5.1f %%\n", strings.ReplaceAll(name, "_", " "), 1000*x, 100*x/r.StepSeconds["total"])
		}
	}
	fmt.Fprintf(&b, "computed by        mistura %s, %s, %s, %s", r.Version, r.Go, r.Platform, r.Numeric)
	if r.Processor != "" {
		fmt.Fprintf(&b, ", %s", r.Processor)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}
