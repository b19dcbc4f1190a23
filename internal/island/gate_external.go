package island

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// probing is a probe that the ranks of this host compute.
type probing struct {
	record gate.Record
	given  []bool        // by rank
	said   *attach.Gated // by the rank that speaks for the island
	done   chan probed
}

func newProbing(r gate.Record, ranks int) *probing {
	return &probing{record: r, given: make([]bool, ranks), done: make(chan probed, 1)}
}

var _ prober = (*external)(nil)

// probe has the ranks install the weights, compute the probe, and leave the gradients of
// their pieces where contributions are gathered.
func (x *external) probe(r gate.Record, weights []float32) <-chan probed {
	p := newProbing(r, len(x.holding.ranks))
	if !x.holding.control().Hello.Probe {
		p.done <- probed{err: errors.New(gate.NoProbe)}
		return p.done
	}
	x.mu.Lock()
	x.probing = p
	x.mu.Unlock()
	x.holding.deliverProbe(weights)
	for i := range x.holding.fragments {
		x.order(attach.Action{Do: attach.Install, Fragment: i})
	}
	x.order(attach.Action{Do: attach.Gate, Gate: asked(r)})
	x.rest("the gate")
	return p.done
}

// asked is what ranks need to know of a record.
func asked(r gate.Record) *attach.Question {
	return &attach.Question{Rows: r.Probe.Rows, Tokens: r.Probe.Tokens, Boundaries: r.Probe.Boundaries, EndToken: r.Probe.EndToken, Choices: r.Choices}
}

// deliverProbe offers weights to the ranks, as version 0 of every fragment.
func (h *holding) deliverProbe(weights []float32) {
	for p, f := range h.fragments {
		h.deliver(p, &delivery{op: attach.Install, value: cut(f, weights)})
	}
}

// cut is the fragment's part of a flat vector.
func cut(f fragment.Fragment, flat []float32) []float32 {
	part := make([]float32, f.Size)
	f.Gather(part, flat)
	return part
}

// gated takes what a rank says of the probe; with the last one the answer is whole.
func (x *external) gated(r *attach.Rank, m *attach.Gated) error {
	x.mu.Lock()
	p := x.probing
	whole, err := p.hear(x.holding.place(r), r.Hello.Control(), m)
	if whole {
		x.probing = nil
	}
	x.mu.Unlock()
	if whole {
		p.done <- x.holding.answer(p, x.run.Seed)
	}
	return err
}

// hear notes what one rank says, and whether all have.
func (p *probing) hear(rank int, speaks bool, m *attach.Gated) (whole bool, err error) {
	if p == nil || p.given[rank] {
		return false, senseless("gated, once for each gate")
	}
	p.given[rank] = true
	if speaks || m.Problem != "" && (p.said == nil || p.said.Problem == "") {
		p.said = m
	}
	return !slices.Contains(p.given, false), nil
}

// answer sketches the gradients that the ranks have left.
func (h *holding) answer(p *probing, seed uint64) probed {
	a := p.record
	a.Maker, a.Choices, a.Own, a.Tensors, a.Loss = h.maker(), nil, nil, nil, 0
	if p.said != nil {
		if p.said.Problem != "" {
			return probed{err: errors.New(p.said.Problem)}
		}
		a.Loss, a.Choices, a.Number = float64(p.said.Loss), p.said.Choices, cmp.Or(p.said.NumberFormat, gate.FP32)
	}
	sketches := make([]gate.Sketcher, len(h.table))
	for _, r := range h.ranks {
		boxes, err := boxesOf(r.Hello, h.table)
		if err != nil {
			return probed{err: err}
		}
		for i, b := range boxes {
			if r.Hello.Pieces[i].Replica != 0 || r.Out[i] == nil {
				continue
			}
			at := 0
			for first, n := range b.Runs(h.table[b.Tensor].Shape) {
				sketches[b.Tensor].Add(seed, b.Tensor, int64(first), r.Out[i][at:at+n])
				at += n
			}
		}
	}
	for i, t := range h.table {
		a.Tensors = append(a.Tensors, gate.NewTensor(t.Name, sketches[i].Sketch()))
	}
	return probed{answer: a}
}

func (h *holding) maker() string {
	c := h.control().Hello
	return fmt.Sprintf("%s %s on %s, %d ranks", c.Engine, c.Torch, c.Device, c.World)
}

// atGate takes a message that belongs to the gate. The ranks of this host hear from those of
// the first one when to compute; what they leave is sketched here.
func (f *follower) atGate(m transport.Down) (taken bool, err error) {
	switch b := m.Body.(type) {
	case *wire.ToLearner_Gate:
		if f.gate, err = questionOf(m, f.run, len(f.fragments)); err != nil {
			return true, err
		}
	case *wire.ToLearner_Fragment:
		if f.gate == nil || f.gate.missing == 0 {
			return false, nil
		}
		value, err := f.decode(b.Fragment.Fragment, m)
		if err != nil {
			return true, err
		}
		f.gate.take(f.holding.fragments[b.Fragment.Fragment], value)
	default:
		return false, nil
	}
	if f.gate.missing > 0 {
		return true, nil
	}
	q := f.gate
	f.gate = nil
	if !f.holding.control().Hello.Probe {
		sayAnswer(f.link, probed{err: errors.New(gate.NoProbe)})
		return true, nil
	}
	f.mu.Lock()
	f.probing = newProbing(q.record, len(f.holding.ranks))
	f.mu.Unlock()
	f.holding.deliverProbe(q.weights)
	return true, nil
}

// gated takes what a rank of this host says of the probe; with the last one the answer goes out.
func (f *follower) gated(r *attach.Rank, m *attach.Gated) error {
	f.mu.Lock()
	p := f.probing
	whole, err := p.hear(f.holding.place(r), false, m)
	if whole {
		f.probing = nil
	}
	f.mu.Unlock()
	if whole {
		sayAnswer(f.link, f.holding.answer(p, f.run.Seed))
	}
	return err
}
