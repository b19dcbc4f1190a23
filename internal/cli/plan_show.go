package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
)

// text is the answer for a reader, at most 100 columns wide.
func (p *planned) text(explain bool) string {
	out := &page{explain: explain}
	p.head(out)
	best := p.answer.Plans[0]
	p.best(out, best)
	p.alone(out)
	p.others(out)
	p.changes(out)
	p.pools(out)
	if p.reference != nil {
		p.reference.show(out, p)
	}
	if explain {
		explainPlan(out, best, p.answer.Currency)
	}
	p.foot(out)
	return out.String()
}

// table aligns rows; cells are apart by tabs.
func (p *page) table(rows ...string) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, row)
	}
	if err := w.Flush(); err != nil {
		panic("cli: " + err.Error()) // a strings.Builder takes everything
	}
	for line := range strings.Lines(b.String()) {
		p.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

// list writes sentences below a title; nothing without any.
func (p *page) list(title string, texts []string) {
	if len(texts) == 0 {
		return
	}
	p.note(title)
	for _, text := range texts {
		for i, line := range wrapped(text, columns-2) {
			p.WriteString([]string{"- ", "  "}[min(i, 1)] + line + "\n")
		}
	}
}

// cells are a row of a table.
func cells(some ...string) string { return strings.Join(some, "\t") }

// head says what was asked.
func (p *planned) head(out *page) {
	if p.example {
		out.note("An example: --model, --tokens and --fleet ask a question of yours. The prices of its fleet are those of a report of 2025.")
		out.WriteString("\n")
	}
	q, d := p.question, p.model.decoder
	total, active := d.Parameters().Total(), d.Parameters().Active()
	what := fmt.Sprintf("%s, %s parameters, %s active: %s tokens in %s, sequences of %d, %d in a step", d.Name, anatomy.Count(total), anatomy.Count(active), anatomy.Count(q.Tokens), q.Task.Format, q.Task.Sequence, q.Task.Batch)
	if q.Deadline > 0 {
		what += "; in " + lasting(q.Deadline)
	}
	if q.Budget > 0 {
		what += "; for " + money(q.Budget, q.Fleet.Currency)
	}
	out.note(what + ".")
	out.unread(p.model)
	out.note("Predicted, none of it measured; ranges are those in which 80 % of published runs of such chips lay.")
}

// best shows the first plan.
func (p *planned) best(out *page, best search.Plan) {
	word := "The cheapest"
	if p.question.Objective == search.Time {
		word = "The fastest"
	}
	out.section(fmt.Sprintf("%s: predicted %s, %s, MFU %s, %s of %s: %s", word, spanOfTime(best.Seconds), costOf(best.Cost, p.answer.Currency),
		percentOf(best.MFU), anatomy.Scaled(best.TokenRate, "tokens/s", "k tokens/s", "M tokens/s"), plural(best.Chips, "chip"), poolsOf(best)))
	if text := p.risk(best); text != "" {
		out.note(text)
	}
	out.WriteString("\n")
	rows := []string{cells("islands", "of chips", "batch", "a step", "range", "MFU", "memory", "of", "free")}
	var layouts []string
	for _, i := range best.Islands {
		rows = append(rows, cells(fmt.Sprintf("%d on %s", i.Count, clipped(i.Pool)), fmt.Sprint(i.Chips), fmt.Sprint(i.Batch), lasting(i.Step.Mid), three(i.Step.Low)+"–"+three(i.Step.High), percentOf(i.MFU),
			inGiB(i.Bytes), inGiB(i.Memory), percentOf(1-i.Bytes/i.Memory)))
		layouts = append(layouts, i.Pool+": "+inWords(i.Layout))
	}
	out.table(rows...)
	out.list("Layout of an island:", layouts)
	out.note(p.exchange(best))
	p.paid(out, best)
	out.list("What limits it:", p.answer.Limits)
}

// costOf is a cost in a sentence.
func costOf(s search.Span, currency string) string {
	if !known(s.Mid) {
		return "at a cost that is not known"
	}
	return spanOfMoney(s, currency)
}

// exchange says how the islands are merged, and what that takes on hosts.
func (p *planned) exchange(best search.Plan) string {
	n := 0
	for _, i := range best.Islands {
		n += i.Count
	}
	if n == 1 {
		return "One island: nothing is exchanged."
	}
	text := fmt.Sprintf("%d islands exchange %s, each every %s fleet tokens, through %s with %s in all", n, plural(best.Fragments, "fragment"), anatomy.Count(best.Period),
		plural(best.Syncers.Count, "syncer"), inBytes(best.Syncers.Bytes))
	var hosts []string
	for _, i := range best.Islands {
		if n := p.hardware(p.question.Fleet, i.Pool).NodeChips; i.HostBytes > 0 {
			hosts = append(hosts, fmt.Sprintf("%s %s", i.Pool, inBytes(i.HostBytes/float64(max(1, i.Chips/n)))))
		}
	}
	if len(hosts) > 0 {
		text += "; memory that it takes on each host: " + strings.Join(hosts, ", ")
	}
	return text + "."
}

// paid shows what time and cost are made of.
func (p *planned) paid(out *page, best search.Plan) {
	out.WriteString("\n")
	rows := []string{cells("time", "predicted", "range", "share")}
	for _, line := range best.Run {
		rows = append(rows, cells(line.Name, tookOf(line, lasting(line.Mid)), rangeOf(line), tookOf(line, percentOf(line.Mid/best.Seconds.Mid))))
	}
	out.table(rows...)
	out.WriteString("\n")
	rows = []string{cells("cost", "predicted", "an hour", "share")}
	for _, line := range best.Money {
		hourly := ""
		if line.Hourly > 0 {
			hourly = money(line.Hourly, p.answer.Currency)
		}
		rows = append(rows, cells(clipped(line.Name), paidOf(line, p.answer.Currency), hourly, shareOf(line, best.Cost.Mid)))
	}
	out.table(rows...)
	out.WriteString("\n")
}

// tookOf is what a line of the time takes, in words; not known is not nothing.
func tookOf(line plan.Line, words string) string {
	if line.Unknown != "" && line.Mid == 0 {
		return unknown
	}
	return words
}

// rangeOf is that of a line of the time; what is not known of it is in its worst.
func rangeOf(line plan.Line) string {
	unit, name := unitOfTime(line.High)
	return fmt.Sprintf("%s–%s %s", three(line.Low/unit), three(line.High/unit), name)
}

// paidOf is a line's amount of money; not known is not nothing.
func paidOf(line search.Line, currency string) string {
	if line.Unknown != "" {
		return unknown
	}
	return money(line.Amount, currency)
}

func shareOf(line search.Line, of float64) string {
	if line.Unknown != "" {
		return unknown
	}
	return percentOf(line.Amount / of)
}

// others shows the runners-up and the front.
func (p *planned) others(out *page) {
	list := func(title string, plans []search.Plan) {
		out.section(title)
		rows := []string{cells("", "time", "cost", "MFU", "pools")}
		for i, plan := range plans {
			rows = append(rows, cells(fmt.Sprint(i+1), lasting(plan.Seconds.Mid), money(plan.Cost.Mid, p.answer.Currency), percentOf(plan.MFU), shortPools(plan)))
		}
		out.table(rows...)
	}
	if len(p.answer.Plans) > 1 {
		list("That plan and the next best, predicted", p.answer.Plans)
	}
	if len(p.answer.Front) > 1 {
		list("Cost against time, predicted: nothing is both cheaper and faster than these", p.answer.Front)
	}
}

// shortPools is what a plan uses, in the width that a table has left.
func shortPools(plan search.Plan) string {
	text := poolsOf(plan)
	if len(plan.Islands) == 1 {
		text += ": " + inWords(plan.Islands[0].Layout)
	}
	return clippedTo(text, 60)
}

// changes shows how the answer moves with the question.
func (p *planned) changes(out *page) {
	if len(p.answer.Sensitivity) == 0 {
		return
	}
	out.section("One thing changed, and planned anew")
	rows, missing := []string{cells("change", "cost", "time", "islands")}, []string(nil)
	for _, c := range p.answer.Sensitivity {
		what, kept := clippedTo(c.What, 56), "others"
		if c.Kept {
			kept = "the same"
		}
		if c.Missing != "" {
			rows = append(rows, cells(what, unknown, unknown, unknown))
			missing = append(missing, c.What+": "+c.Missing)
			continue
		}
		rows = append(rows, cells(what, changeOf(c.Cost), changeOf(c.Seconds), kept))
	}
	out.table(rows...)
	out.list("Not known:", missing)
}

// foot says what was taken for granted, and how much was looked at.
func (p *planned) foot(out *page) {
	out.WriteString("\n")
	out.note(layoutLegend + " MFU: of the dense peak of all chips, causal attention, everything that takes time counted.")
	out.list("Taken for granted:", slices.Concat(p.taken, p.answer.Assumed))
	c := p.answer.Counts
	out.note(fmt.Sprintf("%s layouts, %s predicted, %s combinations of islands; catalogue of %s, constants of %s.", grouped(c.Layouts), grouped(c.Steps), grouped(c.Plans),
		p.catalogue.Date, p.constants))
	if p.out != "" {
		out.note("Written: " + p.out)
	}
}

// explainPlan shows each term with its formula.
func explainPlan(out *page, best search.Plan, currency string) {
	told := func(title string, terms []plan.Told, write func(float64) string) {
		out.section(title)
		for _, term := range terms {
			out.row(term.Name, write(term.Value))
			out.formula(term.Formula)
		}
	}
	for _, i := range best.Islands {
		told(fmt.Sprintf("A step of an island of %s, %s, predicted", i.Pool, spanOfTime(i.Step)), i.Terms, lasting)
		told(fmt.Sprintf("Memory of its fullest rank, %s of %s, predicted", inGiB(i.Bytes), inGiB(i.Memory)), i.Parts, inGiB)
	}
	out.section(fmt.Sprintf("The whole run, %s, predicted", spanOfTime(best.Seconds)))
	for _, line := range best.Run {
		out.row(line.Name, tookOf(line, lasting(line.Mid)))
		out.formula(joined(line.Formula, line.Unknown))
	}
	out.section("What it costs, predicted")
	for _, line := range best.Money {
		out.row(line.Name, paidOf(line, currency))
		out.formula(joined(line.Formula, line.Unknown))
	}
}
