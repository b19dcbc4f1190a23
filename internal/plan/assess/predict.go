package assess

import (
	"math"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
)

// oracle predicts one chip at any number of chips.
type oracle struct {
	question         Question
	task             plan.Task
	machine          machine
	mid, worst, best *plan.Model
	layouts          []plan.Layout // of one replica, data-parallel ranks left open
	work             float64       // FLOP a token
}

func (q Question) oracle(c chip.Chip) (oracle, error) {
	o := oracle{question: q, task: plan.Task{Model: q.Model, Sequence: q.Sequence, Batch: q.Batch, Format: q.Format}}
	var err error
	if o.machine, err = q.machineOf(c); err != nil {
		return o, err
	}
	o.layouts = q.replicas(o.machine.mid.Group)
	if err = o.measured(); err != nil {
		return o, err
	}
	for _, one := range []struct {
		to   **plan.Model
		from plan.Hardware
	}{{&o.mid, o.machine.mid}, {&o.worst, o.machine.worst}, {&o.best, o.machine.best}} {
		if *one.to, err = plan.PrepareFor(o.task, one.from, q.Constants, degrees()...); err != nil {
			return o, err
		}
	}
	o.machine.assumed = append(o.machine.assumed, constantsOf(o.mid.Assumed)...)
	w := q.Model.Work(anatomy.Convention{Sequence: q.Sequence})
	o.work = w.Forward() + w.Backward()
	return o, nil
}

// measured takes the part of the peak that products reach from what was measured: from
// the user's own table, else where no run of such chips says it.
func (o *oracle) measured() error {
	table, format := o.question.Table, o.task.Format
	if r, ok := plan.ShareOf(table, o.machine.mid.Chip, format); ok && o.question.Own {
		o.machine.share(r, "products reach what your table has of those of training")
		return nil
	}
	probe, err := plan.PrepareFor(o.task, o.machine.mid, o.question.Constants, 1)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(probe.Assumed, func(name string) bool { return strings.HasPrefix(name, "product.") }) {
		return nil
	}
	if r, ok := plan.ShareOf(table, o.machine.mid.Chip, format); ok {
		o.machine.share(r, "products reach what was measured of those of training")
	} else if r, said, ok := plan.AssumedShareOf(table, o.machine.mid.Chip, format); ok {
		o.machine.share(r, said)
	}
	return nil
}

