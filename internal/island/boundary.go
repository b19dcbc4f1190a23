package island

import (
	"context"
	"slices"

	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// boundary does what belongs between two inner steps: it takes what has come in,
// adopts, answers calls, saves, flushes. It returns what the learner must wait
// for, or nothing when it can step.
func (r *runner) boundary(ctx context.Context) (waiting string, err error) {
	if err := r.drain(ctx); err != nil || r.stopped {
		return "", err
	}
	if r.broken != nil {
		return "", r.broken
	}
	if err := r.replaceSeeds(); err != nil {
		return "", err
	}
	flushing := r.leaving || (r.dry && r.learner.Left() == 0)
	spent := r.captureAsked != nil && r.learner.Left() == 0 // what makes it step again may wait for its state
	if !r.adoptDue(flushing || spent) {
		return "a verdict", nil
	}
	r.lend()
	if err := r.answerCalls(); err != nil {
		return "", err
	}
	r.capture(ctx)
	r.evaluate()
	if flushing {
		return r.flush()
	}
	if r.learner.Left() == 0 {
		if !r.asked {
			r.asked = true
			r.link.send(&wire.FromLearner{Body: &wire.FromLearner_LeaseRequest{LeaseRequest: &wire.LeaseRequest{}}}, nil)
		}
		return "samples", nil
	}
	return "", nil
}

// drain takes everything that has come in without waiting.
func (r *runner) drain(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		default:
		}
		// What comes behind the stop is the end of the session.
		if r.stopped || len(r.link.in) == 0 && len(r.asides.events) == 0 && !r.wantsToLeave() {
			return nil
		}
		m, err := r.next(ctx)
		if err != nil {
			return err
		}
		r.take(m)
	}
}

func (r *runner) wantsToLeave() bool {
	select {
	case <-r.leave:
		return !r.leaving
	default:
		return false
	}
}

// take notes one message; what it asks for is done at the boundary.
func (r *runner) take(m any) {
	switch m := m.(type) {
	case reconnected:
		r.resume()
	case func():
		m()
	case transport.Down:
		r.note(m)
	}
}

func (r *runner) note(m transport.Down) {
	if r.learner != nil && r.asks(m) {
		return
	}
	switch b := m.Body.(type) {
	case *wire.ToLearner_Lease:
		r.lease(b.Lease)
	case *wire.ToLearner_Call:
		r.call(b.Call)
	case *wire.ToLearner_Verdict:
		r.verdict(b.Verdict, m)
	case *wire.ToLearner_Fragment:
		r.seeds = append(r.seeds, m)
	case *wire.ToLearner_Capture:
		r.captureAsked = b.Capture
	case *wire.ToLearner_Evaluate:
		r.evaluateAsked = b.Evaluate
	case *wire.ToLearner_Stop:
		r.stopped, r.why = true, b.Stop.Reason
	case *wire.ToLearner_Rejected:
		r.log.Error("rejected", "reason", b.Rejected.Reason)
		if b.Rejected.Retry {
			r.again = r.link.recalled(b.Rejected.Reason)
		}
	}
}

// call notes that a fragment is due. An earlier call for it that could not be
// answered is over: answering both would send the second answer without a round.
func (r *runner) call(c *wire.Call) {
	r.calls = slices.DeleteFunc(r.calls, func(old *wire.Call) bool { return old.Fragment == c.Fragment })
	r.calls = append(r.calls, c)
}

// lease takes what is granted or taken back. Ranges begin at a position of the
// lease as a whole; they may repeat what is here already.
func (r *runner) lease(m *wire.Lease) {
	if m.Revoke {
		r.learner.leases.clear()
	}
	if int64(m.Position) > r.learner.leases.granted {
		r.log.Warn("lease_missed", "from", m.Position, "have", r.learner.leases.granted)
		return // it comes again, whole, when the coordinator hears that the stream was broken
	}
	skip := r.learner.leases.granted - int64(m.Position)
	for _, g := range m.Ranges {
		known := min(skip, int64(g.To)-int64(g.From))
		skip -= known
		r.learner.leases.add(span{int64(g.From) + known, int64(g.To), g.Retry})
	}
	r.learner.useSurplus()
	r.asked, r.idle, r.dry = false, false, !m.More // once it is used up, that is said again
}

// resume repeats after a broken stream what has no answer yet.
func (r *runner) resume() {
	r.asked, r.idle = false, false
	if r.gate != nil && r.gate.missing > 0 { // the rest of it was lost, which the coordinator knows: what comes now is something else
		r.gate = nil
	}
	for _, f := range r.learner.fragments {
		if f.flight != nil && f.flight.verdict == nil {
			r.sendFlight(f.flight)
		}
	}
	r.sayStored()
}

func (r *runner) sendFlight(fl *flight) {
	if fl.payload == nil {
		return // once it is there
	}
	fl.sends++
	r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Contribution{Contribution: fl.message}}, fl.payload)
}

