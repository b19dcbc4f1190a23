package cli

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/huggingface"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
)

// usualSequence is what a token's work is counted at when nobody says.
const usualSequence = 4096

type modelFlags struct {
	sequence int
	full     bool
	layout   anatomy.Layout
	dp       int
	formats  string
	explain  bool
	json     bool

	chips, batch, microBatch int // of a step

	given func(flag string) bool
}

func newModel(env *Env) *cobra.Command {
	f := &modelFlags{}
	cmd := &cobra.Command{
		Use:   "model FILE",
		Short: "Count what a model takes",
		Long: `Count what a model takes: parameters, work, training state, activations, and what
chips that share it send each other.

FILE is a preset, a run file, or a Hugging Face config.json or its folder. Only
sizes count, so models are counted that the native engine does not train. Nothing
is measured; the conventions are in docs/planner.md.`,
		Example: `  mistura model ling-plus
  mistura model downloads/DeepSeek-V3 --ep 64 --pp 16 --explain
  mistura model config.json --tp 8 --sequence 8192 --json
  mistura model ling-plus --chips 512 --tp 4 --pp 2 --ep 16 --batch 1024`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("command line", "", "needs one model", "give a preset ("+strings.Join(model.PresetNames(), ", ")+"), a run file or a config.json")
			}
			return nil
		},
		ValidArgs: model.PresetNames(),
		RunE:      func(_ *cobra.Command, args []string) error { return runModel(env, args[0], f) },
	}
	flags := cmd.Flags()
	f.given = flags.Changed
	flags.IntVar(&f.sequence, "sequence", 0, "`N` tokens of a sequence (default 4096, or the run file's, or as many as the model has positions)")
	flags.BoolVar(&f.full, "full-attention", false, "count attention over all pairs, as many published figures do")
	flags.IntVar(&f.layout.TP, "tp", 1, "`N` tensor-parallel ranks")
	flags.IntVar(&f.layout.EP, "ep", 1, "`N` expert-parallel ranks")
	flags.IntVar(&f.layout.ETP, "etp", 1, "`N` tensor-parallel ranks of an expert")
	flags.IntVar(&f.layout.PP, "pp", 1, "`N` pipeline stages")
	flags.IntVar(&f.dp, "dp", 0, "`N` data-parallel ranks (default as few as the experts need)")
	flags.IntVar(&f.chips, "chips", 0, "`N` chips that share the model: dp follows")
	flags.IntVar(&f.batch, "batch", 0, "`N` sequences of a step, to see how it is cut")
	flags.IntVar(&f.microBatch, "micro-batch", 1, "`N` sequences of a micro-batch and rank")
	flags.BoolVar(&f.layout.KVCopies, "kv-copies", false, "allow copies of key/value heads where tp is above their number")
	flags.StringVar(&f.formats, "formats", "mixed", "of training state, `NAME`: "+strings.Join(anatomy.FormatNames(), ", "))
	flags.BoolVar(&f.explain, "explain", false, "show each formula")
	flags.BoolVar(&f.json, "json", false, "write one JSON object on one line in place of the text")
	complete(cmd, "formats", anatomy.FormatNames())
	return cmd
}

// asked is a model, and what there is to say about how it was read.
type asked struct {
	decoder  anatomy.Decoder
	sequence int // 0: not said
	unread   []string

	run    *runfile.Run // of a model that our engine trains; nil: it is only counted
	tokens int64        // of a run file; 0: not said
	batch  int          // sequences of a step of all its islands; 0: not said
}

func runModel(env *Env, file string, f *modelFlags) error {
	m, err := readModel(file)
	if err != nil {
		return err
	}
	q, err := f.question(m)
	if err != nil {
		return err
	}
	step, err := f.step(m, &q)
	if err != nil {
		return degreeAsFlag(err)
	}
	account, err := q.For(m.decoder)
	if err != nil {
		return degreeAsFlag(err)
	}
	if f.json {
		return printJSON(env.Stdout, struct {
			anatomy.Account
			Unread []string   `json:"fields_not_read"`
			Step   *modelStep `json:"step,omitempty"`
		}{account, append([]string{}, m.unread...), step})
	}
	return showModel(env.Stdout, m, account, step, f.explain)
}

// question checks the flags.
func (f *modelFlags) question(m asked) (anatomy.Question, error) {
	q := anatomy.Question{Full: f.full, Layout: f.layout, DP: f.dp}
	var err error
	if q.Sequence, err = m.length(f.sequence, f.given("sequence")); err != nil {
		return q, err
	}
	if f.dp < 1 && f.given("dp") {
		return q, usage("--dp", strconv.Itoa(f.dp), "is no number of ranks", "use 1 or more")
	}
	var ok bool
	if q.Formats, ok = anatomy.FormatsNamed(f.formats); !ok {
		return q, usage("--formats", f.formats, "is not known", "choose one of "+strings.Join(anatomy.FormatNames(), ", "))
	}
	return q, nil
}

// length is the tokens of a sequence: what --sequence says, if it is given.
func (m asked) length(said int, given bool) (int, error) {
	most := cmp.Or(m.decoder.Positions, 1<<26) // what is learned for a position ends there
	if !given {
		said = cmp.Or(m.sequence, min(usualSequence, most))
	}
	if said < 1 || said > most {
		return 0, usage("--sequence", strconv.Itoa(said), "is out of range", "use 1 to "+strconv.Itoa(most))
	}
	return said, nil
}

// degreeAsFlag names the flag for a degree that does not fit the model.
func degreeAsFlag(err error) error {
	var in *fault.Input
	if !errors.As(err, &in) || !slices.Contains([]string{"tp", "ep", "etp", "pp", "dp", "chips", "batch", "micro_batch"}, in.Where) {
		return err
	}
	return usage("--"+strings.ReplaceAll(in.Where, "_", "-"), in.Value, in.Problem, in.Next)
}

// readModel reads a preset, a config.json or its folder, or a run file.
func readModel(file string) (asked, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c, err := model.Preset(file)
		if err != nil {
			return asked{}, usage("model", file, "is no file and no preset", "give a run file, a config.json, or one of "+strings.Join(model.PresetNames(), ", "))
		}
		r, err := runfile.Default().WithModel(file)
		return asked{decoder: anatomy.Of(c), run: &r}, err
	case err != nil:
		return asked{}, usage("model", file, "cannot be read: "+reason(err), "give a readable file")
	case info.IsDir() || filepath.Ext(file) == ".json":
		p, err := huggingface.ReadPlan(file)
		if name, ok := strings.CutSuffix(filepath.Base(file), ".json"); ok && name != "config" {
			p.Decoder.Name = name // not that of the folder, which holds other models too
		}
		return asked{decoder: p.Decoder, unread: p.Unread}, err
	}
	return readRunModel(file)
}

func readRunModel(file string) (asked, error) {
	data, err := readFlag("model", file)
	if err != nil {
		return asked{}, err
	}
	r, err := runfile.Parse(file, data)
	if err != nil {
		return asked{}, err
	}
	said := r
	if r, err = r.Resolve(); err != nil {
		return asked{}, err
	}
	if len(r.Model.Tensors) > 0 {
		return asked{}, usage(file, "model.tensors", "lists tensors, which do not say what is computed", "give the model's config.json")
	}
	m := asked{decoder: anatomy.Of(r.Model.Config), run: &said, tokens: int64(r.Tokens)}
	if !r.Data.Own { // of own data a sample is one token, which is no sequence
		m.sequence, m.batch = r.Train.SequenceTokens, int(r.StepSamples())*max(1, len(r.Islands))
	}
	return m, nil
}
