package serve

import (
	"errors"
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// Hello registers the session and tells both machines. It implements
// transport.Handler, as the next two.
func (h *host) Hello(p *transport.Peer, hello *wire.Hello, origin *wire.Origin) {
	inc := origin.GetIncarnation()
	if inc == 0 {
		h.arrive(p, hello)
		return
	}
	if era := origin.GetEra(); era != h.era && (era != 0 || hello.Part == 0) { // a further host may not know it yet
		p.Reject(fmt.Sprintf("era %d is over, the run goes on in era %d", origin.GetEra(), h.era), true)
		return
	}
	if why := refusal(h.run, h.kernelsFor(inc, hello), hello); why != "" {
		p.Close(why)
		return
	}
	if hello.Part > 0 {
		h.helloPart(inc, p, hello)
		return
	}
	if h.early.waits(hello.Island, inc) {
		p.Reject("the run begins", true)
		return
	}
	if why := h.crew.register(inc, p, hello); why != "" {
		p.Close(why)
		return
	}
	if !h.seated(inc, p, hello) || h.late(p) {
		return
	}
	h.post(func() {
		h.decide(coord.Joined{Incarnation: inc, Island: hello.Island})
		if hello.Reconnect {
			h.exchange(syncer.Back{Incarnation: inc})
		}
	})
}

// kernelsFor is the kernel set that an island must compute with: one that was started here is
// to give the bits of this process; one from outside computes as its chip does.
func (h *host) kernelsFor(inc uint64, hello *wire.Hello) string {
	h.crew.mu.Lock()
	defer h.crew.mu.Unlock()
	if h.crew.processes[inc] != nil {
		return h.kernel.Name()
	}
	return hello.KernelSet
}

// register makes p the session of an incarnation, or says why it cannot be. One
// life is one process: a second one that was started with the same join string
// must not take over the messages of the first.
func (c *crew) register(inc uint64, p *transport.Peer, hello *wire.Hello) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	pid, met := c.pids[inc]
	switch island, launched := c.islands[inc]; {
	case !launched:
		return fmt.Sprintf("incarnation %d was never started here", inc)
	case island != hello.Island:
		return fmt.Sprintf("incarnation %d is island %q, not %q", inc, island, hello.Island)
	case met && (pid != hello.Pid || !hello.Reconnect):
		return fmt.Sprintf("incarnation %d is process %d already", inc, pid)
	}
	if old := c.peers[inc]; old != nil {
		old.Close("the same process has opened a newer session")
	}
	c.pids[inc], c.peers[inc] = hello.Pid, p
	if !met {
		c.hellos[inc] = hello
	}
	return ""
}

// Received turns a message into inputs. Only the session of an incarnation speaks
// for it.
func (h *host) Received(p *transport.Peer, m transport.Up) {
	inc := m.GetOrigin().GetIncarnation()
	if part := h.parties.partOf(inc, p); part > 0 && m.GetOrigin().GetEra() == h.era {
		h.receivedPart(inc, part, p, m)
		return
	}
	if h.crew.peer(inc) != p || m.GetOrigin().GetEra() != h.era {
		h.log.Warn("ignored", "from", p.Addr(), "incarnation", inc, "era", m.GetOrigin().GetEra())
		return
	}
	switch b := m.Body.(type) {
	case *wire.FromLearner_Ready:
		h.post(func() { h.ready(inc, 0, b.Ready) })
	case *wire.FromLearner_Restored:
		h.post(func() { h.restored(inc, 0, b.Restored) })
	case *wire.FromLearner_GateAnswer:
		h.answered(inc, 0, m)
	case *wire.FromLearner_Progress:
		h.post(func() { h.progress(inc, b.Progress) })
	case *wire.FromLearner_Spike:
		h.post(func() { h.decide(spikedOf(inc, b.Spike)) })
	case *wire.FromLearner_LeaseRequest:
		h.post(func() { h.decide(coord.WantsWork{Incarnation: inc}) })
	case *wire.FromLearner_Contribution:
		h.contribution(inc, p, m, b.Contribution)
	case *wire.FromLearner_Pass:
		h.post(func() {
			h.exchange(syncer.Passed{Incarnation: inc, Fragment: int(b.Pass.Fragment), Round: b.Pass.Round})
		})
	case *wire.FromLearner_Captured:
		h.post(func() { h.captured(inc, b.Captured) })
	case *wire.FromLearner_Stored:
		h.post(func() { h.storedPart(inc, 0, b.Stored) })
	case *wire.FromLearner_Evaluation:
		h.post(func() { h.evaluated(inc, b.Evaluation) })
	case *wire.FromLearner_Idle:
		h.post(func() { h.decide(coord.Idle{Incarnation: inc, Position: int64(b.Idle.Position)}) })
	case *wire.FromLearner_Leaving:
		for _, other := range h.parties.others(inc) {
			other.Send(transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Stop{Stop: &wire.Stop{Reason: b.Leaving.Reason}}}}) //nolint:errcheck // it may be gone already
		}
		h.post(func() { h.decide(coord.Left{Incarnation: inc, Why: b.Leaving.Reason}) })
	}
}

