package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/machine"
)

type sampleFlags struct {
	from   string
	prompt string
	json   bool
	engine.SampleOptions
}

// sampled is the JSON object of sample.
type sampled struct {
	Prompt          string  `json:"prompt"`
	Text            string  `json:"text"` // without the prompt
	Tokens          int     `json:"tokens"`
	Ended           bool    `json:"ended"` // the model ended the document before --tokens
	Seconds         float64 `json:"seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	Seed            uint64  `json:"seed"`
	Checkpoint      string  `json:"checkpoint"`
	TrainedTokens   int64   `json:"trained_tokens"`
}

func newSample(env *Env) *cobra.Command {
	f := &sampleFlags{}
	cmd := &cobra.Command{
		Use:   "sample --from DIR",
		Short: "Let a trained model continue a text",
		Long: `Let a trained model continue a text, written as it comes.

DIR is the folder of a run, of which the newest whole checkpoint is taken, or of
one checkpoint. Every file of the checkpoint is compared with its digest first.
The text ends with --tokens or where the model ends the document. An empty prompt
stands for a line break. Equal seeds give equal texts.`,
		Example: `  mistura sample --from runs/ling-nano-1 --prompt 'func '
  mistura sample --from runs/ling-nano-1/checkpoints/00000004 --prompt 'package ' --tokens 500 --temperature 0`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return runSample(env, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "run or checkpoint folder `DIR`")
	flags.StringVar(&f.prompt, "prompt", "", "`TEXT` to continue")
	flags.IntVar(&f.Tokens, "tokens", 200, "write at most `N` tokens")
	flags.Float64Var(&f.Temperature, "temperature", 0.8, "`T` above 1 for more surprise, below for less; 0 for the likeliest text")
	flags.Float64Var(&f.TopP, "top-p", 0.95, "draw from the likeliest tokens that reach probability `P` together")
	flags.Uint64Var(&f.Seed, "seed", 1, "`N` that the draws come from")
	flags.BoolVar(&f.json, "json", false, "write one JSON object on one line in place of the text")
	return cmd
}

func runSample(env *Env, f *sampleFlags) error {
	if f.from == "" {
		return usage("--from", "", "is missing", "give the folder of a run or of a checkpoint")
	}
	if err := f.Validate(); err != nil {
		return asFlag(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer env.onSignals(cancel)()
	m, err := openModel(ctx, env, f.from)
	if err != nil {
		return err
	}
	defer m.engine.Close()
	return m.sample(ctx, env.Stdout, f)
}

// asFlag names the flag where the engine names its option.
func asFlag(err error) error {
	in := (*fault.Input)(nil)
	if !errors.As(err, &in) {
		return err
	}
	flag := *in
	flag.Where = map[string]string{"tokens": "--tokens", "temperature": "--temperature", "top_p": "--top-p"}[in.Where]
	return &flag
}

// newEngine is the engine on all cores of this machine.
func newEngine(m checkpointMeta) (*engine.Engine, error) {
	set, err := kernel.FromEnvironment()
	if err != nil {
		return nil, err
	}
	return engine.New(m.Model, engine.Options{Threads: machine.CPUs(), Kernel: set})
}

// sample writes a text, or with --json the object that holds it.
func (m *openedModel) sample(ctx context.Context, w io.Writer, f *sampleFlags) error {
	text := &textWriter{w: w}
	if f.json {
		text.w = io.Discard
	} else if _, err := io.WriteString(w, f.prompt); err != nil {
		return fmt.Errorf("writing the text: %w", err)
	}
	result := sampled{Prompt: f.prompt, Seed: f.Seed, Checkpoint: m.path, TrainedTokens: m.meta.Tokens}
	o := f.SampleOptions
	o.Context = contextOf(m.meta)
	began := time.Now()
	err := m.engine.Generate(ctx, promptTokens(f.prompt), o, func(token int32) error {
		result.Tokens++
		if token >= corpus.EndOfDocument {
			result.Ended = true
			return errEnded
		}
		return text.put(byte(token))
	})
	if errors.Is(err, errEnded) {
		err = nil
	}
	if err = errors.Join(err, text.flush()); err != nil {
		return fmt.Errorf("sampling: %w", err)
	}
	result.Seconds = time.Since(began).Seconds()
	result.TokensPerSecond = float64(result.Tokens) / max(result.Seconds, 1e-9)
	result.Text = text.all.String()
	if f.json {
		return printJSON(w, result)
	}
	_, err = io.WriteString(w, "\n")
	return err
}

// mostContext bounds the keys and values that are held, whatever a config.json says of
// the longest text.
const mostContext = 1 << 16

// contextOf is how many tokens one is drawn from.
func contextOf(m checkpointMeta) int {
	if m.SampleTokens < 1 {
		return mostContext // not known
	}
	return min(m.SampleTokens, mostContext)
}

// errEnded: the model has ended the document.
var errEnded = errors.New("the document ended")

// promptTokens are the bytes of the prompt; an empty one is a line break. It cannot be
// the end of the document before: with document boundaries no model learns what
// follows on that.
func promptTokens(prompt string) []int32 {
	if prompt == "" {
		return []int32{'\n'}
	}
	tokens := make([]int32, len(prompt))
	for i := range len(prompt) {
		tokens[i] = int32(prompt[i])
	}
	return tokens
}
