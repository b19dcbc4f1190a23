package search

import (
	"math"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/plan"
)

// whole is a combination as the arithmetic of whole runs takes it.
func (s *search) whole(c combination) plan.Whole {
	w := plan.Whole{Tokens: s.q.Tokens, Sequence: s.q.Task.Sequence, Period: c.choice.period, Keeping: s.q.Run}
	for _, o := range c.options {
		w.Members = append(w.Members, o.members)
	}
	return w
}

// periods are the exchanges of a run.
func (s *search) periods(c combination) float64 {
	w := s.whole(c)
	return float64(w.Steps()) * float64(w.Batch()) * float64(w.Sequence) / float64(c.choice.period)
}

// plan is a combination in full.
func (s *search) plan(c combination) Plan {
	w := s.whole(c)
	r := w.Run()
	p := Plan{Batch: w.Batch(), Steps: r.Steps, Period: c.choice.period, Seconds: span(r.Seconds), Run: r.Lines, Money: s.money(c), Syncers: s.hosts[c.choice].syncers}
	if c.choice.period > 0 {
		p.Fragments = s.fragments()
	}
	hourly, once := 0.0, 0.0
	for _, l := range p.Money {
		hourly += l.Hourly
		if l.Hourly == 0 {
			once += l.Amount
		}
	}
	p.Cost = Span{r.Seconds.Low/3600*hourly + once, c.cost, r.Seconds.High/3600*hourly + once}
	if s.unpriced {
		p.Cost = Span{math.NaN(), math.NaN(), math.NaN()}
	}
	peak := 0.0
	for i, o := range c.options {
		island := s.island(o, r.Rates[i], r.Shares[i])
		p.Islands = append(p.Islands, island)
		p.Chips += o.count * o.chips
		p.TokenRate += float64(o.count) * r.Rates[i]
		peak += float64(o.count*o.chips) * s.peak(o)
	}
	p.MFU = p.TokenRate * s.work() / peak
	return p
}

func (s *search) island(o *option, rate, share float64) Island {
	g := s.grounds[o.ground]
	f := o.found
	i := Island{Pool: g.name, Chip: g.hardware.Chip, Count: o.count, Chips: o.chips, Batch: f.batch, Layout: f.Layout, Step: span(o.members.Step),
		Rate: rate, Share: share, MFU: rate * s.work() / (float64(o.chips) * s.peak(o)), Bytes: f.step.Bytes(), Memory: g.hardware.Memory}
	if o.members.Transfer > 0 {
		i.HostBytes = float64(max(1, o.chips/g.host)) * s.onHost(g, o.chips)
	}
	i.Terms, i.Parts = g.model.For(f.batch).Explain(f.Layout)
	return i
}

func span(r plan.Range) Span { return Span{r.Low, r.Mid, r.High} }

// work is the operations of a token, causal attention.
func (s *search) work() float64 {
	w := s.q.Task.Model.Work(anatomy.Convention{Sequence: s.q.Task.Sequence})
	return w.Forward() + w.Backward()
}

// peak is that of a chip in the task's format.
func (s *search) peak(o *option) float64 {
	format := s.q.Task.Format
	if format == "" {
		format = "bf16"
	}
	return s.grounds[o.ground].hardware.Peak[format]
}

// use tells how the pools fare in the first plan.
func (s *search) use(judged []Judged, first combination) {
	for i := range judged {
		j := &judged[i]
		for _, o := range first.options {
			if s.grounds[o.ground].name == j.Pool {
				j.Used += o.count * o.chips
			}
		}
		if j.Used > 0 || j.Rejected != "" {
			continue
		}
		j.Unused = s.unused(j.Pool, first)
	}
}
