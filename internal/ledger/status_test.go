package ledger

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

func fold(events ...Event) *Status {
	s := New()
	for _, e := range events {
		s.Apply(e)
	}
	return s
}

// history is a run in which the slow island dies once and is started again.
func history() []Event {
	return []Event{
		RunStarted{At: at(0), RunID: "r-1", Dir: "runs/x-1", Era: 1, Tokens: 10_000, Params: 3e6, ActiveParams: 6e5,
			Islands: []string{"fast", "slow"}, BigramNats: 2.7},
		IslandStarted{At: at(0), Island: "fast", Incarnation: 1},
		IslandStarted{At: at(0), Island: "slow", Incarnation: 2, Numeric: "emulated bf16"},
		IslandReady{At: at(1), Island: "fast", Incarnation: 1},
		IslandReady{At: at(1), Island: "slow", Incarnation: 2},
		StepDone{At: at(2), Island: "fast", Incarnation: 1, Step: 1, Tokens: 1000, Loss: 5, StepSeconds: 1},
		StepDone{At: at(3), Island: "slow", Incarnation: 2, Step: 1, Tokens: 1000, Loss: 5, StepSeconds: 2},
		StepDone{At: at(3), Island: "fast", Incarnation: 1, Step: 2, Tokens: 2000, Loss: 4, GradientNorm: 0.75, ExpertLoad: 1.5, StepSeconds: 1},
		Merged{At: at(3), Fragment: 0, Version: 1, Islands: []string{"fast", "slow"}, Tokens: 3000, StampTokens: 3000, Share: 1},
		Consumed{At: at(3), Tokens: 3000},
		IslandGone{At: at(4), Island: "slow", Incarnation: 2, Kind: Died, Reason: "killed"},
		IslandStarted{At: at(4), Island: "slow", Incarnation: 3, Restart: true, Numeric: "emulated bf16"},
		StepDone{At: at(4), Island: "slow", Incarnation: 2, Step: 2, Tokens: 2000, Loss: 1, StepSeconds: 1},
		IslandReady{At: at(5), Island: "slow", Incarnation: 3},
		StepDone{At: at(7), Island: "slow", Incarnation: 3, Step: 1, Tokens: 1000, Loss: 3, GradientNorm: 0.9, ExpertLoad: 1.25, StepSeconds: 2},
		Ruled{At: at(7), Island: "slow", Fragment: 1, Ruling: Dropped, Reason: "5 versions behind"},
		Ruled{At: at(7), Island: "slow", Fragment: 1, Ruling: Refused, Reason: "non-finite"},
		Evaluated{At: at(8), Tokens: 3000, Loss: 3.25},
		CheckpointSaved{At: at(9), Number: 1, Path: "runs/x-1/checkpoints/00000001", Tokens: 3000},
		Consumed{At: at(9), Tokens: 10_000},
		Evaluated{At: at(10), Tokens: 10_000, Loss: 2.5, Final: true},
		RunEnded{At: at(10), Outcome: RunFinished},
	}
}

func TestSummaryOfAHistory(t *testing.T) {
	golden(t, "testdata/history.json", fold(history()...).Summary())
}

// A spike counts, samples that are left out are listed, and a rollback begins the count of
// tokens and the list anew: what it undid is not left out any more unless it says so.
func TestSpikesAndRollbacks(t *testing.T) {
	s := fold(
		RunStarted{At: at(0), Tokens: 9000, Islands: []string{"a"}, Era: 1, Rollbacks: 1, Skipped: []Samples{{0, 2}}},
		Spiked{At: at(1), Island: "a", Step: 1, Verdict: Withheld, Samples: []Samples{{4, 6}}},
		Spiked{At: at(2), Island: "a", Step: 9, Verdict: Skipped, Samples: []Samples{{4, 6}}},
	)
	if sum := s.Summary(); sum.Spikes != 2 || sum.Rollbacks != 1 || !slices.Equal(sum.SkippedSamples, []Samples{{0, 2}, {4, 6}}) {
		t.Errorf("%+v", sum)
	}
	s.Apply(Consumed{At: at(3), Tokens: 5000})
	s.Apply(RolledBack{At: at(4), Era: 2, Rollbacks: 2, Tokens: 3000, Skipped: []Samples{{0, 2}}})
	if sum := s.Summary(); sum.Spikes != 2 || sum.Rollbacks != 2 || sum.Era != 2 || sum.Tokens != 3000 || !slices.Equal(sum.SkippedSamples, []Samples{{0, 2}}) {
		t.Errorf("%+v", sum)
	}
}

