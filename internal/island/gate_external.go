package island

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// probes is what the ranks of this host are asked to compute, one at a time.
type probes struct {
	holding *holding
	seed    uint64 // of signs

	mu sync.Mutex
	at *probing // nil: nothing
}

// probing is a probe that they are at.
type probing struct {
	record  gate.Record
	given   []bool        // by rank
	heard   int           // ranks of which it is known what they have left
	said    *attach.Gated // by the rank that speaks for the island
	tensors []gate.Tensor // sketches of what they have left
	err     error         // why there is no answer
	done    chan probed
}

// begin makes a probe the one that ranks are at; why not is its answer. wrong: what they leave will
// be no answer, for this reason.
func (k *probes) begin(r gate.Record, wrong error) *probing {
	p := &probing{record: r, err: wrong, given: make([]bool, len(k.holding.ranks)), done: make(chan probed, 1)}
	for _, t := range k.holding.table {
		p.tensors = append(p.tensors, gate.Tensor{Name: t.Name})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !k.holding.control().Hello.Probe:
		p.done <- probed{err: errors.New(gate.NoProbe)}
	case k.at != nil:
		p.done <- probed{err: errors.New("the trainer has not answered the last probe")}
	default:
		k.at = p
	}
	return p
}

// under says whether ranks are to compute it.
func (p *probing) under() bool { return len(p.done) == 0 }

// hear sketches what a rank has left, which may use its memory again then; with the last
// rank the answer is whole.
func (k *probes) hear(r *attach.Rank, m *attach.Gated) error {
	rank := k.holding.place(r)
	k.mu.Lock()
	p := k.at
	if p == nil || p.given[rank] {
		k.mu.Unlock()
		return senseless("gated, once for each gate")
	}
	p.given[rank] = true
	k.mu.Unlock()
	sketches, err := k.holding.sketch(r, k.seed)
	k.mu.Lock()
	defer k.mu.Unlock()
	if m.Problem != "" {
		err = errors.New(m.Problem)
	}
	if p.err == nil {
		p.err = ofRank(r, err)
	}
	for i, t := range sketches {
		p.tensors[i] = p.tensors[i].Plus(t)
	}
	if r.Hello.Control() {
		p.said = m
	}
	if p.heard++; p.heard == len(p.given) {
		k.at = nil
		p.done <- k.holding.answer(p)
	}
	return r.Send(&attach.Sketched{})
}

// unanswered adds to why an island ends at the gate which of its ranks have not answered.
func (k *probes) unanswered(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at == nil || k.holding.control().Hello.World == 1 {
		return err
	}
	var ranks []string
	for i, given := range k.at.given {
		if !given {
			ranks = append(ranks, strconv.Itoa(k.holding.ranks[i].Hello.Rank))
		}
	}
	return fmt.Errorf("%w (ranks of this host that have not answered: %s)", err, strings.Join(ranks, ", "))
}

// probeVersion is that of the weights of a probe: no fragment ever has it.
const probeVersion = 1<<53 - 1

var (
	_ prober   = (*external)(nil)
	_ borrower = (*external)(nil)
)

// probe has the ranks install the weights, compute the probe, and leave the gradients of
// their pieces where contributions are gathered. The weights of the run follow.
func (x *external) probe(r gate.Record, weights []float32) <-chan probed {
	done := x.ask(r, weights, nil, nil)
	x.rest("the gate")
	return done
}

// borrow is probe in the middle of training: the ranks set their own weights aside and take
// them back, and nobody waits. Nothing may be under way, for it goes through the same memory.
func (x *external) borrow(r gate.Record, weights []float32) <-chan probed {
	return x.ask(r, weights, []attach.Action{{Do: attach.Aside}}, []attach.Action{{Do: attach.Back}})
}

// ask orders a probe, and what is to be done before and behind it.
func (x *external) ask(r gate.Record, weights []float32, before, behind []attach.Action) <-chan probed {
	p := x.probes.begin(r, nil)
	if !p.under() {
		return p.done
	}
	x.holding.deliverProbe(weights)
	orders := before
	for i := range x.holding.fragments {
		orders = append(orders, attach.Action{Do: attach.Install, Fragment: i, Version: probeVersion})
	}
	for _, a := range append(append(orders, attach.Action{Do: attach.Gate, Gate: asked(r)}), behind...) {
		x.order(a)
	}
	return p.done
}