// Gone forgets the session, unless a newer one of the same incarnation is there.
func (h *host) Gone(p *transport.Peer, err error) {
	h.crew.mu.Lock()
	var inc uint64
	for i, q := range h.crew.peers {
		if q == p {
			inc = i
			delete(h.crew.peers, i)
		}
	}
	h.crew.mu.Unlock()
	if inc != 0 {
		h.post(func() { h.decide(coord.Disconnected{Incarnation: inc}) })
	}
	h.gonePart(p, err)
	h.asking.Go(func() { h.door.over(p, errors.New("its stream broke before it had answered")) }) // it may be computing
}

// ready compares what each host of the learner holds with what was sent to it, and what
// they send together with the model, then lets it take part.
func (h *host) ready(inc uint64, part int, r *wire.Ready) {
	island := h.crew.island(inc)
	all := h.parties.prepared(inc, part, r)
	if all == nil {
		return // the other hosts first
	}
	for _, r := range all {
		if tensor := h.unlike(inc, r.TensorDigest); tensor != "" {
			h.decide(coord.Quarantine{Incarnation: inc, Why: fmt.Sprintf("tensor %s of island %s is not what the syncer sent", tensor, island)})
			return
		}
	}
	if why := h.anotherModel(inc); why != "" {
		h.decide(coord.Quarantine{Incarnation: inc, Why: why})
		return
	}
	if why := h.parties.uncovered(inc); why != "" {
		h.decide(coord.Quarantine{Incarnation: inc, Why: "the layout of island " + island + ": " + why})
		return
	}
	tokens, positions := h.broughtAlong(inc)
	h.exchange(syncer.Join{Incarnation: inc, Island: island, Tokens: tokens, Positions: positions})
	h.decide(coord.Ready{Incarnation: inc})
	h.crew.mu.Lock()
	hello := h.crew.hellos[inc]
	h.crew.mu.Unlock()
	h.emit(ledger.IslandReady{
		At: time.Now(), Island: island, Incarnation: inc, Steps: h.stepsBrought(inc), Tokens: uint64(tokens),
		Engine: hello.GetEngine(), Device: hello.GetDevice(), Ranks: int(hello.GetRanks()),
	})
}

func (h *host) progress(inc uint64, p *wire.Progress) {
	h.decide(coord.Progress{
		Incarnation: inc, Step: p.Step, Position: int64(p.Position), StepSeconds: p.StepSeconds, Waiting: p.Waiting,
	})
	h.exchange(syncer.Progress{Incarnation: inc, Tokens: int64(p.Tokens)})
	if p.Step <= h.steps[inc] || p.StepSeconds == 0 {
		return // a heartbeat
	}
	h.steps[inc] = p.Step
	h.emit(ledger.StepDone{
		At: time.Now(), Island: h.crew.island(inc), Incarnation: inc, Step: p.Step, Position: p.Position, Tokens: p.Tokens,
		Loss: p.Loss, GradientNorm: p.GradientNorm, ExpertLoad: p.ExpertLoad, Rate: p.Rate, StepSeconds: p.StepSeconds,
		BusySeconds: p.BusySeconds, SkippedSteps: p.SkippedSteps,
	})
}

