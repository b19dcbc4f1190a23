package dash

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/ledger"
)

// barColumns is the width of the bar where there is room for it.
const barColumns = 24

// block draws the state of a run in at most so many columns and rows.
func block(s *ledger.Status, columns, rows int, color bool) []string {
	lines := []string{
		head(s, columns, color),
		newRow(columns, color).
			add(normal, "loss "+s.TrainLoss.Text(3)).
			add(normal, "validation "+validation(s)).
			add(normal, speed(s.TokensPerSecond())).
			add(normal, count(s.Merges, "merge")).
			add(normal, Clock(s.Elapsed())+" so far").
			add(faint, baseline("bigram", s.Run.BigramNats)).String(),
	}
	if waiting := s.Waiting(); waiting != "" {
		lines = append(lines, newRow(columns, color).add(normal, waiting).String())
	}
	for _, trouble := range troubles(s) {
		lines = append(lines, newRow(columns, color).add(warning, trouble).String())
	}
	return append(lines, islands(s, columns, max(1, rows-len(lines)), color)...)
}

// head is the line with the bar: done of goal and the time left.
func head(s *ledger.Status, columns int, color bool) string {
	share := done(s)
	r := newRow(columns, color).add(strong, clean(filepath.Base(s.Run.Dir)))
	percent := fmt.Sprintf("%3.0f %%", 100*share)
	tokens := fmt.Sprintf("%s of %s tokens", ledger.Amount(float64(s.Consumed)), ledger.Amount(float64(s.Run.Tokens)))
	left := "time left unknown"
	if t, ok := s.Left(); ok {
		left = Clock(t) + " left"
	}
	room := columns - r.used - len(percent) - len(tokens) - len(left) - 8
	if n := min(room, barColumns); n >= 5 {
		full, empty := bar(share, n)
		r.add(good, full)
		if full == "" {
			r.add(faint, empty)
		} else {
			r.attach(faint, empty)
		}
	}
	return r.add(normal, percent).add(normal, tokens).add(normal, left).String()
}

// islands is one line for each, in columns; those beyond the rows are counted.
func islands(s *ledger.Status, columns, rows int, color bool) []string {
	shown, rest := s.Islands, 0
	if len(shown) > rows {
		shown, rest = shown[:rows-1], len(shown)-rows+1
	}
	width := 0
	for _, i := range shown {
		width = max(width, utf8.RuneCountInString(i.Name))
	}
	var lines []string
	for _, i := range shown {
		r := newRow(columns, color).add(normal, "  "+pad(clean(i.Name), width))
		switch i.State {
		case ledger.Training:
			r.add(good, pad(string(i.State), 8))
		case ledger.Away:
			r.add(warning, pad(string(i.State), 8))
		default:
			r.add(normal, pad(string(i.State), 8))
		}
		r.add(normal, fmt.Sprintf("%15s", speed(i.Speed(s.Now)))).
			add(normal, fmt.Sprintf("%5s tokens", ledger.Amount(float64(i.Tokens)))).
			add(normal, fmt.Sprintf("%4s", percent(s.Share(i)))).
			add(normal, "loss "+i.Loss.Text(3)).
			add(faint, "norm "+i.GradientNorm.Text(2)).
			add(faint, "load "+i.ExpertLoad.Text(2)).
			add(warning, restarts(i.Restarts)).
			add(faint, i.Numeric)
		lines = append(lines, r.String())
	}
	if rest > 0 {
		lines = append(lines, newRow(columns, color).add(normal, fmt.Sprintf("  and %d more", rest)).String())
	}
	return lines
}

// troubles is what holds the run up.
func troubles(s *ledger.Status) []string {
	var out []string
	if s.Paused != "" {
		out = append(out, "merges pause: "+clean(s.Paused))
	}
	if s.Held != "" {
		out = append(out, "checkpoints wait: "+clean(s.Held))
	}
	return out
}

// plain is the state of a run on one line.
func plain(s *ledger.Status) string {
	parts := []string{
		fmt.Sprintf("%s of %s tokens (%.0f %%)", ledger.Amount(float64(s.Consumed)), ledger.Amount(float64(s.Run.Tokens)), 100*done(s)),
		"loss " + s.TrainLoss.Text(3),
	}
	if _, ok := s.ValidLoss.Get(); ok {
		parts = append(parts, "validation "+validation(s))
	}
	var each []string
	for _, i := range s.Islands {
		each = append(each, fmt.Sprintf("%s %s, norm %s, load %s", clean(i.Name), rate(i.Speed(s.Now)), i.GradientNorm.Text(2), i.ExpertLoad.Text(2)))
	}
	parts = append(parts, fmt.Sprintf("%s (%s)", speed(s.TokensPerSecond()), strings.Join(each, "; ")), count(s.Merges, "merge"))
	if t, ok := s.Left(); ok {
		parts = append(parts, Clock(t)+" left")
	}
	if waiting := s.Waiting(); waiting != "" {
		parts = append(parts, waiting)
	}
	return strings.Join(append(parts, troubles(s)...), ", ")
}

func done(s *ledger.Status) float64 {
	if s.Run.Tokens <= 0 {
		return 0
	}
	return min(1, float64(s.Consumed)/float64(s.Run.Tokens))
}

func validation(s *ledger.Status) string {
	if s.ValidLoss == (ledger.Value{}) {
		return "-"
	}
	return fmt.Sprintf("%s at %s", s.ValidLoss.Text(3), ledger.Amount(float64(s.ValidTokens)))
}

func baseline(name string, nats float64) string {
	if nats == 0 {
		return ""
	}
	return fmt.Sprintf("%s %.3f", name, nats)
}

func speed(v ledger.Value) string { return rate(v) + " tokens/s" }

func rate(v ledger.Value) string {
	if x, ok := v.Get(); ok {
		return ledger.Amount(x)
	}
	return "-"
}

func percent(v ledger.Value) string {
	if x, ok := v.Get(); ok {
		return fmt.Sprintf("%.0f %%", 100*x)
	}
	return "-"
}

func restarts(n int) string {
	if n == 0 {
		return ""
	}
	return count(n, "restart")
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
