package cli

import (
	"fmt"
	"math"
	"strings"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
)

// inWords writes a layout: degrees of 1 are left out, but for dp.
func inWords(l plan.Layout) string {
	var words []string
	add := func(name string, n int) {
		if n > 1 {
			words = append(words, fmt.Sprintf("%s%d", name, n))
		}
	}
	add("tp", l.TP)
	add("pp", l.PP)
	add("vpp", l.VPP)
	add("ep", l.EP)
	add("etp", l.ETP)
	add("cp", l.CP)
	words = append(words, fmt.Sprintf("dp%d mb%d", l.DP, l.MicroBatch))
	add("zero", l.ZeRO+1)
	if n := len(words) - 1; l.ZeRO > 0 {
		words[n] = fmt.Sprintf("zero%d", l.ZeRO)
	}
	if l.Recompute != "" && l.Recompute != anatomy.NoRecompute {
		words = append(words, string(l.Recompute))
	}
	return strings.Join(words, " ")
}

// layoutLegend says what the words of a layout are.
const layoutLegend = `Layouts: tensor-parallel, pipeline stages, virtual stages of a rank, expert-parallel, an expert's tensor-parallel, context-parallel and ` +
	`data-parallel ranks, sequences of a micro-batch, stage of ZeRO, what is recomputed; degrees of 1 are left out.`

// poolsOf writes which islands a plan has.
func poolsOf(p search.Plan) string {
	var words []string
	for _, i := range p.Islands {
		words = append(words, fmt.Sprintf("%s %s", i.Pool, times(i.Count, i.Chips)))
	}
	return strings.Join(words, " + ")
}

// clipped is a name in a table.
func clipped(name string) string { return clippedTo(name, 20) }

// clippedTo is the beginning of a text that is longer than there is room.
func clippedTo(text string, room int) string {
	if letters := []rune(text); len(letters) > room {
		return string(letters[:room-1]) + "…"
	}
	return text
}

// times writes a number of islands and the chips of each.
func times(n, each int) string {
	if n == 1 {
		return fmt.Sprintf("%d", each)
	}
	return fmt.Sprintf("%d×%d", n, each)
}

// lasting writes a time in the unit that suits it.
func lasting(seconds float64) string {
	unit, name := unitOfTime(seconds)
	return fmt.Sprintf("%s %s", three(seconds/unit), name)
}

// spanOfTime writes a time with its range.
func spanOfTime(s search.Span) string {
	unit, name := unitOfTime(s.Mid)
	return fmt.Sprintf("%s %s (%s–%s)", three(s.Mid/unit), name, three(s.Low/unit), three(s.High/unit))
}

func unitOfTime(seconds float64) (float64, string) {
	switch {
	case seconds >= 2*day:
		return day, "days"
	case seconds >= 2*3600:
		return 3600, "h"
	case seconds >= 120:
		return 60, "min"
	}
	return 1, "s"
}

// three writes three digits that count.
func three(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x):
		return unknown
	case a >= 99.95 || x == 0:
		return fmt.Sprintf("%.0f", x)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", x)
	case a >= 0.0995:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.2g", x)
}

// money writes an amount.
func money(x float64, currency string) string {
	if !known(x) {
		return unknown
	}
	unit, name := unitOfMoney(x)
	return strings.TrimSpace(fmt.Sprintf("%s %s", strings.TrimSpace(three(x/unit)+" "+name), currency))
}

// spanOfMoney writes an amount with its range.
func spanOfMoney(s search.Span, currency string) string {
	if !known(s.Mid) {
		return unknown
	}
	unit, _ := unitOfMoney(s.Mid)
	return fmt.Sprintf("%s (%s–%s)", money(s.Mid, currency), three(s.Low/unit), three(s.High/unit))
}

func unitOfMoney(x float64) (float64, string) {
	switch {
	case x >= 999.5e6:
		return 1e9, "B"
	case x >= 999.5e3:
		return 1e6, "M"
	case x >= 9995:
		return 1e3, "k"
	}
	return 1, ""
}

func known(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// percentOf writes a share.
func percentOf(x float64) string {
	if !known(x) {
		return unknown
	}
	return fmt.Sprintf("%.1f %%", 100*x)
}

// changeOf writes a difference as a share, with its sign.
func changeOf(x float64) string {
	switch {
	case !known(x):
		return unknown
	case math.Abs(x) < 5e-4:
		return "0"
	}
	return fmt.Sprintf("%+.1f %%", 100*x)
}
