package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// A checkpoint's gate record is made while the checkpoint is written: by the engine here, or
// where only trainers know the model by an island that has passed the gate. It computes
// between two steps, with the checkpoint's weights in place of its own, and trains on.

// asking is the question for a checkpoint's record, until it is answered.
type asking struct {
	island string
	asked  []uint64  // incarnations, this one last
	since  time.Time // the first of them was asked
	answer chan noted
}

// noted is a checkpoint's record, or why there is none.
type noted struct {
	record gate.Record
	err    error
}

// beginRecord makes the gate record of a checkpoint that is being written, or asks for it.
func (h *host) beginRecord(c *cutState) {
	switch {
	case h.run.Gate == runfile.GateOff:
	case h.run.Model.Foreign():
		c.asking = h.askRecord(c, &asking{since: time.Now()})
	default:
		r, err := h.door.ofCheckpoint(c.theta)
		if err != nil {
			h.log.Warn("no_gate_record", "err", err)
			return
		}
		c.gate = &r
	}
}

// askRecord asks an island for the record of a checkpoint's weights, one that was not asked
// before; nil: there is none. Question and weights go to one session, and no seed comes between
// them: an island takes the fragments behind a question for its weights.
func (h *host) askRecord(c *cutState, before *asking) *asking {
	incarnation, first := h.door.maker(func(incarnation uint64) *transport.Peer {
		if slices.Contains(before.asked, incarnation) {
			return nil
		}
		return h.crew.peer(incarnation)
	})
	if first == nil {
		return nil
	}
	sessions := append([]*transport.Peer{first}, h.parties.others(incarnation)...)
	a := &asking{island: h.crew.island(incarnation), asked: append(before.asked, incarnation), since: before.since, answer: make(chan noted, 1)}
	payload, err := h.door.request(incarnation, &question{standard: &standard{checkpoint: c.number}, answers: make([]*gate.Record, len(sessions)), session: first, made: a.answer})
	if err != nil {
		a.answer <- noted{err: err}
		return a
	}
	h.syncFX.push(func() {
		for _, p := range sessions {
			if err := h.question(p, c.number, payload, c.theta); err != nil {
				h.door.over(first, fmt.Errorf("it was not asked: %w", err))
				return
			}
		}
	})
	return a
}

// question sends what is asked, and the weights that it is about; nil: they are derived there.
func (h *host) question(p *transport.Peer, checkpoint uint64, record []byte, weights []float32) error {
	body := &wire.ToLearner_Gate{Gate: &wire.Gate{Checkpoint: checkpoint, Sent: weights != nil}}
	if err := p.Send(transport.Down{ToLearner: &wire.ToLearner{Body: body}, Payload: record}); err != nil || weights == nil {
		return err
	}
	for i, f := range h.bank.fragments {
		part := make([]float32, f.Size)
		f.Gather(part, weights)
		body := &wire.ToLearner_Fragment{Fragment: &wire.Fragment{Fragment: uint32(i)}}
		if err := p.Send(transport.Down{ToLearner: &wire.ToLearner{Body: body}, Payload: wire.Bytes(part)}); err != nil {
			return err
		}
	}
	return nil
}

// awaitRecord waits for the record that an island was asked for, or the next one if that
// cannot give it, for as long as a first step may take. A checkpoint goes without it rather
// than not at all.
func (h *host) awaitRecord(ctx context.Context, c *cutState) {
	a := c.asking
	if a == nil {
		return
	}
	c.asking = nil // a second attempt has what there is
	limit := time.Duration(h.run.Limits.FirstStepSeconds * float64(time.Second))
	late := time.NewTimer(limit - time.Since(a.since))
	defer late.Stop()
	var why []string
	for next := a; next != nil; next = h.askRecord(c, a) {
		a = next
		select {
		case n := <-a.answer:
			if n.err == nil {
				c.gate = &n.record
				return
			}
			why = append(why, fmt.Sprintf("island %s: %v", a.island, n.err))
			continue
		case <-late.C:
			h.door.giveUp(a)
			why = append(why, fmt.Sprintf("island %s: it did not answer within %v (limits.first_step_seconds) and is not asked again", a.island, limit))
		case <-ctx.Done():
			return
		}
		break
	}
	h.emit(ledger.Note{At: time.Now(), Text: fmt.Sprintf("checkpoint %d has no gate record, islands that join are compared with the one before: %s", c.number, strings.Join(why, "; "))})
}

