package dash

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/ledger"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s:\n%s", file, got)
	}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// history is half a run: the slow island dies and is started again.
func history() []ledger.Event {
	events := []ledger.Event{
		ledger.RunStarted{At: at(0), RunID: "r-1", Dir: "runs/ling-nano-1", Era: 1, Tokens: 400_000, Params: 3e6, ActiveParams: 6e5,
			Islands: []string{"fast", "slow"}, BigramNats: 2.701, TrigramNats: 1.902},
		ledger.IslandStarted{At: at(0), Island: "fast", Incarnation: 1},
		ledger.IslandStarted{At: at(0), Island: "slow", Incarnation: 2, Numeric: "emulated bf16"},
		ledger.IslandReady{At: at(1), Island: "fast", Incarnation: 1},
		ledger.IslandReady{At: at(1), Island: "slow", Incarnation: 2},
	}
	for i := 1; i <= 40; i++ {
		now := at(1 + float64(i))
		events = append(events, ledger.StepDone{At: now, Island: "fast", Incarnation: 1, Step: uint64(i), Tokens: uint64(i) * 2048,
			Loss: 5 - float64(i)/20, GradientNorm: 0.8, ExpertLoad: 1.5, StepSeconds: 1})
		if i%2 == 0 {
			life, base := uint64(2), 0
			if i > 30 {
				life, base = 4, 30
			}
			events = append(events, ledger.StepDone{At: now, Island: "slow", Incarnation: life, Step: uint64((i - base) / 2),
				Tokens: uint64((i-base)/2) * 2048, Loss: 5 - float64(i)/20, GradientNorm: 0.9, ExpertLoad: 1.5, StepSeconds: 2})
		}
		if i%4 == 0 {
			events = append(events,
				ledger.Merged{At: now, Fragment: i / 4 % 4, Version: 1, Islands: []string{"fast", "slow"}, Tokens: 9000, Share: 1},
				ledger.Consumed{At: now, Tokens: int64(i) * 3000})
		}
		switch i {
		case 20:
			events = append(events, ledger.Evaluated{At: now, Tokens: 60_000, Loss: 4.1})
		case 25:
			events = append(events, ledger.CheckpointSaved{At: now, Number: 1, Path: "runs/ling-nano-1/checkpoints/00000001", Tokens: 72_000})
		case 30:
			events = append(events,
				ledger.IslandGone{At: now, Island: "slow", Incarnation: 2, Kind: ledger.Died, Reason: "signal: killed"},
				ledger.IslandStarted{At: now, Island: "slow", Incarnation: 4, Restart: true, Numeric: "emulated bf16"},
				ledger.IslandReady{At: now, Island: "slow", Incarnation: 4})
		}
	}
	return events
}

func ended() []ledger.Event {
	return append(history(),
		ledger.Consumed{At: at(60), Tokens: 400_384},
		ledger.CheckpointSaved{At: at(60), Number: 2, Path: "runs/ling-nano-1/checkpoints/00000002", Tokens: 400_384},
		ledger.Evaluated{At: at(61), Tokens: 400_384, Loss: 2.412, Final: true},
		ledger.RunEnded{At: at(61), Outcome: ledger.RunFinished})
}

func live(columns, rows int, events []ledger.Event) *screen {
	s := &screen{}
	d := New(s, Options{Live: true, Color: true, Size: func() (int, int) { return columns, rows }})
	for _, e := range events {
		d.Show(e)
	}
	return s
}

func TestLiveBlock(t *testing.T) {
	for _, columns := range []int{110, 80, 40} {
		golden(t, fmt.Sprintf("live%d.txt", columns), live(columns, 24, history()).String())
	}
}

func TestLiveBlockIsGoneAtTheEnd(t *testing.T) {
	s := live(80, 24, ended())
	golden(t, "live-ended.txt", s.String())
}

func TestLiveBlockWithTroubles(t *testing.T) {
	events := append(history(),
		ledger.StorePaused{At: at(42), Reason: "no answer from the store"},
		ledger.CheckpointHeld{At: at(42), Reason: "weights of layers.0.router are non-finite"},
		ledger.StepDone{At: at(43), Island: "fast", Incarnation: 1, Step: 41, Tokens: 41 * 2048, Loss: math.NaN(), GradientNorm: math.NaN(), ExpertLoad: 1.5, StepSeconds: 1},
		ledger.IslandGone{At: at(43), Island: "slow", Incarnation: 4, Kind: ledger.Quarantined, Reason: "3 refusals in 20"})
	golden(t, "live-troubles.txt", live(100, 24, events).String())
}

func TestPlainLines(t *testing.T) {
	var b bytes.Buffer
	d := New(&b, Options{Color: true})
	for _, e := range ended() {
		d.Show(e)
	}
	d.Close()
	golden(t, "plain.txt", b.String())
	if strings.Contains(b.String(), "\x1b") {
		t.Error("a control sequence in plain lines")
	}
}

