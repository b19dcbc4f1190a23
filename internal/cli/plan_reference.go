package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
)

// referenced is the best plan on another fleet, and this one beside it.
type referenced struct {
	fleet      fleet.Fleet
	best       search.Plan
	comparison plan.Comparison
}

// compare plans the same on the reference fleet, whatever it costs and however long it takes.
func (f *planFlags) compare(p *planned) (*referenced, error) {
	r := &referenced{}
	var err error
	if r.fleet, err = f.readFleet("--reference", f.reference, p.catalogue); err != nil {
		return nil, err
	}
	if err := dated(r.fleet, p.question.Start); err != nil {
		return nil, err
	}
	if _, _, err := f.measured(&r.fleet); err != nil {
		return nil, err
	}
	if err := sameMoney(&r.fleet, p.question.Fleet); err != nil {
		return nil, err
	}
	q := p.question
	q.Fleet, q.Deadline, q.Budget, q.Top = r.fleet, 0, 0, 1
	a, err := search.Run(q)
	if err != nil {
		return nil, err
	}
	r.best = a.Plans[0]
	r.comparison = p.side(p.answer.Plans[0], p.question.Fleet).Against(p.side(r.best, r.fleet))
	return r, nil
}

// sameMoney has the reference counted in the plan's currency, with the rates of both files.
func sameMoney(reference *fleet.Fleet, of fleet.Fleet) error {
	if reference.Currency == "" || of.Currency == "" || reference.Currency == of.Currency {
		return nil
	}
	reference.Rates = slices.Concat(reference.Rates, of.Rates)
	from := reference.Currency
	reference.Currency = of.Currency
	_, err := reference.Convert(1, from)
	return err
}

// side is a plan as it is compared.
func (p *planned) side(of search.Plan, on fleet.Fleet) plan.Side {
	work := p.model.decoder.Work(anatomy.Convention{Sequence: p.question.Task.Sequence})
	s := plan.Side{Seconds: plan.Range(of.Seconds), Work: (work.Forward() + work.Backward()) * float64(p.question.Tokens)}
	if known(of.Cost.Mid) {
		s.Cost = plan.Range(of.Cost)
	}
	for _, i := range of.Islands {
		s.Peak += float64(i.Count*i.Chips) * p.hardware(on, i.Pool).Peak[p.question.Task.Format]
	}
	return s
}

// hardware is the chips of a pool that a plan uses.
func (p *planned) hardware(on fleet.Fleet, pool string) plan.Hardware {
	i := slices.IndexFunc(on.Pools, func(p fleet.Pool) bool { return p.Name == pool })
	h, err := plan.HardwareOf(on.Pools[i].Chip, p.question.Sisters...)
	if err != nil {
		panic("cli: a plan on a chip that is not known: " + err.Error())
	}
	return h
}

// show writes the two beside each other.
func (r *referenced) show(out *page, p *planned) {
	best, c := p.answer.Plans[0], r.comparison
	out.section("Against the reference " + r.fleet.File + ", predicted")
	line := func(name string, of search.Plan) string {
		return cells(name, spanOfTime(of.Seconds), spanOfMoney(of.Cost, p.answer.Currency), percentOf(of.MFU), poolsOf(of))
	}
	out.table(cells("", "time", "cost", "MFU", "pools"), line("plan", best), line("reference", r.best))
	if known(c.Saving.Mid) {
		out.note(fmt.Sprintf("Saves %s (%s–%s). Break-even MFU ratio %s; this plan's is %s: above it the plan is cheaper.", percentOf(c.Saving.Mid), percentOf(c.Saving.Low), percentOf(c.Saving.High),
			three(c.BreakEven), three(c.MFURatio)))
	}
}

// planFault names the flag where the search names what was asked.
func planFault(err error) error {
	var in *fault.Input
	if !errors.As(err, &in) || !slices.Contains([]string{"deadline", "budget", "tokens", "batch"}, in.Where) {
		return err
	}
	return usage("--"+in.Where, in.Value, in.Problem, in.Next)
}