// maker is the island that makes records of models that are not ours, with its session: of
// those that have answered at the gate and can be asked now the one that has been here longest.
func (d *door) maker(session func(incarnation uint64) *transport.Peer) (uint64, *transport.Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, incarnation := range slices.Sorted(slices.Values(d.makers)) {
		if p := session(incarnation); p != nil {
			return incarnation, p
		}
	}
	return 0, nil
}

// request notes what an island is asked for a checkpoint's record, and gives the question.
func (d *door) request(incarnation uint64, q *question) (payload []byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q.record = d.blank()
	if q.payload, err = q.record.Encode(); err == nil {
		d.asked[incarnation] = q
	}
	return q.payload, err
}

// note takes an answer that is to be a checkpoint's record; false: the island was asked for
// none.
func (d *door) note(incarnation uint64, part int, m transport.Up) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.asked[incarnation]
	if q == nil || q.made == nil {
		return false
	}
	if m.GetGateAnswer().GetCheckpoint() != q.checkpoint {
		return true // to a question that is over
	}
	r, err := q.whole(part, m)
	if errors.Is(err, errUnfinished) {
		return true
	}
	if err == nil {
		err = d.fits(r)
	}
	delete(d.asked, incarnation)
	if err != nil {
		d.retire(incarnation)
	}
	q.made <- noted{r, err}
	return true
}

// whole adds a host's answer, and gives that of all once none is missing.
func (q *question) whole(part int, m transport.Up) (gate.Record, error) {
	if part >= len(q.answers) {
		return gate.Record{}, errUnasked
	}
	partial, err := answerIn(m)
	if err != nil {
		if len(q.answers) > 1 {
			err = fmt.Errorf("host %d: %w", part, err)
		}
		return gate.Record{}, err
	}
	q.answers[part] = &partial
	if missing := slices.Index(q.answers, nil); missing >= 0 {
		return gate.Record{}, fmt.Errorf("%w: host %d has not", errUnfinished, missing)
	}
	a, err := gate.Together(q.answers)
	if err == nil && !q.record.Asks(a) {
		err = errors.New("the answer is to another probe")
	}
	return a, err
}

// answerIn reads what one host says.
func answerIn(m transport.Up) (gate.Record, error) {
	switch reason := m.GetGateAnswer().GetReason(); {
	case m.Damaged:
		return gate.Record{}, errors.New("its answer came damaged")
	case reason == gate.NoProbe:
		return gate.Record{}, errNoProbe
	case reason != "":
		return gate.Record{}, errors.New("it cannot answer: " + reason)
	}
	return gate.Decode(m.Payload)
}

// giveUp ends a question that took too long. The island would hold up the next checkpoint as well.
func (d *door) giveUp(a *asking) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for incarnation, q := range d.asked {
		if q.made == a.answer {
			delete(d.asked, incarnation)
			d.retire(incarnation)
		}
	}
}

// over ends what was asked for a checkpoint's record on a session: whatever was under way on
// it is lost. The island may be asked for the next one.
func (d *door) over(session *transport.Peer, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for incarnation, q := range d.asked {
		if q.made != nil && q.session == session {
			delete(d.asked, incarnation)
			q.made <- noted{err: why}
		}
	}
}

// retire: the island makes no records any more; mu is held.
func (d *door) retire(incarnation uint64) {
	d.makers = slices.DeleteFunc(d.makers, func(other uint64) bool { return other == incarnation })
}
