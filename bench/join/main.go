// Command join measures the time from "mistura join" until the island's first step is made, in a
// run that is under way, with the gate and without.
//
//	go run ./bench/join -rounds 5
//
// A "mistura serve" and one native island that trains at its own speed; each arm joins in
// turn under a name of its own, makes a step, is interrupted, and hands over what it has trained. Time is that
// of this machine's clock until "mistura status" counts a step, which is asked 20 times a second.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mistura-project/mistura/bench/cast"
)

// arm is one way to join.
type arm struct {
	Engine string `json:"engine"`
	Gate   bool   `json:"gate"`
	// Seconds from the command to the first step.
	Median float64   `json:"median_seconds"`
	All    []float64 `json:"seconds"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "join:", err)
		os.Exit(1)
	}
}

func run() error {
	rounds := flag.Int("rounds", 5, "joins of each arm")
	model := flag.String("model", "ling-nano", "preset")
	flag.Parse()
	dir, err := os.MkdirTemp("", "mistura-join-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := cast.Build(dir)
	if err != nil {
		return err
	}
	played, err := serve(binary, dir, *model)
	if err != nil {
		return err
	}
	defer played.Stop()
	arms := []*arm{{Engine: "native", Gate: true}, {Engine: "native"}, {Engine: "torch", Gate: true}, {Engine: "torch"}}
	for round := range *rounds {
		for _, a := range arms {
			if err := a.join(played, round); err != nil {
				return err
			}
		}
	}
	return report(*model, arms)
}

// serve starts the run; it has more to train than will be.
func serve(binary, dir, model string) (*cast.Run, error) {
	file := filepath.Join(dir, "join.yaml")
	text := fmt.Sprintf("tokens: 1B\nmodel: {preset: %s}\ncheckpoint: {every_tokens: 20000}\n", model)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	played, err := cast.Serve(binary, file, filepath.Join(dir, "run"))
	if err != nil {
		return nil, err
	}
	first, err := played.Join("native")
	if err == nil {
		err = played.AwaitStep(first, "native")
	}
	if err != nil {
		played.Stop()
		return nil, err
	}
	return played, nil
}

// join joins once and leaves.
func (a *arm) join(played *cast.Run, round int) error {
	name, flags := fmt.Sprintf("%s-%d", a.Engine, round), []string(nil)
	if !a.Gate {
		name, flags = name+"-unasked", []string{"--no-gate"}
	}
	began := time.Now()
	island, err := played.Join(name, flags...)
	if err != nil {
		return err
	}
	if err := played.AwaitStep(island, name); err != nil {
		return err
	}
	a.All = append(a.All, time.Since(began).Seconds())
	fmt.Printf("%s, gate %t: %.2f s\n", name, a.Gate, a.All[len(a.All)-1])
	if err := island.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	island.Wait() //nolint:errcheck // it leaves with the exit code of an interrupted island
	return nil
}

// report ends the output with one JSON object.
func report(model string, arms []*arm) error {
	for _, a := range arms {
		sorted := slices.Sorted(slices.Values(a.All))
		a.Median = sorted[len(sorted)/2]
	}
	return json.NewEncoder(os.Stdout).Encode(struct {
		Model string `json:"model"`
		Arms  []*arm `json:"arms"`
	}{model, arms})
}