// However small the terminal, no line is wider than it and the block fits below the
// cursor's line, so that the cursor finds the way back to its top.
func TestBlockFitsAnyTerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		columns, rows := rapid.IntRange(1, 200).Draw(t, "columns"), rapid.IntRange(6, 60).Draw(t, "rows")
		status := ledger.New()
		for _, e := range history()[:rapid.IntRange(1, len(history())).Draw(t, "events")] {
			status.Apply(e)
		}
		for i := range rapid.IntRange(0, 70).Draw(t, "more islands") {
			status.Apply(ledger.IslandStarted{At: at(50), Island: fmt.Sprintf("ísland-%d", i), Incarnation: uint64(100 + i)})
		}
		lines := block(status, columns, rows, false)
		if len(lines) > rows {
			t.Fatalf("%d lines on %d rows", len(lines), rows)
		}
		for _, line := range lines {
			if n := len([]rune(line)); n > columns {
				t.Fatalf("%d columns on %d: %q", n, columns, line)
			}
		}
	})
}

func TestNoColour(t *testing.T) {
	var b bytes.Buffer
	d := New(&b, Options{Live: true})
	for _, e := range history() {
		d.Show(e)
	}
	if strings.Contains(b.String(), "m") && strings.Contains(b.String(), "\x1b[3") {
		t.Error("colours although none are wanted")
	}
}

// Who serves a run to which nobody has come, or from which all have gone, sees that it waits.
func TestNobodyTrains(t *testing.T) {
	const waits = "no island is there; the run waits for one to join"
	begun := ledger.RunStarted{At: at(0), RunID: "r-1", Dir: "runs/far-1", Era: 1, Tokens: 400_000, Outside: true}
	if s := live(80, 24, []ledger.Event{begun}); !strings.Contains(s.String(), "\n"+waits+"\n") {
		t.Errorf("shown:\n%s", s)
	}
	here := []ledger.Event{begun, ledger.IslandStarted{At: at(1), Island: "far", Incarnation: 1}, ledger.IslandReady{At: at(1), Island: "far", Incarnation: 1}}
	if s := live(80, 24, here); strings.Contains(s.String(), "waits") {
		t.Errorf("shown:\n%s", s)
	}
}

// Text from other processes cannot steer the terminal.
func TestControlCharactersAreTakenOut(t *testing.T) {
	s := live(80, 24, append(history(),
		ledger.Note{At: at(42), Text: "evil \x1b[2J\r\n\u009b31m text"},
		ledger.IslandGone{At: at(43), Island: "slow", Incarnation: 4, Kind: ledger.Died, Reason: "\x1b]0;title\a"}))
	if !strings.Contains(s.String(), "evil  [2J   31m text") {
		t.Errorf("shown:\n%s", s)
	}
}

func TestLogLinesGoAboveTheBlock(t *testing.T) {
	s := &screen{}
	d := New(s, Options{Live: true})
	for _, e := range history() {
		d.Show(e)
	}
	height := d.lines
	fmt.Fprintf(d, "first\nsecond\n")
	lines := strings.Split(strings.TrimSpace(s.String()), "\n")
	above := lines[len(lines)-height-2 : len(lines)-height]
	if above[0] != "first" || above[1] != "second" {
		t.Errorf("shown:\n%s", s)
	}
	d.Close()
	d.Close()
	d.Show(ledger.Note{At: at(99), Text: "late"})
	if n := len(s.lines); s.lines[n-1] != "second" {
		t.Errorf("after closing:\n%s", s)
	}
}

func TestTickShowsAStandstill(t *testing.T) {
	s := &screen{}
	d := New(s, Options{Live: true, Size: func() (int, int) { return 100, 24 }})
	for _, e := range history() {
		d.Show(e)
	}
	d.Tick(at(141))
	if !strings.Contains(s.String(), "2m21s so far") || strings.Contains(s.String(), "2.05k tokens/s") {
		t.Errorf("shown:\n%s", s)
	}
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59400 * time.Millisecond: "59s", 59600 * time.Millisecond: "1m00s", 65 * time.Second: "1m05s",
		2*time.Hour + 3*time.Minute: "2h03m", 76 * time.Hour: "3d04h",
	} {
		if got := Clock(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func summary(events []ledger.Event) ledger.Summary {
	s := ledger.New()
	for _, e := range events {
		s.Apply(e)
	}
	return s.Summary()
}

func TestReport(t *testing.T) {
	sample, resume := "mistura sample --from runs/ling-nano-1 --prompt 'func '", "mistura train --resume runs/ling-nano-1"
	interrupted := append(history(), ledger.RunEnded{At: at(42), Outcome: ledger.RunInterrupted})
	bad := ledger.Evaluated{At: at(61), Tokens: 400_384, Loss: math.NaN(), Final: true}
	golden(t, "report-finished.txt", Report{summary(ended()), sample, resume, ""}.String())
	golden(t, "report-interrupted.txt", Report{summary(interrupted), sample, resume, ""}.String())
	golden(t, "report-non-finite.txt", Report{summary(append(ended(), bad)), sample, resume, ""}.String())
	spiked := append(history(), ledger.RolledBack{At: at(42), Rollbacks: 1, Tokens: 300_000, Skipped: []ledger.Samples{{From: 8, To: 12}}},
		ledger.Spiked{At: at(43), Island: "fast", Verdict: ledger.Skipped, Samples: []ledger.Samples{{From: 20, To: 24}}},
		ledger.RunEnded{At: at(44), Outcome: ledger.RunFailed, Reason: "too many"})
	golden(t, "report-spikes.txt", Report{summary(spiked), sample, resume, ""}.String())
	golden(t, "report-nothing.txt", Report{summary(nil), sample, resume, ""}.String())
}