// constantsOf says which constants of other chips stand in.
func constantsOf(names []string) []string {
	var some []string
	for _, name := range names {
		what, _, _ := strings.Cut(name, ".")
		if !slices.Contains(some, what) {
			some = append(some, what)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return []string{"constants not fitted to this chip: " + strings.Join(some, ", ")}
}

// The grid: powers of two, which divide the numbers of chips that are looked at.
func degrees() []int { return []int{1, 2, 4, 8, 16} }

const (
	mostStages   = 64
	mostExperts  = 64
	mostMicro    = 16
	leastContext = 4096 // tokens of a context-parallel rank
)

func doublings(most int) []int {
	var all []int
	for n := 1; n <= most; n *= 2 {
		all = append(all, n)
	}
	return all
}

// replicas are the ways in which the chips of one replica can share the model, without
// what saves memory.
func (q Question) replicas(group int) []plan.Layout {
	var all []plan.Layout
	depth := q.Model.Depth()
	for _, tp := range degrees() {
		for _, pp := range doublings(min(mostStages, depth)) {
			for _, ep := range doublings(mostExperts) {
				l := anatomy.Layout{TP: tp, PP: pp, EP: ep, ETP: 1}
				if tp > group || l.Check(q.Model) != nil {
					continue
				}
				all = append(all, q.schedules(l)...)
			}
		}
	}
	return all
}

// schedules are the ways in which a replica goes through a batch.
func (q Question) schedules(l anatomy.Layout) []plan.Layout {
	var all []plan.Layout
	for _, cp := range q.contexts() {
		for _, micro := range doublings(mostMicro) {
			for _, v := range plan.VirtualStages(q.Model.Depth(), l.PP) {
				all = append(all, plan.Layout{Layout: l, DP: 1, CP: cp, VPP: v, Stages: plan.EndsShort(q.Model.Depth(), l.PP), MicroBatch: micro, ZeRO: 1, Recompute: anatomy.NoRecompute})
			}
		}
	}
	return all
}

// contexts are the context-parallel degrees: each rank has as many tokens as are worth it.
func (q Question) contexts() []int {
	all := []int{1}
	for cp := 2; q.Sequence%(2*cp) == 0 && q.Sequence/cp >= leastContext; cp *= 2 {
		all = append(all, cp)
	}
	return all
}

// fastest is the fastest layout of n chips that fits; without any, ok is false and
// short how many bytes the leanest lacks (infinite: none is legal).
func (o oracle) fastest(n int) (layout plan.Layout, step plan.Step, short float64, ok bool) {
	short = math.Inf(1)
	for _, l := range o.layouts {
		if l.DP = n / (l.TP * l.PP * l.CP); !o.legal(l, n) || ok && o.mid.Step(l).Seconds >= step.Seconds {
			continue // what saves memory is never faster
		}
		for _, t := range plan.Thrift(l.PP) {
			l.ZeRO, l.Recompute = t.ZeRO, t.Recompute
			s := o.mid.Step(l)
			if lack := s.Bytes() - o.machine.mid.Room(); lack > 0 {
				short = min(short, lack)
				continue
			}
			if !ok || s.Seconds < step.Seconds {
				layout, step, ok = l, s, true
			}
		}
	}
	return layout, step, short, ok
}

// legal says that n chips can be shared so.
func (o oracle) legal(l plan.Layout, n int) bool {
	if l.DP == 0 || l.Chips() != n || l.CheckDP(l.DP*l.CP) != nil || o.task.Batch%(l.DP*l.MicroBatch) != 0 {
		return false
	}
	return l.VPP == 1 || o.task.Batch/(l.DP*l.MicroBatch)%l.PP == 0 // an interleaved schedule goes in rounds
}

// span is what a step takes, in the range of the prediction and of what was assumed.
func (o oracle) span(l plan.Layout, step plan.Step) Span {
	worst, best := o.worst.Step(l), o.best.Step(l)
	return Span{min(step.Low, best.Low), step.Seconds, max(step.High, worst.High)}
}

// mfu is the utilisation of n chips at some seconds a step.
func (o oracle) mfu(step Span, n int) Span {
	work := o.work * float64(o.task.Batch) * float64(o.task.Sequence)
	return step.under(work / (o.machine.mid.Peak[o.task.Format] * float64(n)))
}

// shares are a step's terms, largest first.
func shares(s plan.Step) []Share {
	all := make([]Share, 0, plan.Terms)
	for i, x := range s.Terms {
		if x > 0 {
			all = append(all, Share{plan.Term(i).String(), x / s.Seconds})
		}
	}
	slices.SortStableFunc(all, func(a, b Share) int {
		switch {
		case a.Share > b.Share:
			return -1
		case a.Share < b.Share:
			return 1
		}
		return 0
	})
	return all
}

// bound is the term that takes most beside the model's own products.
func bound(s plan.Step) Share {
	for _, share := range shares(s) {
		switch share.Name {
		case plan.Products.String(), plan.ExpertProducts.String(), plan.Attention.String(), plan.Head.String():
			continue
		}
		return share
	}
	return Share{}
}

func layoutOf(l plan.Layout) *Layout {
	return &Layout{TP: l.TP, PP: l.PP, VPP: l.VPP, DP: l.DP, EP: l.EP, CP: l.CP, MicroBatch: l.MicroBatch, ZeRO: l.ZeRO, Recompute: string(l.Recompute)}
}

// Plan is the layout as plan has it.
func (l Layout) Plan() plan.Layout {
	return plan.Layout{Layout: anatomy.Layout{TP: l.TP, PP: l.PP, EP: l.EP, ETP: 1}, DP: l.DP, CP: l.CP, VPP: l.VPP, MicroBatch: l.MicroBatch, ZeRO: l.ZeRO, Recompute: anatomy.Recompute(l.Recompute)}
}
