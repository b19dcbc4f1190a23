package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/gauge"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/pytorch"
)

// measureFlags are the flags of chips measure.
type measureFlags struct {
	out, catalogueOut string
	chip, catalogue   string
	engine            string
	device, python    string
	ranks             int
	quick, json       bool
}

// Engines that measure.
const (
	nativeEngine = "native"
	torchEngine  = "torch"
)

func newChipsMeasure(env *Env) *cobra.Command {
	f := &measureFlags{}
	cmd := &cobra.Command{
		Use:   "measure",
		Short: "Measure what a chip of this machine does",
		Long: fmt.Sprintf(`Measure what a chip of this machine does with the work of training, in at most
about %.0f seconds: products of matrices, experts' products, attention and copies;
among several --ranks collectives. --out writes a table for --efficiency of other
verbs. This machine's processor is measured with the native engine's kernels, any
device that PyTorch reaches with --engine torch.`, gauge.Budget.Seconds()),
		Example: `  mistura chips measure
  mistura chips measure --out mine.csv --catalogue-out chip.csv
  mistura chips measure --device cuda --chip h100-80g-sxm --ranks 8 --out mine.csv`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runChipsMeasure(env, cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "", "write the table of what was measured to `FILE`")
	flags.StringVar(&f.catalogueOut, "catalogue-out", "", "write what this machine says of the chip to the catalogue `FILE`")
	flags.StringVar(&f.chip, "chip", "", "`NAME` of the chip (default as the device calls itself)")
	flags.StringVar(&f.catalogue, "catalogue", "", "lay the rows of `FILE` over the built-in catalogue, whose peaks are compared with")
	flags.StringVar(&f.engine, "engine", "", "`ENGINE` that computes: native or torch (default native, or torch with --device)")
	flags.StringVar(&f.device, "device", "cpu", "`KIND` of device for --engine torch, such as cuda, npu or musa")
	flags.StringVar(&f.python, "python", "", "`PROGRAM` for --engine torch (default "+pytorch.PythonVariable+", or a python3 with PyTorch)")
	flags.IntVar(&f.ranks, "ranks", 1, "`N` processes for --engine torch, one a device: collectives among them are measured too")
	flags.BoolVar(&f.quick, "quick", false, fmt.Sprintf("try little, in about %.0f seconds", gauge.QuickBudget.Seconds()))
	flags.BoolVar(&f.json, "json", false, "write one JSON object on one line")
	complete(cmd, "device", pytorch.Devices())
	complete(cmd, "engine", []string{nativeEngine, torchEngine})
	return cmd
}

// check settles the engine and refuses flags that do not go together.
func (f *measureFlags) check(cmd *cobra.Command) error {
	if f.engine == "" {
		f.engine = nativeEngine
		for _, flag := range []string{"device", "python", "ranks"} {
			if cmd.Flags().Changed(flag) {
				f.engine = torchEngine
			}
		}
	}
	switch {
	case f.engine != nativeEngine && f.engine != torchEngine:
		return usage("--engine", f.engine, "is no engine", "use "+nativeEngine+" or "+torchEngine)
	case f.ranks < 1:
		return usage("--ranks", fmt.Sprint(f.ranks), "is below 1", "give the number of processes")
	case f.engine == nativeEngine && (f.device != "cpu" || f.ranks > 1 || f.python != ""):
		return usage("--engine", nativeEngine, "measures this machine's processor, and takes no --device, --ranks or --python", "use --engine "+torchEngine)
	case f.out != "" && f.out == f.catalogueOut:
		return usage("--catalogue-out", f.out, "is the file of --out", "give another")
	}
	if problem, next := chip.CheckName(f.chip); f.chip != "" && problem != "" {
		return usage("--chip", f.chip, problem, next)
	}
	if f.python != "" {
		if _, err := exec.LookPath(f.python); err != nil {
			return usage("--python", f.python, "is no program that can be run", "name a Python that has torch and numpy")
		}
	}
	return nil
}

// device is what can be measured.
type device interface {
	Try(ctx context.Context) (gauge.Tried, error)
}

// chosen is what the flags ask to be measured.
func (f *measureFlags) chosen(tell func(done, of int, k chip.Key)) (device, error) {
	t := gauge.Trying{Quick: f.quick, Budget: f.budget(), Tell: tell}
	if f.engine == torchEngine {
		return gauge.Torch{Trying: t, Python: f.python, Device: f.device, Ranks: f.ranks}, nil
	}
	set, err := kernel.FromEnvironment()
	return gauge.Native{Trying: t, Kernel: set, Threads: machine.CPUs()}, err
}

func (f *measureFlags) budget() time.Duration {
	if f.quick {
		return gauge.QuickBudget
	}
	return gauge.Budget
}

func runChipsMeasure(env *Env, cmd *cobra.Command, f *measureFlags) error {
	if err := f.check(cmd); err != nil {
		return err
	}
	all, err := (&chipFlags{file: f.catalogue}).catalogue()
	if err != nil {
		return err
	}
	table := newFile{"--out", f.out, "table of efficiency", isTable}
	entry := newFile{"--catalogue-out", f.catalogueOut, "catalogue of chips", isCatalogue}
	if err := errors.Join(table.check(), entry.check()); err != nil {
		return err
	}
	p := &progress{out: env.Stderr, live: env.screen(env.Stderr).Live, began: time.Now(), budget: f.budget()}
	on, err := f.chosen(p.tell)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer env.onSignals(cancel)()
	p.begin(f)
	tried, err := on.Try(ctx)
	p.end()
	if err != nil {
		return err
	}
	m := &measured{tried: tried, date: time.Now().UTC().Format(time.DateOnly), seconds: time.Since(p.began).Seconds()}
	if err := m.name(f.chip, all); err != nil {
		return err
	}
	m.table = m.origin().Table(tried.Trials)
	if len(m.table.Rows) == 0 {
		return fmt.Errorf("nothing could be measured on %s: %s", f.device, tried.Left[0].Why)
	}
	if err := table.write(m.table.Marshal()); err != nil {
		return err
	}
	if err := entry.write(chip.CatalogueOf(m.date, m.entry()).Marshal()); err != nil {
		return err
	}
	if f.json {
		return m.printJSON(env.Stdout, f)
	}
	return m.show(env.Stdout, f, env.self())
}

// progress says on a terminal how far a measurement is.
type progress struct {
	out    io.Writer
	live   bool
	began  time.Time
	budget time.Duration
}

func (p *progress) begin(f *measureFlags) {
	what := "this machine's processor"
	if f.engine == torchEngine {
		what = f.device + " by PyTorch"
	}
	fmt.Fprintf(p.out, "measures %s, in at most about %.0f s\n", what, p.budget.Seconds())
}

// clearLine begins a line of a terminal anew.
const clearLine = "\r\x1b[K"

func (p *progress) tell(done, of int, k chip.Key) {
	if p.live {
		fmt.Fprintf(p.out, "%s%d of %d  %3.0f s  %s", clearLine, done+1, of, time.Since(p.began).Seconds(), keyInWords(k))
	}
}

func (p *progress) end() {
	if p.live {
		fmt.Fprint(p.out, clearLine)
	}
}

// keyInWords is what is tried, for a reader.
func keyInWords(k chip.Key) string {
	words := []string{string(k.Operation), k.Format, k.Shape}
	if k.Group > 0 {
		words = append(words, fmt.Sprintf("of %d", k.Group))
	}
	return strings.Join(strings.Fields(strings.Join(words, " ")), " ")
}
