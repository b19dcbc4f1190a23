package dash

import (
	"fmt"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/ledger"
)

// Report is the text that closes a run: what came out and what to do next.
type Report struct {
	Summary ledger.Summary
	Sample  string // command that samples from the result
	Resume  string // command that goes on
	Anew    string // command that begins again, where there is nothing to go on from
}

// String is several lines, the last one ended.
func (r Report) String() string {
	s := r.Summary
	var b strings.Builder
	preposition := "after"
	if s.Outcome == ledger.RunFinished {
		preposition = "in"
	}
	fmt.Fprintf(&b, "%s %s %s: %s of %s tokens, %s\n", s.Outcome, preposition, Clock(time.Duration(s.Seconds*float64(time.Second))),
		ledger.Amount(float64(s.Tokens)), ledger.Amount(float64(s.GoalTokens)), count(s.Merges, "merge"))
	names := []string{"validation loss"}
	for _, i := range s.Islands {
		names = append(names, i.Name)
	}
	width := 0
	for _, n := range names {
		width = max(width, len(n))
	}
	item := func(name, text string) { fmt.Fprintf(&b, "  %s  %s\n", pad(clean(name), width), text) }
	item("validation loss", validationText(s))
	item("training loss", s.TrainLoss.Text(3))
	for _, i := range s.Islands {
		item(i.Name, islandText(i))
	}
	if !s.Tracked {
		item("samples", "not tracked (S2): islands bring their own data")
	}
	if s.Spikes+s.Rollbacks > 0 {
		item("spikes", spikeText(s))
	}
	if s.Checkpoint != nil {
		item("checkpoint", *s.Checkpoint)
	} else {
		item("checkpoint", "none")
	}
	r.next(&b)
	return b.String()
}

// spikeText is what the spike rule did.
func spikeText(s ledger.Summary) string {
	var left int64
	for _, r := range s.SkippedSamples {
		left += r.To - r.From
	}
	return fmt.Sprintf("%s, %s, %s left out", count(s.Spikes, "step"), count(s.Rollbacks, "rollback"), count(int(left), "sample"))
}

// next says how to go on: sample from what is finished, resume what is not.
func (r Report) next(b *strings.Builder) {
	s := r.Summary
	if s.Outcome != ledger.RunFinished && r.Resume != "" {
		fmt.Fprintf(b, "go on with\n  %s\n", r.Resume)
	}
	if s.Outcome != ledger.RunFinished && r.Anew != "" {
		fmt.Fprintf(b, "nothing is saved to go on from; begin anew with\n  %s\n", r.Anew)
	}
	if s.Checkpoint != nil && r.Sample != "" {
		fmt.Fprintf(b, "sample from it with\n  %s\n", r.Sample)
	}
}

// validationText is the validation loss beside what counting bytes achieves.
func validationText(s ledger.Summary) string {
	text := s.ValidLoss.Text(3)
	loss, ok := s.ValidLoss.Get()
	if !ok {
		if text == "-" {
			text = "not measured"
		}
		return text
	}
	var beaten, others []string
	for _, base := range []struct {
		name string
		nats ledger.Value
	}{{"bigram", s.BigramNats}, {"trigram", s.TrigramNats}} {
		nats, ok := base.nats.Get()
		if !ok {
			continue
		}
		if entry := fmt.Sprintf("the byte %s (%.3f)", base.name, nats); loss < nats {
			beaten = append(beaten, entry)
		} else {
			others = append(others, entry)
		}
	}
	if len(beaten) > 0 {
		text += ", below " + strings.Join(beaten, " and ")
	}
	if len(others) > 0 {
		text += ", not below " + strings.Join(others, " or ")
	}
	if s.ValidIsland != nil {
		text += ", by " + clean(*s.ValidIsland)
	}
	if !s.ValidFinal {
		text += fmt.Sprintf(", measured at %s tokens", ledger.Amount(float64(s.ValidTokens)))
	}
	return text
}

func islandText(i ledger.IslandSummary) string {
	fields := []string{
		fmt.Sprintf("%5s tokens", ledger.Amount(float64(i.Tokens))),
		fmt.Sprintf("%5s", percent(i.Share)),
		fmt.Sprintf("%15s", speed(i.TokensPerSecond)),
		count(int(i.Steps), "step"),
	}
	if i.Numeric != nil && *i.Numeric != "fp32" {
		fields = append(fields, *i.Numeric)
	}
	if i.Gate != nil && *i.Gate == ledger.TurnedBack {
		fields = append(fields, "refused at the gate")
	}
	for _, extra := range []string{restarts(i.Restarts), some(i.Dropped, "dropped"), some(i.Refused, "refused")} {
		if extra != "" {
			fields = append(fields, extra)
		}
	}
	return strings.Join(fields, "  ")
}

// some counts what only deserves a word when it happened.
func some(n int, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s", n, what)
}
