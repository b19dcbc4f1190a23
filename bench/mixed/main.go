// Command mixed compares a run of one native and one torch island with runs of two
// native islands, of equal tokens and several seeds: the mixed runs' validation losses
// should lie within the spread of the native ones.
//
//	go run ./bench/mixed -seeds 1,2,3,4,5,6 -rows rows.jsonl
//
// Every run is a "mistura serve" and two "mistura join", in turn, on the built-in text.
// Native islands are paced to the torch island's speed, in both kinds of runs: so all
// islands train about as many tokens, and as many between two merges. How unequal they
// were in the end is in the rows: the share of the tokens, and what one trained alone. A row is one run;
// rows that the file holds already are not run again.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/bench/cast"
	"github.com/mistura-project/mistura/bench/rows"
)

// setting is what all runs have in common.
type setting struct {
	binary string
	model  string
	tokens int64
	pace   float64 // of native islands
}

// row is one run.
type row struct {
	Seed      uint64    `json:"seed"`
	Islands   string    `json:"islands"`
	Model     string    `json:"model"`
	Tokens    int64     `json:"tokens"`
	ValidLoss *float64  `json:"valid_loss"` // nats
	Shares    []float64 `json:"shares"`     // of the tokens, by island
	Alone     float64   `json:"alone"`      // of the tokens, merged with no other island's
	Seconds   float64   `json:"seconds"`
}

// Kinds of runs.
const (
	twoNative = "native native"
	mixed     = "native torch"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mixed:", err)
		os.Exit(1)
	}
}

func run() error {
	seeds := flag.String("seeds", "1,2,3,4,5,6", "run seeds, at least 4")
	file := flag.String("rows", "", "file of finished rows, one JSON object a line; empty: nothing is kept")
	s := setting{}
	flag.StringVar(&s.model, "model", "ling-nano", "preset")
	flag.Int64Var(&s.tokens, "tokens", 400_000, "tokens of a run")
	flag.Float64Var(&s.pace, "pace", 0.4, "share of full speed of native islands")
	flag.Parse()
	done, err := rows.Read[row](*file)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mistura-mixed-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if s.binary, err = cast.Build(dir); err != nil {
		return err
	}
	for _, field := range strings.Split(*seeds, ",") {
		seed, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return fmt.Errorf("seed %q: %w", field, err)
		}
		for _, islands := range []string{twoNative, mixed} {
			if slices.ContainsFunc(done, func(r row) bool {
				return r.Seed == seed && r.Islands == islands && r.Model == s.model && r.Tokens == s.tokens
			}) {
				continue
			}
			r, err := s.train(filepath.Join(dir, "run"), seed, islands)
			if err != nil {
				return fmt.Errorf("seed %d, %s: %w", seed, islands, err)
			}
			done = append(done, r)
			if err := rows.Append(*file, r); err != nil {
				return err
			}
		}
	}
	return s.report(done)
}

// train makes one run in a folder that it removes.
//
// A PyTorch needs seconds before its first step, in which the other island would train
// alone; what one island trains alone lowers the loss of a run this short more than two
// islands do. So the second island joins first, and the first once that has made a step.
func (s setting) train(dir string, seed uint64, islands string) (row, error) {
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return row{}, err
	}
	var file strings.Builder
	fmt.Fprintf(&file, "seed: %d\ntokens: %d\nmodel: {preset: %s}\nislands:\n", seed, s.tokens, s.model)
	var names []string
	for i, engine := range strings.Fields(islands) {
		pace := 1.0
		if engine == "native" {
			pace = s.pace
		}
		names = append(names, fmt.Sprintf("%s-%d", engine, i+1))
		fmt.Fprintf(&file, "  - {name: %s, pace: %g}\n", names[i], pace)
	}
	path := filepath.Join(dir, "mixed.yaml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		return row{}, err
	}
	played, err := cast.Serve(s.binary, path, filepath.Join(dir, "run"))
	if err != nil {
		return row{}, err
	}
	defer played.Stop()
	out, err := perform(played, names)
	if err != nil {
		return row{}, err
	}
	var sum struct {
		ValidLoss *float64 `json:"valid_loss"`
		Tokens    int64    `json:"tokens"`
		Seconds   float64  `json:"seconds"`
		Islands   []struct {
			Share float64 `json:"share"`
		} `json:"islands"`
	}
	if err := json.Unmarshal(out, &sum); err != nil {
		return row{}, fmt.Errorf("the summary: %w", err)
	}
	r := row{Seed: seed, Islands: islands, Model: s.model, Tokens: s.tokens, ValidLoss: sum.ValidLoss, Seconds: sum.Seconds}
	for _, i := range sum.Islands {
		r.Shares = append(r.Shares, i.Share)
	}
	if r.Alone, err = played.Alone(); err != nil {
		return row{}, err
	}
	if r.ValidLoss == nil {
		return row{}, errors.New("the run has no validation loss")
	}
	fmt.Printf("seed %d, %s: %.4f nats, shares %.2f, alone %.2f, %d tokens in %.0f s\n", seed, islands, *r.ValidLoss, r.Shares, r.Alone, sum.Tokens, r.Seconds)
	return r, nil
}

// perform has islands join from the last name to the first, each once the one before has
// made a step, and waits for the end. It gives the run's summary.
func perform(played *cast.Run, names []string) ([]byte, error) {
	for _, name := range slices.Backward(names) {
		island, err := played.Join(name)
		if err != nil {
			return nil, err
		}
		if err := played.AwaitStep(island, name); err != nil {
			return nil, err
		}
	}
	return played.End()
}

// verdict is the last line of the output.
type verdict struct {
	Model  string     `json:"model"`
	Tokens int64      `json:"tokens"`
	Native statistics `json:"native_native"`
	Mixed  statistics `json:"native_torch"`
	Within bool       `json:"within"` // the mixed runs' mean lies in the native runs' spread
	Inside int        `json:"inside"` // mixed runs that do
}

// statistics of validation losses in nats.
type statistics struct {
	Runs   int     `json:"runs"`
	Mean   float64 `json:"mean"`
	Lowest float64 `json:"lowest"`
	Most   float64 `json:"highest"`
}

// report compares the rows of this setting.
func (s setting) report(rows []row) error {
	losses := map[string][]float64{}
	for _, r := range rows {
		if r.Model == s.model && r.Tokens == s.tokens {
			losses[r.Islands] = append(losses[r.Islands], *r.ValidLoss)
		}
	}
	v := verdict{Model: s.model, Tokens: s.tokens, Native: describe(losses[twoNative]), Mixed: describe(losses[mixed])}
	if v.Native.Runs < 4 || v.Mixed.Runs < 1 {
		return fmt.Errorf("%d native runs and %d mixed ones, want at least 4 and 1", v.Native.Runs, v.Mixed.Runs)
	}
	v.Within = v.Native.Lowest <= v.Mixed.Mean && v.Mixed.Mean <= v.Native.Most
	for _, x := range losses[mixed] {
		if v.Native.Lowest <= x && x <= v.Native.Most {
			v.Inside++
		}
	}
	return json.NewEncoder(os.Stdout).Encode(v)
}

func describe(losses []float64) statistics {
	if len(losses) == 0 {
		return statistics{}
	}
	s := statistics{Runs: len(losses), Lowest: slices.Min(losses), Most: slices.Max(losses)}
	for _, x := range losses {
		s.Mean += x / float64(len(losses))
	}
	return s
}