func TestSummaryOfNothingKnowsNothing(t *testing.T) {
	golden(t, "testdata/nothing.json", New().Summary())
}

func TestSummaryOfAnIslandThatHasNotStepped(t *testing.T) {
	golden(t, "testdata/waiting.json", fold(RunStarted{At: at(0), RunID: "r-1", Islands: []string{"fast"}}).Summary().Islands)
}

func golden(t *testing.T, file string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *rewrite {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s:\n%s", file, got)
	}
}

func TestWordOfAPastLifeDoesNotCount(t *testing.T) {
	s := fold(history()...)
	slow := s.Islands[1]
	if slow.Tokens != 2000 || slow.Steps != 2 || slow.Restarts != 1 {
		t.Errorf("%d tokens, %d steps, %d restarts", slow.Tokens, slow.Steps, slow.Restarts)
	}
	if v, _ := slow.Loss.Get(); v != 3 {
		t.Errorf("loss %v is not that of the living incarnation", v)
	}
}

// What a resumed run had before does not count as this era's work.
func TestRestoredIslandCountsFromWhereItLeftOff(t *testing.T) {
	s := fold(
		RunStarted{At: at(0), Tokens: 9000, TokensDone: 5000, Islands: []string{"a"}, Resumed: true, Checkpoint: "runs/x/checkpoints/00000002"},
		IslandReady{At: at(1), Island: "a", Incarnation: 7, Steps: 50, Tokens: 5000},
		StepDone{At: at(2), Island: "a", Incarnation: 7, Step: 51, Tokens: 5100, Loss: 1, StepSeconds: 1},
		StepDone{At: at(3), Island: "a", Incarnation: 7, Step: 52, Tokens: 5200, Loss: 1, StepSeconds: 1})
	sum := s.Summary()
	if a := sum.Islands[0]; a.Tokens != 200 || a.Steps != 2 || a.TokensPerSecond.Text(0) != "100" {
		t.Errorf("%d tokens, %d steps, %s tokens/s", a.Tokens, a.Steps, a.TokensPerSecond.Text(0))
	}
	if sum.Checkpoint == nil || *sum.Checkpoint != "runs/x/checkpoints/00000002" || sum.Tokens != 5000 {
		t.Errorf("%v, %d tokens", sum.Checkpoint, sum.Tokens)
	}
}

// B2: a non-finite step shows as such within one step, and never as 0.
func TestNonFiniteLossShows(t *testing.T) {
	s := fold(
		StepDone{At: at(1), Island: "a", Incarnation: 1, Step: 1, Tokens: 10, Loss: 1.4596, StepSeconds: 1},
		StepDone{At: at(2), Island: "a", Incarnation: 1, Step: 2, Tokens: 20, Loss: math.NaN(), GradientNorm: math.NaN(), StepSeconds: 1, SkippedSteps: 1},
	)
	sum := s.Summary()
	for name, v := range map[string]Value{"train loss": sum.TrainLoss, "island's loss": s.Islands[0].Loss, "norm": s.Islands[0].GradientNorm} {
		if v.Text(3) != "non-finite" {
			t.Errorf("%s reads %q", name, v.Text(3))
		}
	}
	if data, err := json.Marshal(sum.TrainLoss); err != nil || string(data) != `"non-finite"` {
		t.Errorf("JSON %s, %v", data, err)
	}
	if sum.Skipped != 1 {
		t.Errorf("%d skipped steps", sum.Skipped)
	}
	s.Apply(StepDone{At: at(3), Island: "a", Incarnation: 1, Step: 3, Tokens: 30, Loss: 1.4, StepSeconds: 1, SkippedSteps: 1})
	if s.TrainLoss.Text(4) != "1.4298" {
		t.Errorf("the mean is %s", s.TrainLoss.Text(4))
	}
}