// verdict notes the answer to a contribution that is under way.
func (r *runner) verdict(v *wire.Verdict, m transport.Down) {
	if int(v.Fragment) >= len(r.learner.fragments) {
		return
	}
	f := r.learner.fragments[v.Fragment]
	if f.flight == nil || f.sequence != v.Sequence || f.flight.verdict != nil {
		return // an answer that was given before
	}
	if m.Damaged || v.Ruling == wire.Ruling_RESEND {
		r.sendFlight(f.flight)
		return
	}
	if v.Ruling != wire.Ruling_MERGED {
		r.log.Warn("not_merged", "fragment", v.Fragment, "ruling", v.Ruling.String(), "reason", v.Reason)
	}
	answer := &verdict{ruling: v.Ruling, version: v.Version, stamp: int64(v.StampTokens)}
	f.flight.verdict = answer
	if v.Ruling == wire.Ruling_REFUSED {
		answer.ready = true
		return
	}
	f.value = reuse(f.value, f.Size)
	answer.value = f.value
	var err error
	r.asides.do(f, func() {
		if err = wire.DecodeF32(answer.value, m.Payload); err == nil {
			r.link.reuse(m.Payload)
			r.learner.trainer.offer(f)
		}
	}, func() {
		if err != nil {
			r.log.Error("verdict_unreadable", "fragment", v.Fragment, "err", err)
			f.flight.verdict = nil
			return
		}
		answer.ready = true
	})
}

// replaceSeeds installs fragments that the syncer sends unasked: after a refusal.
func (r *runner) replaceSeeds() error {
	for _, m := range r.seeds {
		if err := r.install(m); err != nil {
			return err
		}
	}
	if len(r.seeds) > 0 {
		r.learner.forgetMoments() // they belong to what was refused
	}
	r.seeds = nil
	return nil
}

// adoptDue adopts verdicts whose time has come, or all that are there where no further step
// is to be waited for, and says whether the learner may go on: in strict mode it waits for a
// verdict that is due now.
func (r *runner) adoptDue(atOnce bool) bool {
	free := true
	tau := uint64(r.run.Exchange.OverlapSteps)
	for p, f := range r.learner.fragments {
		if f.flight == nil {
			continue
		}
		due := atOnce || r.learner.step >= f.flight.sentStep+tau
		switch v := f.flight.verdict; {
		case due && v != nil && v.ready:
			r.learner.adopt(p)
		case due && *r.run.Exchange.Strict && !atOnce:
			free = false
		}
	}
	return free
}

// answerCalls sends a contribution for every fragment that was called, or says
// that there is nothing.
func (r *runner) answerCalls() error {
	calls := r.calls
	r.calls = nil
	for _, c := range calls {
		if int(c.Fragment) >= len(r.learner.fragments) {
			continue
		}
		f := r.learner.fragments[c.Fragment]
		if f.flight != nil || r.lends() {
			r.calls = append(r.calls, c) // answered once its verdict is adopted, or the probe is ordered
			continue
		}
		if !r.learner.dirty(f) {
			r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Pass{Pass: &wire.Pass{Fragment: c.Fragment, Round: c.Round}}}, nil)
			continue
		}
		if err := r.contribute(int(c.Fragment), false); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) contribute(p int, flush bool) error {
	fl, err := r.learner.contribute(p, flush)
	if err != nil {
		return err
	}
	r.sendFlight(fl)
	return nil
}

// flush sends every fragment once more, then says Idle, or leaves. A lone island goes
// on until the syncer's weights are its own to the bit: whatever was exchanged when,
// and however often the run was resumed, the same model comes out (D5).
func (r *runner) flush() (waiting string, err error) {
	under := false
	for p, f := range r.learner.fragments {
		if f.flight == nil && (r.learner.dirty(f) || (r.lone() && r.learner.rounded(f))) {
			if err := r.contribute(p, true); err != nil {
				return "", err
			}
		}
		under = under || f.flight != nil
	}
	if under {
		return "a verdict", nil
	}
	if r.leaving {
		r.saving.Wait()
		r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Leaving{Leaving: &wire.Leaving{Reason: "asked to leave"}}}, nil)
		r.stopped, r.why = true, "left"
		return "", nil
	}
	if !r.idle {
		r.idle = true
		r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Idle{Idle: &wire.Idle{Position: uint64(r.learner.position)}}}, nil)
	}
	return "work", nil
}

// lone: what this island contributes is adopted by the syncer as it is.
func (r *runner) lone() bool {
	x := r.run.Exchange
	return len(r.run.Islands) == 1 && *x.OuterRate == 1 && *x.OuterMomentum == 0
}

// gathered: the weights of a contribution are there; what is left is arithmetic.
func (r *runner) gathered(p int, sequence uint64) {
	f := r.learner.fragments[p]
	fl, x := f.flight, r.learner.trainer.(*external)
	if fl == nil || f.sequence != sequence {
		return
	}
	var payload []byte
	r.asides.do(f, func() {
		x.holding.collect(p, fl.sent)
		payload = x.holding.encode(p, fl)
	}, func() {
		fl.complete(payload)
		r.sendFlight(fl)
	})
}
