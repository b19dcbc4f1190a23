// Command lone measures what joining costs: a run with one island against the
// same learner in a plain loop without any exchange, in turn, on the same text,
// samples and steps (DESIGN D5: at most 1 % slower, same losses to the bit).
//
//	go run ./bench/lone -steps 600 -pairs 5
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/wire"
)

// islandArgument makes this program act as the island of a run.
const islandArgument = "act-as-island"

func main() {
	if len(os.Args) > 1 && os.Args[1] == islandArgument {
		exit(actAsIsland())
	}
	steps := flag.Int("steps", 600, "inner steps of a run")
	pairs := flag.Int("pairs", 5, "pairs of runs, plain and joined in turn")
	preset := flag.String("model", "ling-nano", "preset")
	flag.Parse()
	exit(compare(*steps, *pairs, *preset))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "lone:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// result is the last line of the output.
type result struct {
	Steps           int       `json:"steps"`
	Model           string    `json:"model"`
	Kernel          string    `json:"kernel_set"`
	Cores           int       `json:"cores"`
	Ratios          []float64 `json:"joined_over_plain_seconds"`
	MedianRatio     float64   `json:"median_ratio"`
	LossesEqualBits bool      `json:"losses_equal_to_the_bit"`
}

func compare(steps, pairs int, preset string) error {
	dir, err := os.MkdirTemp("", "mistura-lone-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run, err := runfile.Default().WithModel(preset)
	if err != nil {
		return err
	}
	run.Islands = []runfile.Island{{Name: "lone", Pace: 1}}
	run.Tokens = runfile.Count(int64(steps) * run.StepTokens())
	run.Eval.EveryTokens, run.Eval.FinalSequences = 0, 1
	run.Checkpoint.EveryTokens = 0 // the plain loop saves nothing either
	if run, err = run.Resolve(); err != nil {
		return err
	}
	set, err := kernel.FromEnvironment()
	if err != nil {
		return err
	}
	r := result{Steps: steps, Model: preset, Kernel: set.Name(), Cores: runtime.NumCPU(), LossesEqualBits: true}
	for pair := range pairs {
		folder := filepath.Join(dir, fmt.Sprint(pair))
		joined, joinedLosses, err := joinedRun(run, folder)
		if err != nil {
			return err
		}
		plain, plainLosses, err := plainRun(run, filepath.Join(folder, "data"), set)
		if err != nil {
			return err
		}
		r.Ratios = append(r.Ratios, joined.Seconds()/plain.Seconds())
		r.LossesEqualBits = r.LossesEqualBits && sameBits(joinedLosses, plainLosses)
		fmt.Printf("pair %d: joined %.2f s, plain %.2f s, ratio %.4f, losses equal to the bit: %v\n",
			pair+1, joined.Seconds(), plain.Seconds(), joined.Seconds()/plain.Seconds(), sameBits(joinedLosses, plainLosses))
	}
	sorted := slices.Sorted(slices.Values(r.Ratios))
	r.MedianRatio = sorted[len(sorted)/2]
	return json.NewEncoder(os.Stdout).Encode(r)
}

func sameBits(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
}

// joinedRun is the whole thing: parent, island process, exchange, checkpoint. Its
// time is from the start of the first step to the end of the last.
func joinedRun(run runfile.Run, dir string) (time.Duration, []float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, nil, err
	}
	var losses []float64
	var from, to time.Time
	_, err = serve.Train(context.Background(), serve.Options{
		Run: run, Dir: dir, StartIsland: []string{self, islandArgument}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Emit: func(e ledger.Event) {
			if s, ok := e.(ledger.StepDone); ok {
				losses, to = append(losses, s.Loss), s.At
				if from.IsZero() {
					from = s.At.Add(-time.Duration(s.StepSeconds * float64(time.Second)))
				}
			}
		},
	})
	return to.Sub(from), losses, err
}

// plainRun is the same learner in a loop.
func plainRun(run runfile.Run, data string, kernels *kernel.Set) (time.Duration, []float64, error) {
	set, err := corpus.Open(data)
	if err != nil {
		return 0, nil, err
	}
	defer set.Close()
	l, err := island.NewLearner(run, set, runtime.NumCPU(), kernels, nil)
	if err != nil {
		return 0, nil, err
	}
	defer l.Close()
	engine.InitParams(run.Model.Config, run.Seed, l.Params())
	l.Lease(0, run.TotalSamples())
	var losses []float64
	began := time.Now()
	for l.Left() > 0 {
		s, err := l.Step()
		if err != nil {
			return 0, nil, err
		}
		losses = append(losses, s.Loss)
	}
	return time.Since(began), losses, nil
}

func actAsIsland() error {
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadString('\n')
	if err != nil {
		return err
	}
	join, err := wire.ParseJoin(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	return island.Run(context.Background(), island.Options{
		Join: join, ParentStdin: stdin, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}
