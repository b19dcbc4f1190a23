package cli

import (
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/assess"
	"github.com/mistura-project/mistura/internal/published"
)

type assessFlags struct {
	chipFlags
	reference string
	model     string
	sequence  int
	batch     int
	chips     int
	format    string
	table     string
}

func newChipsAssess(env *Env) *cobra.Command {
	f := &assessFlags{}
	cmd := &cobra.Command{
		Use:   "assess CHIP",
		Short: "Say whether a chip can stand in for another",
		Long: `Say whether a chip can stand in for another in training a model: how fast and how
dear it is, how it scales from 8 to 8192 chips and what bounds it, and what software
there is; each with how good the evidence is, and what is not known. Speeds are
predicted (docs/planner.md); a figure that nobody knows is taken from chips like it,
which is said and makes the range wider.`,
		Example: `  mistura chips assess ascend-910b2
  mistura chips assess ling-2025-a --reference ling-2025-d --model ling-plus
  mistura chips assess mi300x --reference h100-80g-sxm --model config.json --json`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if all, err := f.catalogue(); err == nil && len(args) == 0 {
				return all.Names(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("command line", strings.Join(args, " "), "needs the name of one chip", "mistura chips lists them; see "+cmd.CommandPath()+" --help")
			}
			return runChipsAssess(env, f, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.reference, "reference", "h800-80g-sxm", "the `CHIP` that it is to stand in for")
	flags.StringVar(&f.model, "model", "ling-plus", "`MODEL`: a preset, a run file, or a Hugging Face config.json or its folder")
	flags.IntVar(&f.chips, "chips", 512, "compare `N` chips of each, or as many more as hold the model")
	flags.IntVar(&f.batch, "batch", 0, "`N` sequences of a step, whatever the number of chips (default about 16M tokens)")
	flags.IntVar(&f.sequence, "sequence", 0, "`N` tokens of a sequence (default 4096, or the run file's, or as many as the model has positions)")
	flags.StringVar(&f.format, "format", "bf16", "number format of products: "+strings.Join(assessFormats(), ", "))
	flags.StringVar(&f.file, "catalogue", "", "lay the rows of `FILE` over the built-in catalogue")
	flags.StringVar(&f.table, "efficiency", "", "take what was measured from the table `FILE`, not from the built-in one")
	flags.BoolVar(&f.asJSON, "json", false, "write one JSON object on one line in place of the text")
	complete(cmd, "model", model.PresetNames())
	complete(cmd, "format", assessFormats())
	return cmd
}

// largeBatch is the tokens of a step that thousands of chips are used with (Llama 3,
// arXiv 2407.21783, section 3.4.1, ends with it).
const largeBatch = 16 << 20

func assessFormats() []string { return []string{"bf16", "fp16", "fp8", "fp4"} }

func runChipsAssess(env *Env, f *assessFlags, name string) error {
	q, err := f.question(name)
	if err != nil {
		return err
	}
	report := q.Answer()
	if f.asJSON {
		return printJSON(env.Stdout, report)
	}
	_, err = io.WriteString(env.Stdout, assessText(report))
	return err
}

// question reads what the flags name.
func (f *assessFlags) question(name string) (assess.Question, error) {
	q := assess.Question{Constants: plan.BuiltinConstants(), Chips: f.chips, Format: f.format}
	var err error
	if q.Catalogue, err = f.catalogue(); err != nil {
		return q, err
	}
	if q.Chip, err = q.Catalogue.Find(name); err != nil {
		return q, err
	}
	if q.Reference, err = q.Catalogue.Find(f.reference); err != nil {
		return q, err
	}
	if q.Table, err = tableOf(f.table); err != nil {
		return q, err
	}
	q.Runs, q.Own = published.Builtin(), f.table != ""
	m, err := readModel(f.model)
	if err != nil {
		return q, err
	}
	counted := modelFlags{sequence: f.sequence, layout: anatomy.Single(), formats: "mixed", given: func(flag string) bool { return flag == "sequence" && f.sequence != 0 }}
	one, err := counted.question(m)
	if err != nil {
		return q, err
	}
	q.Model, q.Sequence, q.Batch = m.decoder, one.Sequence, cmp.Or(f.batch, max(1, largeBatch/one.Sequence))
	return q, f.check()
}

func (f *assessFlags) check() error {
	sizes := assess.Sizes()
	switch {
	case !slices.Contains(assessFormats(), f.format):
		return usage("--format", f.format, "is no format that is predicted", "use one of "+strings.Join(assessFormats(), ", "))
	case f.batch < 0 || f.batch > 1<<20:
		return usage("--batch", strconv.Itoa(f.batch), "is out of range", "use 1 to 1048576")
	case !slices.Contains(sizes, f.chips):
		return usage("--chips", strconv.Itoa(f.chips), "is no number that is looked at", "use one of "+numbers(sizes))
	}
	return nil
}

func numbers(all []int) string {
	var words []string
	for _, n := range all {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, " ")
}
