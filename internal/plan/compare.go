package plan

import "math"

// SixN is the work of training by the rule of thumb that published costs are counted
// with: six operations for each token and parameter that it uses, attention left out
// (Kaplan et al., arXiv 2001.08361, section 2.1).
func SixN(active, tokens float64) float64 { return 6 * active * tokens }

// ImpliedMFU is the utilisation of chips that did some work in that many seconds of one
// chip; NaN if one of the numbers is not known.
func ImpliedMFU(work, chipSeconds, peak float64) float64 {
	if !(work > 0 && chipSeconds > 0 && peak > 0) {
		return math.NaN()
	}
	return work / (chipSeconds * peak)
}

// Side is a whole run, as far as another is compared with it.
type Side struct {
	Seconds Range
	Cost    Range   // in the same currency as the other's; zero: not known
	Peak    float64 // FLOP/s of all its chips
	Work    float64 // FLOP, as models are counted
}

// MFU is its utilisation, everything that takes time counted.
func (s Side) MFU() Range {
	return Range{ImpliedMFU(s.Work, s.Seconds.High, s.Peak), ImpliedMFU(s.Work, s.Seconds.Mid, s.Peak), ImpliedMFU(s.Work, s.Seconds.Low, s.Peak)}
}

// dear is what an operation costs that the chips could do at their peak.
func (s Side) dear() float64 { return s.Cost.Mid / (s.Seconds.Mid * s.Peak) }

// Comparison is a run beside a reference. A number that cannot be had is NaN.
type Comparison struct {
	Saving   Range   // of the reference's cost; below 0 the run is dearer
	Time     Range   // of the run in times of the reference
	MFURatio float64 // of the run over the reference
	// BreakEven is the ratio of utilisations at which both cost the same: the run is
	// cheaper while MFURatio is above it.
	BreakEven float64
}

// Against compares a run with a reference.
func (s Side) Against(reference Side) Comparison {
	c := Comparison{Time: Over(s.Seconds, reference.Seconds), MFURatio: s.MFU().Mid / reference.MFU().Mid, BreakEven: s.dear() / reference.dear()}
	cost := Over(s.Cost, reference.Cost)
	c.Saving = Range{1 - cost.High, 1 - cost.Mid, 1 - cost.Low}
	if !(c.BreakEven > 0 && c.BreakEven < math.Inf(1)) {
		c.BreakEven = math.NaN()
	}
	return c
}

// Over divides two ranges. What one may be off says nothing of the other, so that
// their widths add up as independent errors do, in logarithms.
func Over(a, b Range) Range {
	if !(a.Low > 0 && b.Low > 0) {
		return Range{math.NaN(), math.NaN(), math.NaN()}
	}
	mid := a.Mid / b.Mid
	down := math.Hypot(math.Log(a.Mid/a.Low), math.Log(b.High/b.Mid))
	up := math.Hypot(math.Log(a.High/a.Mid), math.Log(b.Mid/b.Low))
	return Range{mid * math.Exp(-down), mid, mid * math.Exp(up)}
}
