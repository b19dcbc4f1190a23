package cli

import (
	"fmt"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan/assess"
	"github.com/mistura-project/mistura/internal/plan/search"
)

// assessText is the report for a reader, at most 100 columns wide.
func assessText(r assess.Report) string {
	out := &page{}
	out.note(fmt.Sprintf("%s in place of %s: training %s in %s, %d sequences of %d tokens a step.", r.Chip, r.Reference, r.Model, r.Format, r.Batch, r.Sequence))
	out.WriteString("\n")
	out.note(r.Verdict.Sentence)
	assessPerformance(out, r)
	assessScale(out, r)
	assessEcosystem(out, r.Ecosystem)
	out.WriteString("\n")
	out.note("How the verdict follows: " + r.Verdict.Rule)
	out.note(layoutLegend)
	out.note("Grades are of the weakest figure of the catalogue behind a section: " + gradeLegend() + ".")
	return out.String()
}

// graded is the title of a section with the grade of what it rests on.
func graded(title string, g chip.Grade) string {
	if g == "" {
		return title
	}
	return fmt.Sprintf("%s; grade %s, %s", title, g, g.Means())
}

// assessPerformance shows the two chips beside each other.
func assessPerformance(out *page, r assess.Report) {
	p := r.Performance
	out.section(graded(fmt.Sprintf("Performance, predicted for %d chips", p.Chip.Chips), p.Grade))
	out.WriteString("\n")
	rows := []string{cells("", p.Chip.Chip, p.Reference.Chip)}
	both := func(name string, write func(assess.Side) string) {
		rows = append(rows, cells(name, write(p.Chip), write(p.Reference)))
	}
	both("step", func(s assess.Side) string { return predictedOr(s, s.Step, spanOfTime) })
	both("MFU", func(s assess.Side) string { return predictedOr(s, s.MFU, spanOfPercent) })
	both("tokens/s a chip", func(s assess.Side) string { return predictedOr(s, s.Rate, spanOf) })
	both("layout", func(s assess.Side) string { return shortened(layoutInWords(s.Layout), sideRoom) })
	both("memory a chip", memoryInWords)
	for i, name := range []string{"most of a step", "then", "then"} {
		both(name, func(s assess.Side) string { return nthTerm(s, i) })
	}
	both("price of a chip-hour", func(s assess.Side) string { return priceInWords(s.Price, s.Currency) })
	both("1T tokens, steps alone", func(s assess.Side) string {
		if s.Cost == nil {
			return unknown
		}
		return spanOfMoney(search.Span(*s.Cost), s.Currency)
	})
	both("published runs", func(s assess.Side) string { return provenInWords(s.Evidence) })
	out.table(rows...)
	out.note("Published runs: those that can be compared, on how many of them nothing was fitted, and the median and 90th percentile of the error of their step times.")
	if p.Rate != nil {
		out.note(fmt.Sprintf("One %s does %s of the work of a %s.", p.Chip.Chip, spanOfPercent(search.Span(*p.Rate)), p.Reference.Chip))
	}
	if p.Worth != nil {
		out.note(fmt.Sprintf("Both cost the same at %s %s for a chip-hour of %s.", spanOf(search.Span(*p.Worth)), p.Currency, p.Chip.Chip))
	}
	for _, run := range p.Runs {
		text := fmt.Sprintf("Published: 1T tokens of %s took %s chip-hours, which implies an MFU of %s (6 FLOP a token and active parameter)", run.Model, grouped(int64(run.Hours)), percentOf(run.MFU))
		if run.Gap != nil {
			text += fmt.Sprintf("; predicted, of steps alone: %s", changeOf(*run.Gap))
		}
		out.note(text + ". " + run.Source)
	}
	for _, s := range []assess.Side{p.Chip, p.Reference} {
		if len(s.Assumed) > 0 {
			out.note(s.Chip + ", assumed: " + strings.Join(s.Assumed, "; ") + ".")
		}
	}
}