// contribution keeps the payload and gives the syncer its description.
func (h *host) contribution(inc uint64, p *transport.Peer, m transport.Up, c *wire.Contribution) {
	if h.parties.split(inc, c) {
		h.partOfContribution(inc, p, 0, m, c)
		return
	}
	d := h.described(inc, m, c)
	if !m.Damaged {
		d.Defect = h.bank.put(keyOf(d), c, m.Payload)
	}
	h.post(func() { h.exchange(syncer.Arrived{Contribution: d}) })
}

func keyOf(d syncer.Contribution) syncer.Key {
	return syncer.Key{Incarnation: d.Incarnation, Fragment: d.Fragment, Sequence: d.Sequence}
}

// described is a contribution as the syncer sees it.
func (h *host) described(inc uint64, m transport.Up, c *wire.Contribution) syncer.Contribution {
	d := syncer.Contribution{
		Era: m.GetOrigin().GetEra(), Incarnation: inc, Fragment: int(c.Fragment), Sequence: c.Sequence, Base: c.BaseVersion,
		FromStep: c.FromStep, ToStep: c.ToStep, FromPosition: int64(c.FromPosition), ToPosition: int64(c.ToPosition),
		Tokens: int64(c.Tokens), Withheld: int64(c.Withheld), Flush: c.Flush, Damaged: m.Damaged,
	}
	for _, a := range c.Adoptions {
		d.Adoptions = append(d.Adoptions, syncer.Adoption{Fragment: int(a.Fragment), Version: a.Version, Step: a.Step})
	}
	return d
}

func (h *host) captured(inc uint64, c *wire.Captured) {
	h.lostPart(inc)
	if c.Reason == "" {
		p := &captured{message: c, stored: make(chan *wire.Stored, 1)}
		for range h.parties.others(inc) {
			p.others = append(p.others, make(chan *wire.Stored, 1))
		}
		h.captures[inc] = p
		ahead := h.ahead[inc]
		delete(h.ahead, inc)
		for part, s := range ahead {
			if s.Checkpoint == c.Checkpoint {
				h.storedPart(inc, part, s)
			}
		}
	} else {
		h.log.Warn("state_not_captured", "island", h.crew.island(inc), "reason", c.Reason)
	}
	h.decide(coord.Captured{Incarnation: inc, Checkpoint: c.Checkpoint, OK: c.Reason == "", Position: int64(c.Position)})
}

// storedPart hands the place of an island's state to the checkpoint that waits for it.
func (h *host) storedPart(inc uint64, part int, s *wire.Stored) {
	c := h.captures[inc]
	switch {
	case c != nil && c.message.Checkpoint == s.Checkpoint && s.Reason == "":
		c.keep(part, s)
		return
	case part > 0 && (c == nil || c.message.Checkpoint < s.Checkpoint): // sooner than the first host has captured its own
		if h.ahead[inc] == nil {
			h.ahead[inc] = map[int]*wire.Stored{}
		}
		h.ahead[inc][part] = s
		return
	}
	h.log.Warn("state_not_stored", "island", h.crew.island(inc), "reason", s.Reason)
	h.lostPart(inc)
}

// keep hands a state on that one host has stored, if it is of this checkpoint.
func (c *captured) keep(part int, s *wire.Stored) {
	if s.Checkpoint != c.message.Checkpoint || part > len(c.others) {
		return
	}
	to := c.stored
	if part > 0 {
		to = c.others[part-1]
	}
	select {
	case to <- s:
	default: // said twice
	}
}

// lostPart: what the incarnation captured will not be stored any more.
func (h *host) lostPart(inc uint64) {
	if c := h.captures[inc]; c != nil {
		close(c.stored)
		for _, o := range c.others {
			close(o)
		}
		delete(h.captures, inc)
	}
}