func TestSpeedAndTimeLeft(t *testing.T) {
	events := []Event{
		RunStarted{At: at(0), Tokens: 100_000, Islands: []string{"a", "b"}},
		IslandReady{At: at(10), Island: "a", Incarnation: 1},
		IslandReady{At: at(10), Island: "b", Incarnation: 2},
	}
	for i := 1; i <= 60; i++ {
		now := at(10 + float64(i))
		events = append(events, StepDone{At: now, Island: "a", Incarnation: 1, Step: uint64(i), Tokens: uint64(i) * 1000, Loss: 1, StepSeconds: 1})
		if i%2 == 0 {
			events = append(events, StepDone{At: now, Island: "b", Incarnation: 2, Step: uint64(i / 2), Tokens: uint64(i/2) * 1000, Loss: 1, StepSeconds: 2})
		}
	}
	s := fold(append(events, Consumed{At: at(70), Tokens: 40_000})...)
	if v, _ := s.TokensPerSecond().Get(); math.Abs(v-1500) > 1 {
		t.Errorf("%v tokens/s, want 1500", v)
	}
	if left, ok := s.Left(); !ok || left.Round(time.Second) != 40*time.Second {
		t.Errorf("%v left, %v", left, ok)
	}
	s.Apply(Consumed{At: at(200), Tokens: 40_000}) // nothing heard of steps for long
	if v, _ := s.TokensPerSecond().Get(); v > 200 {
		t.Errorf("%v tokens/s in a standstill", v)
	}
	s.Apply(IslandGone{At: at(200), Island: "a", Incarnation: 1, Kind: Died})
	s.Apply(IslandGone{At: at(200), Island: "b", Incarnation: 2, Kind: Finished})
	if _, ok := s.Left(); ok {
		t.Error("time left without an island that trains")
	}
	if s.Islands[0].State != Away || s.Islands[1].State != Done {
		t.Errorf("states %s, %s", s.Islands[0].State, s.Islands[1].State)
	}
}

// However lives and steps interleave, an island's tokens are the sum of what each
// life reached, and shares add up to one.
func TestTokensAddUpOverLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, want, now := New(), map[string]int64{}, 0.0
		lives := map[string]StepDone{}
		var incarnation uint64
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now++
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "island")
			life, lives1 := lives[name], rapid.IntRange(0, 9).Draw(t, "kind")
			if lives1 == 0 || life.Incarnation == 0 {
				incarnation++
				life = StepDone{Island: name, Incarnation: incarnation}
				s.Apply(IslandStarted{At: at(now), Island: name, Incarnation: incarnation, Restart: lives1 == 0})
			}
			n := rapid.Uint64Range(1, 5000).Draw(t, "tokens")
			life.At, life.Step, life.Tokens, life.StepSeconds, life.Loss = at(now), life.Step+1, life.Tokens+n, 0.5, 1
			lives[name], want[name] = life, want[name]+int64(n)
			s.Apply(life)
			s.Apply(life) // a repeated report changes nothing
		}
		shares := 0.0
		for _, i := range s.Islands {
			if i.Tokens != want[i.Name] {
				t.Fatalf("%s: %d tokens, want %d", i.Name, i.Tokens, want[i.Name])
			}
			share, _ := s.Share(i).Get()
			shares += share
		}
		if math.Abs(shares-1) > 1e-9 {
			t.Fatalf("shares add up to %v", shares)
		}
	})
}

// Every event reads as one line.
func TestEventsReadAsOneLine(t *testing.T) {
	events := append(history(),
		Spiked{At: at(1), Island: "fast", Step: 412, Verdict: Withheld, Samples: []Samples{{8, 12}}, Loss: Known(9.1), Median: Known(2.1), Bound: Known(2.6), Reason: "high"},
		Spiked{At: at(1), Island: "fast", Step: 500, Verdict: HalfRate, Samples: []Samples{{8, 12}}, Loss: Known(8.7), Median: Known(2), Bound: Known(2.5), Reason: "high"},
		Spiked{At: at(1), Island: "slow", Step: 3, Verdict: Skipped, Samples: []Samples{{8, 12}}, Reason: "the gradient norm is not finite"},
		RolledBack{At: at(1), Era: 3, Rollbacks: 1, Reason: "rollback 1 of 3: 10 spikes within 1000 steps", Checkpoint: "runs/x-1/checkpoints/00000001", Tokens: 3000, Skipped: []Samples{{8, 12}}},
		CheckpointHeld{At: at(1), Reason: "no space"}, StorePaused{At: at(1), Reason: "no answer"}, StorePaused{At: at(2)}, Note{At: at(1), Text: "note"})
	var got bytes.Buffer
	for _, e := range events {
		mark := "  "
		if Notable(e) {
			mark = "* "
		}
		got.WriteString(mark + e.String() + "\n")
	}
	const file = "testdata/lines.txt"
	if *rewrite {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("differs from %s:\n%s", file, got.Bytes())
	}
}
