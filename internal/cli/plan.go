package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
)

type planFlags struct {
	model      string
	tokens     countFlag
	fleet      string
	reference  string
	deadline   string
	start      string
	budget     string
	objective  string
	top        int
	batch      int
	sequence   int
	format     string
	kvCopies   bool
	catalogue  string
	efficiency string
	out        string
	explain    bool
	json       bool

	given func(flag string) bool // on the command line
}

func newPlan(env *Env) *cobra.Command {
	f := &planFlags{}
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Find the cheapest way to train a model on the chips that one can get",
		Long: `Find the cheapest, or the fastest, way to train a model on the chips of a fleet file:
which pools, how many chips, the layout in each island, what it costs and how long it
takes, each with a range; the runners-up; what limits it; how well predictions of
such chips have held. All of it is predicted; docs/planner.md says how, and how wrong.

Without --fleet it answers for an example.`,
		Example: `  mistura plan
  mistura plan --model ling-plus --tokens 1T --fleet fleet.yaml --start 2026-12-01 --deadline 2027-03-01
  mistura plan --model config.json --tokens 2T --fleet fleet.yaml --budget "5M CNY" --objective time --json`,
		Args: noVerb,
		RunE: func(*cobra.Command, []string) error { return runPlan(env, f) },
	}
	f.add(cmd)
	f.given = cmd.Flags().Changed
	cmd.AddCommand(newPlanValidate(env))
	return cmd
}

// add declares the flags.
func (f *planFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.model, "model", "", "`MODEL`: a preset, a run file, or a Hugging Face config.json or its folder")
	flags.Var(&f.tokens, "tokens", "train on `N` tokens: 500B, 1T (default the run file's)")
	flags.StringVar(&f.fleet, "fleet", "", "plan with the chips of `FILE` (default an example)")
	flags.StringVar(&f.reference, "reference", "", "compare with the best plan on the chips of another fleet `FILE`")
	flags.StringVar(&f.deadline, "deadline", "", "be done in `TIME`, such as 30d, 12h or 6w, or by a day, such as 2027-03-01")
	flags.StringVar(&f.start, "start", "", "begin on `DAY`; needed where days of the calendar matter")
	flags.StringVar(&f.budget, "budget", "", `spend at most `+"`AMOUNT`"+`, such as 5M or "5M CNY"`)
	flags.StringVar(&f.objective, "objective", string(search.Cost), "be best at `WHAT`: cost or time")
	flags.IntVar(&f.top, "top", 10, "show the best `N` plans")
	flags.IntVar(&f.batch, "batch", 0, "`N` sequences of a step of the whole fleet (default the run file's, or about 4M tokens)")
	flags.IntVar(&f.sequence, "sequence", 0, "`N` tokens of a sequence (default 4096, or the run file's, or as many as the model has positions)")
	flags.StringVar(&f.format, "format", "bf16", "number format of products: "+strings.Join(planFormats(), ", "))
	flags.BoolVar(&f.kvCopies, "kv-copies", false, "allow copies of key/value heads where tp is above their number")
	flags.StringVar(&f.catalogue, "catalogue", "", "lay the rows of `FILE` over the built-in catalogue")
	flags.StringVar(&f.efficiency, "efficiency", "", "take the share of the peak that products reach from the table `FILE`, for its chips")
	flags.StringVar(&f.out, "out", "", "write the best plan as a new run file `RUN.yaml`")
	flags.BoolVar(&f.explain, "explain", false, "show each term with its formula")
	flags.BoolVar(&f.json, "json", false, "end stdout with one JSON object on one line")
	complete(cmd, "objective", []string{string(search.Cost), string(search.Time)})
	complete(cmd, "format", planFormats())
	complete(cmd, "model", model.PresetNames())
}

// planFormats are the number formats that products are predicted in.
func planFormats() []string { return []string{"bf16", "fp16", "fp8", "fp4"} }

// planned is a question with its answer, and what the answer is shown with.
type planned struct {
	model     asked
	question  search.Question
	answer    search.Answer
	reference *referenced // nil: none is compared with
	catalogue chip.Catalogue
	constants string // their date
	example   bool
	taken     []string // what nobody said and the verb took for granted
	out       string   // the run file that was written; empty: none
}

func runPlan(env *Env, f *planFlags) error {
	ticks := time.NewTicker(3 * time.Second)
	defer ticks.Stop()
	stop := searching(env.Stderr, ticks.C, time.Now())
	var p *planned
	err := env.await(func() (err error) {
		p, err = f.plan()
		return err
	})
	stop()
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := p.writeRun(f.out); err != nil {
			return err
		}
	}
	if f.json {
		return p.printJSON(env.Stdout)
	}
	_, err = io.WriteString(env.Stdout, p.text(f.explain))
	return err
}

// searching says at each tick that a search goes on, until it is stopped.
func searching(out io.Writer, ticks <-chan time.Time, begin time.Time) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case at := <-ticks:
				fmt.Fprintf(out, "searching for %.0f s; fewer pools or a smaller max_islands take less\n", at.Sub(begin).Seconds())
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// plan reads what the flags name and finds the answer.
func (f *planFlags) plan() (*planned, error) {
	chips, err := (&chipFlags{file: f.catalogue}).catalogue()
	if err != nil {
		return nil, err
	}
	p := &planned{catalogue: chips, example: f.fleet == ""}
	if err := f.ask(p); err != nil {
		return nil, err
	}
	p.question.Parallel, p.question.Sisters, p.question.Constants = inParallel, chips.Chips(), plan.BuiltinConstants()
	p.constants = p.question.Constants.Date
	if p.answer, err = search.Run(p.question); err != nil {
		return nil, planFault(err)
	}
	if f.reference != "" {
		p.reference, err = f.compare(p)
	}
	return p, err
}

// readFleet reads a fleet file that a flag names.
func (f *planFlags) readFleet(flag, file string, chips chip.Catalogue) (fleet.Fleet, error) {
	data, err := readFlag(flag, file)
	if err != nil {
		return fleet.Fleet{}, err
	}
	return fleet.Parse(file, data, chips)
}
