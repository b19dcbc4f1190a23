package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/plan/search"
)

// risk says that the range of the first plan goes beyond the deadline or the budget, which
// its middle keeps, and the next plan whose range does not; empty: it does not either.
func (p *planned) risk(best search.Plan) string {
	var beyond []string
	if d := p.question.Deadline; d > 0 && best.Seconds.High > d {
		beyond = append(beyond, "the deadline of "+lasting(d))
	}
	if b := p.question.Budget; b > 0 && best.Cost.High > b {
		beyond = append(beyond, "the budget of "+money(b, p.answer.Currency))
	}
	if len(beyond) == 0 {
		return ""
	}
	text := "The upper end of its range is beyond " + strings.Join(beyond, " and ") + "; "
	some := slices.Concat(p.answer.Plans, p.answer.Front)
	at := slices.IndexFunc(some, p.safe)
	if at < 0 {
		return text + "no plan below keeps that to the upper end of its range."
	}
	return text + fmt.Sprintf("the first plan below whose range keeps it takes %s, %s: %s.", spanOfTime(some[at].Seconds), costOf(some[at].Cost, p.answer.Currency), poolsOf(some[at]))
}

// safe says that a plan keeps deadline and budget to the upper end of its range.
func (p *planned) safe(of search.Plan) bool {
	d, b := p.question.Deadline, p.question.Budget
	return (d == 0 || of.Seconds.High <= d) && (b == 0 || of.Cost.High <= b)
}