// assessScale shows the chip at more and more chips.
func assessScale(out *page, r assess.Report) {
	s := r.Scalability
	out.section(graded("Scalability, predicted, the same batch at every number of chips", s.Grade))
	out.WriteString("\n")
	rows := []string{cells("chips", "step", "MFU", "eff.", "ref.", "bound by", "layout")}
	for i, row := range s.Rows {
		other := "–"
		if e := s.Reference[i].Efficiency; e != nil {
			other = roughly(*e)
		}
		if row.Missing != "" {
			rows = append(rows, cells(fmt.Sprint(row.Chips), "–", "–", "–", other, row.Missing, "–"))
			continue
		}
		bound := fmt.Sprintf("%s %s", strings.TrimSuffix(row.Bound, " traffic"), roughly(row.BoundShare))
		rows = append(rows, cells(fmt.Sprint(row.Chips), lasting(row.Step.Mid), roughly(row.MFU.Mid), roughly(*row.Efficiency), other, bound, shortened(layoutInWords(row.Layout), layoutRoom)))
	}
	out.table(rows...)
	out.note("eff.: efficiency, tokens/s of a chip over those where they are highest; ref.: that of the reference. Bound by: what takes most of a step beside the model's own products. Failures: " + s.Failure + ".")
}

// What tables have left for a layout: that of scales, and a column of two.
const (
	layoutRoom = 34
	sideRoom   = 37
)

// shortened is a text of at most so many characters.
func shortened(s string, most int) string {
	if text := []rune(s); len(text) > most {
		return string(text[:most-1]) + "…"
	}
	return s
}

// roughly writes a share without decimals.
func roughly(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

// assessEcosystem shows what software there is.
func assessEcosystem(out *page, e assess.Ecosystem) {
	out.section(graded("Ecosystem", e.Grade))
	out.WriteString("\n")
	for _, item := range e.Items {
		showLine(&out.Builder, item.Name, item.Said, chip.Figure{Grade: item.Grade, Source: item.Source, Date: item.Date})
	}
	for _, item := range e.Traps {
		showLine(&out.Builder, "numeric trap", item.Said, chip.Figure{Grade: item.Grade, Source: item.Source, Date: item.Date})
	}
	if len(e.Unknown) > 0 {
		out.note("Not known: " + strings.Join(e.Unknown, "; ") + ".")
	}
}

// predictedOr writes a span, or that there is none.
func predictedOr(s assess.Side, x *assess.Span, write func(search.Span) string) string {
	switch {
	case x == nil && s.Missing != "":
		return s.Missing
	case x == nil:
		return unknown
	}
	return write(search.Span(*x))
}

func spanOf(s search.Span) string {
	if s.High < 1.005*s.Low {
		return three(s.Mid)
	}
	return fmt.Sprintf("%s (%s–%s)", three(s.Mid), three(s.Low), three(s.High))
}

func spanOfPercent(s search.Span) string {
	return fmt.Sprintf("%.1f %% (%.1f–%.1f)", 100*s.Mid, 100*s.Low, 100*s.High)
}

func priceInWords(x *assess.Span, currency string) string {
	if x == nil {
		return unknown
	}
	if x.Low == x.High {
		return three(x.Mid) + " " + currency
	}
	return fmt.Sprintf("%s–%s %s", three(x.Low), three(x.High), currency)
}

func memoryInWords(s assess.Side) string {
	if s.Memory == 0 {
		return unknown
	}
	if s.Layout == nil {
		return "of " + inGiB(s.Memory)
	}
	return fmt.Sprintf("%s of %s", inGiB(s.Bytes), inGiB(s.Memory))
}

// nthTerm is a term that takes much of a step.
func nthTerm(s assess.Side, i int) string {
	if i >= len(s.Terms) {
		return ""
	}
	return s.Terms[i].Name + " " + roughly(s.Terms[i].Share)
}

func layoutInWords(l *assess.Layout) string {
	if l == nil {
		return ""
	}
	return inWords(l.Plan())
}

func provenInWords(e assess.Evidence) string {
	switch {
	case e.Runs == 0:
		return "none: unproven"
	case !e.Proven():
		return fmt.Sprintf("%d: unproven", e.Runs)
	}
	return fmt.Sprintf("%d (%d unseen): %.1f %%, p90 %.1f %%", e.Runs, e.Tests, 100**e.Median, 100**e.P90)
}
