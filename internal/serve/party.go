package serve

import (
	"fmt"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// helloPart takes the session of a further host of an island, which comes to the gate once
// the last of them is here.
func (h *host) helloPart(inc uint64, p *transport.Peer, hello *wire.Hello) {
	island := h.crew.island(inc)
	if island != "" && hello.Island != "" && island != hello.Island { // a pass for one island must not end another
		p.Close(fmt.Sprintf("incarnation %d is island %q, not %q", inc, island, hello.Island))
		return
	}
	if why := h.missed(inc, island, hello); why != "" {
		p.Reject(why, true)
		h.post(func() { h.decide(coord.Exited{Incarnation: inc, Why: why}) })
		return
	}
	if !h.seated(inc, p, hello) || h.late(p) {
		return
	}
	h.log.Info("host_joined", "island", island, "incarnation", inc, "part", hello.Part, "parts", hello.Parts)
	h.coordFX.push(func() { // behind the welcome of the first host
		if err := p.Send(h.welcome(inc, h.restoreOfHost(inc))); err != nil {
			h.log.Warn("not_sent", "incarnation", inc, "part", hello.Part, "err", err)
		}
		h.gate(inc)
	})
}

// missed says why a further host cannot hear what the others of its incarnation do, or nothing: all
// of them are to join again.
func (h *host) missed(inc uint64, island string, hello *wire.Hello) string {
	switch {
	case island == "":
		return fmt.Sprintf("incarnation %d is not of this era", inc)
	case hello.Reconnect || h.parties.met(inc, hello): // or its stream broke before it was welcomed
		return fmt.Sprintf("its host %d was cut off, and what it has missed the others have", hello.Part)
	case h.crew.peer(inc) == nil:
		return "its first host is gone"
	}
	return ""
}

// seated gives a session its place among those of its island. One that says it holds what cannot
// be right, now or when it asks again, is turned away with its island: false.
func (h *host) seated(inc uint64, p *transport.Peer, hello *wire.Hello) bool {
	why := h.parties.seat(inc, p, hello)
	if why == "" {
		return true
	}
	p.Reject(why, false)
	h.post(func() { h.decide(coord.Quarantine{Incarnation: inc, Why: why}) })
	return false
}

// receivedPart takes what a host beside the first may say. Whatever concerns the island
// as a whole is for the first to say.
func (h *host) receivedPart(inc uint64, part int, p *transport.Peer, m transport.Up) {
	switch b := m.Body.(type) {
	case *wire.FromLearner_Ready:
		h.post(func() { h.ready(inc, part, b.Ready) })
	case *wire.FromLearner_Stored:
		h.post(func() { h.storedPart(inc, part, b.Stored) })
	case *wire.FromLearner_Restored:
		h.post(func() { h.restored(inc, part, b.Restored) })
	case *wire.FromLearner_GateAnswer:
		h.answered(inc, part, m)
	case *wire.FromLearner_Contribution:
		h.partOfContribution(inc, p, part, m, b.Contribution)
	}
}

// partOfContribution adds a part to its contribution, which goes on as if it had come
// whole once no part is missing. A part that was damaged on the way is asked for again
// alone.
func (h *host) partOfContribution(inc uint64, p *transport.Peer, part int, m transport.Up, c *wire.Contribution) {
	if m.Damaged {
		resend := &wire.Verdict{Fragment: c.Fragment, Sequence: c.Sequence, Ruling: wire.Ruling_RESEND, Reason: "its digest does not match"}
		if err := p.Send(transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Verdict{Verdict: resend}}}); err != nil {
			h.log.Warn("not_sent", "incarnation", inc, "part", part, "err", err)
		}
		return
	}
	whole, why := h.parties.add(inc, part, c, m.Payload)
	if why != "" {
		h.post(func() { h.decide(coord.Quarantine{Incarnation: inc, Why: why}) })
		return
	}
	if whole == nil {
		return
	}
	d := h.described(inc, m, whole.head)
	switch {
	case whole.defect != "":
		d.Defect = whole.defect
	case !whole.whole:
		d.Defect = h.bank.keep(keyOf(d), whole.head, whole.delta)
	}
	h.post(func() { h.exchange(syncer.Arrived{Contribution: d}) })
}

// gonePart: an island that has lost a host is lost. What its hosts hold fits together only
// while all of them hear the same, so none of them comes back alone.
func (h *host) gonePart(p *transport.Peer, err error) {
	inc, part := h.parties.left(p)
	if part == 0 {
		return
	}
	why := fmt.Sprintf("its host %d is gone", part)
	if err != nil {
		why += ": " + err.Error()
	}
	h.post(func() { h.decide(coord.Exited{Incarnation: inc, Why: why}) })
}
