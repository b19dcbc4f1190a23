package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/huggingface"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

type exportFlags struct {
	format, from string
	json         bool
	shard        bytesFlag
	huggingface.Options
}

// exported is the JSON object of export.
type exported struct {
	Dir           string `json:"dir"`
	Checkpoint    string `json:"checkpoint"`
	TrainedTokens int64  `json:"trained_tokens"`
	huggingface.Written
}

// hfFormat is the one format that there is to export to.
const hfFormat = "hf"

func newExport(env *Env) *cobra.Command {
	f := &exportFlags{shard: bytesFlag{5_000_000_000}}
	cmd := &cobra.Command{
		Use:   "export --format hf --from DIR NEW_DIR",
		Short: "Write a model for the Hugging Face library",
		Long: `Write a trained model as a folder in the Hugging Face format: config.json and
safetensors files with the names and the layout of a family.

DIR is the folder of a run, of which the newest whole checkpoint is taken, or of
one checkpoint. The family is the one that the model was imported from, or else
the first that can express it. A model that the family cannot express is refused
by the setting. NEW_DIR appears whole or not at all;
docs/formats/huggingface.md describes what is in it.`,
		Example: `  mistura export --format hf --from runs/ling-nano-1 models/nano
  mistura export --format hf --from runs/ling-nano-1/checkpoints/00000004 --dtype bf16 models/nano-bf16`,
		Args: oneFolder("NEW_DIR", "give the new folder that the model goes to"),
		RunE: func(_ *cobra.Command, args []string) error { return runExport(env, args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "`FORMAT` to write: hf")
	flags.StringVar(&f.from, "from", "", "run or checkpoint folder `DIR`")
	flags.StringVar(&f.Dtype, "dtype", huggingface.FP32, "`FORMAT` of numbers: fp32 or bf16")
	flags.StringVar(&f.Family, "family", "", "`NAME` of the family: "+strings.Join(huggingface.Families(), ", "))
	flags.StringVar(&f.Layout, "experts", huggingface.Split, "`LAYOUT` of experts: split, three tensors for each, or grouped, two for all of a layer")
	flags.Var(&f.shard, "shard-size", "`SIZE` of a file of weights at most, such as 500MB or 5GB")
	flags.BoolVar(&f.json, "json", false, "write one JSON object on one line in place of the text")
	complete(cmd, "format", []string{hfFormat})
	complete(cmd, "dtype", []string{huggingface.FP32, huggingface.BF16})
	complete(cmd, "family", huggingface.Families())
	complete(cmd, "experts", []string{huggingface.Split, huggingface.Grouped})
	return cmd
}

func (f *exportFlags) check() error {
	switch {
	case f.format == "":
		return usage("--format", "", "is missing", "give --format "+hfFormat)
	case f.format != hfFormat:
		return usage("--format", f.format, "is no format that can be written", "give --format "+hfFormat)
	case f.from == "":
		return usage("--from", "", "is missing", "give the folder of a run or of a checkpoint")
	case f.Dtype != huggingface.FP32 && f.Dtype != huggingface.BF16:
		return usage("--dtype", f.Dtype, "is no number format that can be written", "choose fp32 or bf16")
	case f.Layout != huggingface.Split && f.Layout != huggingface.Grouped:
		return usage("--experts", f.Layout, "is no layout of experts", "choose split or grouped")
	}
	return nil
}

func runExport(env *Env, dir string, f *exportFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer env.onSignals(cancel)()
	c, meta, err := openCheckpoint(ctx, env, f.from)
	if err != nil {
		return err
	}
	tensors, err := c.Tensors(ctx, serve.ModelPart)
	if err != nil {
		return err
	}
	defer tensors.Close()
	f.ShardBytes = f.shard.n
	written, err := huggingface.Export(ctx, dir, exportedModel(meta, tensors), f.Options)
	if err != nil {
		return err
	}
	result := exported{Dir: dir, Checkpoint: c.Path(), TrainedTokens: meta.Tokens, Written: written}
	if f.json {
		return printJSON(env.Stdout, result)
	}
	return showExported(env.Stdout, result)
}

func exportedModel(meta checkpointMeta, tensors *store.TensorFile) huggingface.Model {
	m := huggingface.Model{Config: meta.Model, Origin: meta.Origin, Positions: meta.SampleTokens, EndToken: -1}
	if meta.Tokenizer == corpus.ByteTokenizer {
		m.EndToken = corpus.EndOfDocument
	}
	m.Weights = func(name string) (*io.SectionReader, error) {
		section, _, err := tensors.Section(name)
		return section, err
	}
	return m
}

func showExported(w io.Writer, r exported) error {
	fmt.Fprintf(w, "%s, %s, experts %s: %d tensors, %s parameters, %d bytes in %s\n",
		r.Family, r.Dtype, r.Layout, r.Tensors, ledger.Amount(float64(r.Parameters)), r.Bytes, files(len(r.Files)))
	if len(r.KeptFP32) > 0 {
		fmt.Fprintf(w, "fp32 all the same: %s\n", strings.Join(r.KeptFP32, ", "))
	}
	if len(r.LeftOut) > 0 {
		fmt.Fprintf(w, "left out, state of training: %s\n", strings.Join(r.LeftOut, ", "))
	}
	_, err := fmt.Fprintf(w, "wrote %s\n", r.Dir)
	return err
}

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return strconv.Itoa(n) + " files"
}

// bytesFlag is a number of bytes: 500MB, 5GB.
type bytesFlag struct{ n int64 }

// byteUnits are powers of ten, as disks are sold and the Hugging Face library counts.
func byteUnits() map[string]int64 { return map[string]int64{"KB": 1e3, "MB": 1e6, "GB": 1e9} }

func (f *bytesFlag) Set(s string) error {
	const next = "write 500MB or 5GB"
	for unit, size := range byteUnits() {
		digits, ok := strings.CutSuffix(strings.ToUpper(s), unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 32)
		if err != nil || n < 1 {
			return usage("", s, "is not a size", next)
		}
		f.n = n * size
		return nil
	}
	return usage("", s, "is not a size", next)
}

func (f *bytesFlag) String() string {
	for _, unit := range []string{"GB", "MB", "KB"} {
		if size := byteUnits()[unit]; f.n >= size && f.n%size == 0 {
			return strconv.FormatInt(f.n/size, 10) + unit
		}
	}
	return strconv.FormatInt(f.n, 10)
}

func (f *bytesFlag) Type() string { return "size" }
