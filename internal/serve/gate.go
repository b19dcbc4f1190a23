package serve

import (
	"context"
	"errors"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// Reasons for which an island is not asked at the gate.
const (
	gateOff     = "gate: off in the run file"
	gateNot     = "the island was started with --no-gate"
	sameProgram = "the same program, kernel set and machine as the record would be made with"
	noProbe     = "its trainer has no probe (probe= of mistura.join)"
)

// gate asks an island all of whose hosts are here for its answer, or says why it is not
// asked. The record may have to be made first, and weights read: not in the queue that
// others wait for.
func (h *host) gate(incarnation uint64) {
	if !h.parties.complete(incarnation) || !h.crew.atGate(incarnation) {
		return
	}
	if why := h.ungated(incarnation); why != "" {
		h.gated(coord.Gated{Incarnation: incarnation, Outcome: coord.GateSkipped, Why: why})
		return
	}
	h.asking.Go(func() {
		q, err := h.door.ask(h.ctx, incarnation, 1+len(h.parties.others(incarnation)), h.weightsNow)
		if err != nil {
			h.gated(coord.Gated{Incarnation: incarnation, Outcome: coord.GateRefused, Why: "there is no record to compare it with: " + err.Error()})
			return
		}
		for _, p := range append([]*transport.Peer{h.crew.peer(incarnation)}, h.parties.others(incarnation)...) {
			if p == nil {
				continue // it is gone
			}
			if err := h.question(p, q.checkpoint, q.payload, q.weights); err != nil {
				h.log.Warn("not_sent", "incarnation", incarnation, "err", err)
			}
		}
	})
}

// atGate says whether an incarnation comes to the gate for the first time.
func (c *crew) atGate(incarnation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.gated[incarnation]
	c.gated[incarnation] = true
	return !before
}

// weightsNow are the run's weights, of every fragment at its version.
func (h *host) weightsNow(ctx context.Context) ([]float32, error) {
	found := make(chan []float32, 1)
	h.syncFX.push(func() { found <- h.bank.flat(h.bank.theta) })
	select {
	case w := <-found:
		return w, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ungated says why an island is not asked, or nothing. One that this process has started
// itself is the program that would judge it: it computes the same bits (D2).
func (h *host) ungated(incarnation uint64) string {
	h.crew.mu.Lock()
	defer h.crew.mu.Unlock()
	hello := h.crew.hellos[incarnation]
	switch {
	case h.run.Gate == runfile.GateOff:
		return gateOff
	case hello.GetNoGate():
		return gateNot
	case h.crew.processes[incarnation] != nil && (hello.GetEngine() == "" || hello.GetEngine() == runfile.Native) && !h.opts.GateOwn:
		return sameProgram
	}
	return ""
}

// answered judges what a host of an island answers, beside everything else that goes on.
func (h *host) answered(incarnation uint64, part int, m transport.Up) {
	h.asking.Go(func() {
		if !h.door.note(incarnation, part, m) {
			h.judge(coord.Gated{Incarnation: incarnation, Outcome: coord.GateRefused}, part, m)
		}
	})
}

// judge tells what came out, once all hosts of the island have answered.
func (h *host) judge(in coord.Gated, part int, m transport.Up) {
	v, checkpoint, err := h.door.judge(h.ctx, in.Incarnation, part, m)
	in.Checkpoint, in.Declared = checkpoint, v.Declared
	switch {
	case errors.Is(err, errUnfinished):
		h.post(func() { h.decide(coord.Unanswered{Incarnation: in.Incarnation, Why: err.Error()}) })
		return
	case errors.Is(err, errUnasked): // another host of the island has decided already
		h.log.Debug("gate_unasked", "incarnation", in.Incarnation, "part", part)
		return
	case errors.Is(err, errNoProbe):
		in.Outcome, in.Why = coord.GateSkipped, noProbe
	case errors.Is(err, errRecorded):
		in.Outcome, in.Why = coord.GateRecorded, err.Error()
	case err != nil:
		in.Why = err.Error()
	default:
		in.Verdict, in.Why = &v, v.Reason
		if v.Passed {
			in.Outcome = coord.GatePassed
		}
	}
	h.gated(in)
}

func (h *host) gated(in coord.Gated) { go h.post(func() { h.decide(in) }) }

// let seeds an island that has passed.
func (h *host) let(e coord.Let) {
	h.sendAll(e.Incarnation, transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_GateVerdict{
		GateVerdict: &wire.GateVerdict{Passed: e.Outcome != coord.GateSkipped, Reason: e.Why}}}})
	h.syncFX.push(func() { h.seed(e.Incarnation) })
}

// gateEvent tells of a decision that is on the tape.
func (h *host) gateEvent(r coord.GateRecord) {
	e := ledger.Gated{
		At: r.At, Island: r.Island, Incarnation: r.Incarnation, Outcome: string(r.Outcome), Reason: r.Why,
		Own: r.Outcome == coord.GateSkipped && r.Why == sameProgram, Declared: r.Declared,
	}
	if r.Verdict != nil && r.Verdict.OtherChoices != nil {
		e.OtherChoices = ledger.Known(*r.Verdict.OtherChoices)
	}
	h.emit(e)
}
