package assess

import (
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/chip"
)

// Sizes are the numbers of chips that are looked at.
func Sizes() []int {
	var all []int
	for n := 8; n <= 8192; n *= 2 {
		all = append(all, n)
	}
	return all
}

// Answer judges the chip.
func (q Question) Answer() Report {
	r := Report{Chip: q.Chip.Name, Reference: q.Reference.Name, Model: q.Model.Name, Sequence: q.Sequence, Batch: q.Batch, Format: q.Format}
	own, ownErr := q.oracle(q.Chip)
	other, otherErr := q.oracle(q.Reference)
	r.Scalability = Scalability{Grade: chip.Worst(q.figures(chip.LinkGBs, chip.LinkGroup, chip.NICGbits)...), Rows: own.rows(ownErr), Reference: other.rows(otherErr), Failure: failures(q.Chip)}
	at := q.compared(r.Scalability)
	r.Performance = Performance{
		Grade: chip.Worst(q.figures(chip.BF16, chip.MemoryGB, chip.BandwidthGBs, chip.LinkGBs, chip.NICGbits)...),
		Chip:  own.side(q.Chip, at, ownErr), Reference: other.side(q.Reference, at, otherErr),
	}
	r.Performance.Runs = q.wholeRuns(r.Performance.Chip)
	r.Performance.price(q.Chip, q.Reference)
	r.Ecosystem = q.ecosystem(r.Performance.Chip)
	r.Verdict = q.verdict(r)
	return r
}

// compared is the number of chips at which the two are compared: the one that is asked
// for, or the next at which both hold the model.
func (q Question) compared(s Scalability) int {
	for i, row := range s.Rows {
		if row.Chips >= q.Chips && row.Missing == "" && s.Reference[i].Missing == "" {
			return row.Chips
		}
	}
	return q.Chips
}

func (q Question) figures(fields ...chip.Field) []chip.Figure {
	var all []chip.Figure
	for _, f := range fields {
		all = append(all, q.Chip.Of(f))
	}
	return all
}

// rows predicts every number of chips. With an error of the chip none is predicted.
func (o oracle) rows(err error) []Row {
	all := make([]Row, 0, len(Sizes()))
	for _, n := range Sizes() {
		if err != nil {
			all = append(all, Row{Chips: n, Missing: reason(err)})
			continue
		}
		all = append(all, o.row(n))
	}
	most := 0.0
	for _, r := range all {
		most = max(most, r.rate())
	}
	for i, r := range all {
		if r.Missing == "" {
			efficiency := r.rate() / most
			all[i].Efficiency = &efficiency
		}
	}
	return all
}

// row predicts one number of chips.
func (o oracle) row(n int) Row {
	l, step, short, ok := o.fastest(n)
	if !ok {
		return unfit(n, short)
	}
	span, most := o.span(l, step), bound(step)
	mfu := o.mfu(span, n)
	return Row{Chips: n, Layout: layoutOf(l), Step: &span, MFU: &mfu, Bound: most.Name, BoundShare: most.Share}
}

// rate is steps a second and chip; 0 if nothing is predicted.
func (r Row) rate() float64 {
	if r.Step == nil {
		return 0
	}
	return 1 / (r.Step.Mid * float64(r.Chips))
}

// unfit is a number of chips that cannot have the model.
func unfit(n int, short float64) Row {
	if math.IsInf(short, 1) {
		return Row{Chips: n, Missing: "the batch is too small for so many"}
	}
	return Row{Chips: n, Missing: fmt.Sprintf("lacks %.0f GiB a chip", short/(1<<30)), Short: short}
}

// side predicts a chip at n chips.
func (o oracle) side(c chip.Chip, n int, err error) Side {
	s := Side{Chip: c.Name, Chips: n, Assumed: []string{}, Terms: []Share{}, Evidence: evidenceOf(c.Name)}
	if err != nil {
		s.Missing = reason(err)
		return s
	}
	s.Assumed, s.Memory = append(s.Assumed, o.machine.assumed...), o.machine.mid.Memory
	l, step, short, ok := o.fastest(n)
	if !ok {
		s.Missing = unfit(n, short).Missing
		return s
	}
	span := o.span(l, step)
	mfu := o.mfu(span, n)
	rate := span.under(float64(o.task.Batch) * float64(o.task.Sequence) / float64(n))
	s.Layout, s.Step, s.MFU, s.Rate, s.Bytes, s.Terms = layoutOf(l), &span, &mfu, &rate, step.Bytes(), shares(step)
	return s
}

// failures says how often a chip interrupts a job.
func failures(c chip.Chip) string {
	f := c.Of(chip.MTBFHours)
	low, high, ok := f.Range()
	if !ok {
		return "not known: nobody publishes how often it interrupts a job"
	}
	text := fmt.Sprintf("%.0f to %.0f h of a chip between interruptions", low, high)
	if low == high {
		text = fmt.Sprintf("%.0f h of a chip between interruptions", low)
	}
	return fmt.Sprintf("%s (grade %s): of 8192 chips every %.1f h", text, f.Grade, (low+high)/2/8192)
}