// asked is what ranks need to know of a record.
func asked(r gate.Record) *attach.Question {
	return &attach.Question{Rows: r.Probe.Rows, Tokens: r.Probe.Tokens, Boundaries: r.Probe.Boundaries, EndToken: r.Probe.EndToken, Choices: r.Choices}
}

// deliverProbe offers the weights of a probe to the ranks.
func (h *holding) deliverProbe(weights []float32) {
	for p, f := range h.fragments {
		h.deliver(p, &delivery{op: attach.Install, version: probeVersion, value: cut(f, weights), probe: true})
	}
}

// cut is the fragment's part of a flat vector.
func cut(f fragment.Fragment, flat []float32) []float32 {
	part := make([]float32, f.Size)
	f.Gather(part, flat)
	return part
}

// ofRank says whose error it is, where an island has several ranks; none stays none.
func ofRank(r *attach.Rank, err error) error {
	if err != nil && r.Hello.World > 1 {
		return fmt.Errorf("rank %d: %w", r.Hello.Rank, err)
	}
	return err
}

// sketch is that of the gradients that a rank has left.
func (h *holding) sketch(r *attach.Rank, seed uint64) ([]gate.Tensor, error) {
	boxes, err := boxesOf(r.Hello, h.table)
	if err != nil {
		return nil, err
	}
	out := make([]gate.Tensor, len(h.table))
	for i, b := range boxes {
		if r.Hello.Pieces[i].Replica != 0 || r.Out[i] == nil {
			continue
		}
		var k gate.Sketcher
		at := 0
		for first, n := range b.Runs(h.table[b.Tensor].Shape) {
			k.Add(seed, b.Tensor, int64(first), r.Out[i][at:at+n])
			at += n
		}
		piece := gate.NewTensor(h.table[b.Tensor].Name, k.Sketch())
		if r.Hello.World > 1 {
			piece.Ranks = &gate.Span{First: r.Hello.Rank, Last: r.Hello.Rank}
		}
		if err := piece.Check(); err != nil {
			return out, err
		}
		out[b.Tensor] = piece.Plus(out[b.Tensor])
	}
	return out, nil
}

// answer is what the ranks of this host have said and left.
func (h *holding) answer(p *probing) probed {
	a := p.record
	a.Maker, a.Choices, a.Own, a.Tensors, a.Loss = h.maker(), nil, nil, p.tensors, 0
	if p.said != nil {
		a.Loss, a.Choices, a.Number = float64(p.said.Loss), p.said.Choices, cmp.Or(p.said.NumberFormat, gate.FP32)
	}
	return probed{a, p.err}
}

func (h *holding) maker() string {
	c := h.control().Hello
	return fmt.Sprintf("%s %s on %s, %d ranks", c.Engine, c.Torch, c.Device, c.World)
}

// atGate takes a message that belongs to the gate. The ranks of this host hear from those of
// the first one when to compute; what they leave is sketched here. Of a question that came
// damaged they compute all the same, with zeros in place of weights, for the others wait for
// them: why is the answer.
func (f *follower) atGate(m transport.Down) (taken bool) {
	switch b := m.Body.(type) {
	case *wire.ToLearner_Gate:
		f.gate = questionOf(m, f.run, f.holding.fragments)
	case *wire.ToLearner_Fragment:
		if f.gate == nil || f.gate.missing == 0 {
			return false
		}
		f.gate.take(b.Fragment.Fragment, m)
	default:
		return false
	}
	if f.gate.missing > 0 {
		return true
	}
	q := f.gate
	f.gate = nil
	p := f.probes.begin(q.record, q.err)
	if p.under() {
		f.holding.deliverProbe(q.weights)
	}
	f.asked.Go(func() {
		select {
		case a := <-p.done:
			q.say(f.link, a)
		case <-f.holding.life.Done():
		}
	})
	return true
}
