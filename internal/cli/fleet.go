package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/dash"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
)

// showFleet is a fleet as lines, for a screen of so many columns; 0: it is no screen, and every
// island has one line. What islands and coordinator say of themselves steers no terminal.
func showFleet(f ledger.Fleet, columns int) string {
	var lines []string
	say := func(text string) { lines = append(lines, dash.Wrap(oneLine(text), columns, 2)) }
	say(fmt.Sprintf("run %s, era %d, %s: %s of %s tokens, %s tokens/s, loss %s, validation loss %s, %d merges%s",
		f.RunID, f.Era, dash.Clock(time.Duration(f.Seconds*float64(time.Second))), ledger.Amount(float64(f.Tokens)), ledger.Amount(float64(f.GoalTokens)),
		amountOf(f.TokensPerSecond), f.Loss.Text(3), f.ValidLoss.Text(3), f.Merges, versions(f.Versions)))
	samples := ""
	if f.OwnData {
		samples = "not tracked (S2): islands bring their own data"
	}
	for _, line := range []struct{ what, text string }{{"", f.Waiting}, {"merges pause: ", f.Paused}, {"saves wait: ", f.Held}, {"samples: ", samples}} {
		if line.text != "" {
			say(line.what + line.text)
		}
	}
	if len(f.Islands) > 0 {
		lines = append(lines, members(f.Islands, columns)...)
	}
	return strings.Join(lines, "\n") + "\n"
}

// members are the islands as a table: whole lines where there is room, else with what is words
// below the numbers of each.
func members(of []ledger.Member, columns int) []string {
	whole := table(of, func(m ledger.Member) []string {
		return []string{m.Name, fmt.Sprint(m.Incarnation), string(m.State), cmp.Or(m.Gate, "-"), cmp.Or(m.Kind, "-"), from(m), note(m)}
	}, "island", "life", "state", "gate", "kind", "from")
	if columns <= 0 || !slices.ContainsFunc(whole, func(line string) bool { return utf8.RuneCountInString(line) > columns }) {
		return whole
	}
	numbers := table(of, func(m ledger.Member) []string {
		return []string{m.Name, fmt.Sprint(m.Incarnation), string(m.State), ""}
	}, "island", "life", "state")
	lines := numbers[:1:1]
	for i, m := range of {
		lines = append(lines, numbers[1+i])
		var words []string
		for _, word := range []string{m.Kind, strings.TrimSuffix("from "+from(m), "from -"), strings.TrimSuffix("gate "+m.Gate, "gate "), note(m)} {
			if word != "" {
				words = append(words, oneLine(word))
			}
		}
		if len(words) > 0 {
			lines = append(lines, dash.Wrap("    "+strings.Join(words, "; "), columns, 4))
		}
	}
	return lines
}

// table is a line for the heads and one for each member: its first columns, its numbers, and its
// last one.
func table(of []ledger.Member, row func(ledger.Member) []string, heads ...string) []string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	write := func(cells []string) {
		for i := range cells {
			cells[i] = oneLine(cells[i])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	write(append(heads, "tokens", "tokens/s", "busy s/step", "of its kind", "loss", ""))
	for _, m := range of {
		cells := row(m)
		last := len(cells) - 1
		numbers := []string{ledger.Amount(float64(m.Tokens)), amountOf(m.TokensPerSecond), m.BusySeconds.Text(3), m.Ratio.Text(2), m.Loss.Text(3)}
		write(append(append(cells[:last:last], numbers...), cells[last]))
	}
	w.Flush() //nolint:errcheck // a Builder takes everything
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// versions is how far the fragments have come, behind the number of merges.
func versions(of []uint64) string {
	if len(of) == 0 {
		return ""
	}
	least, most := slices.Min(of), slices.Max(of)
	if least == most {
		return fmt.Sprintf(", %d fragments at version %d", len(of), most)
	}
	return fmt.Sprintf(", %d fragments at version %d to %d", len(of), least, most)
}

func amountOf(v ledger.Value) string {
	if x, ok := v.Get(); ok {
		return ledger.Amount(x)
	}
	return v.Text(0)
}

// from is where a member came from.
func from(m ledger.Member) string {
	if m.State == ledger.Awaited {
		return "-"
	}
	return cmp.Or(m.Host, "here")
}

// note is what else there is to say of a member.
func note(m ledger.Member) string {
	said := m.Why
	if m.State == ledger.Away {
		said = m.Reason
	}
	if m.Unrestored != "" {
		said = strings.TrimPrefix(said+"; ", "; ") + "without its saved state: " + m.Unrestored
	}
	if why := atGate(m); why != "" && !strings.Contains(said, m.GateReason) {
		said = strings.TrimPrefix(said+"; ", "; ") + why
	}
	return said
}

// atGate is what there is to say of a member's gate; that one which the run has started itself
// and which computes as it does was not asked is nothing to say.
func atGate(m ledger.Member) string {
	switch {
	case m.Gate == ledger.TurnedBack:
		return "refused at the gate: " + m.GateReason
	case m.Gate == ledger.Pending && m.GateReason != "":
		return "refused at the gate before: " + m.GateReason
	case m.Gate == ledger.LetIn && (m.Host != "" || m.Engine != runfile.Native):
		return "not compared: " + m.GateReason
	}
	return ""
}
