package serve

import (
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// synchronise carries out one effect of the syncer.
func (h *host) synchronise(e syncer.Effect) {
	switch e := e.(type) {
	case syncer.Call:
		h.send(e.Incarnation, transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Call{
			Call: &wire.Call{Fragment: uint32(e.Fragment), Round: e.Round}}}})
	case syncer.Merge:
		merged := h.bank.merge(e)
		h.post(func() { h.exchange(merged) })
	case syncer.Commit:
		if h.append(h.groupTape, e.Records...) {
			h.post(func() { h.exchange(syncer.Committed{}) })
		}
	case syncer.Install:
		h.bank.install(e)
		h.emit(ledger.Merged{
			At: time.Now(), Fragment: e.Fragment, Version: e.Version, Islands: e.Islands,
			Tokens: e.Tokens, StampTokens: e.Stamp, Share: e.Share,
		})
	case syncer.Answer:
		h.answer(e)
	case syncer.Discard:
		h.bank.discard(e.Key)
	case syncer.Reseed:
		h.seed(e.Incarnation)
	case syncer.Expel:
		// Its life is over, and its contribution may come before the coordinator has answered its
		// return: who is not started here may arrive anew, and the coordinator judges it then.
		h.expel(e.Incarnation, e.Why, !h.crew.started(e.Incarnation))
	case syncer.Consumed:
		h.post(func() {
			h.decide(coord.Consumed{Incarnation: e.Incarnation, Position: e.Position, Answered: e.Answered})
		})
	case syncer.ClosedAt:
		h.post(func() { h.decide(coord.ClosedAt{Incarnation: e.Incarnation, Position: e.Position}) })
	case syncer.Quarantine:
		h.post(func() { h.decide(coord.Quarantine{Incarnation: e.Incarnation, Why: e.Why}) })
	case syncer.Quiet:
		h.post(func() { h.decide(coord.Quiet{}) })
	case syncer.Cut:
		h.cut(e)
	}
}

// answer tells a learner its verdict, with the fragment as it is now.
func (h *host) answer(e syncer.Answer) {
	p := e.Key.Fragment
	v := &wire.Verdict{
		Fragment: uint32(p), Sequence: e.Key.Sequence, Version: h.bank.version[p], StampTokens: uint64(h.bank.stamp[p]), Reason: e.Reason,
	}
	m := transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Verdict{Verdict: v}}}
	switch e.Ruling {
	case syncer.RuledMerged:
		v.Ruling = wire.Ruling_MERGED
		m.Payload, m.PayloadDigest = h.bank.payload(p)
	case syncer.RuledDropped:
		v.Ruling = wire.Ruling_DROPPED
		m.Payload, m.PayloadDigest = h.bank.payload(p)
	case syncer.RuledRefused:
		v.Ruling = wire.Ruling_REFUSED
	case syncer.RuledResend:
		v.Ruling = wire.Ruling_RESEND
	}
	if e.Ruling == syncer.RuledDropped || e.Ruling == syncer.RuledRefused {
		h.emit(ledger.Ruled{
			At: time.Now(), Island: h.crew.island(e.Key.Incarnation), Fragment: p, Ruling: ledger.Ruling(e.Ruling), Reason: e.Reason,
		})
	}
	h.sendAll(e.Key.Incarnation, m)
}

// seed sends every fragment to a learner and remembers the digests, to compare
// them with what it says it received (A1).
func (h *host) seed(incarnation uint64) {
	var digests [][]byte
	for p, f := range h.bank.fragments {
		digests = append(digests, f.Digests(h.bank.theta[p])...)
		payload, digest := h.bank.payload(p)
		h.sendAll(incarnation, transport.Down{
			ToLearner: &wire.ToLearner{PayloadDigest: digest, Body: &wire.ToLearner_Fragment{Fragment: &wire.Fragment{
				Fragment: uint32(p), Version: h.bank.version[p], StampTokens: uint64(h.bank.stamp[p]),
			}}},
			Payload: payload,
		})
	}
	h.crew.mu.Lock()
	h.crew.seeded[incarnation] = digests
	h.crew.mu.Unlock()
}

// unlike names the first tensor whose digest differs from what was sent, or
// nothing.
func (h *host) unlike(incarnation uint64, got [][]byte) string {
	h.crew.mu.Lock()
	want := h.crew.seeded[incarnation]
	h.crew.mu.Unlock()
	at := 0
	for _, f := range h.bank.fragments {
		for _, t := range f.Tensors {
			if at >= len(got) || at >= len(want) || !slices.Equal(got[at], want[at]) {
				return t.Name
			}
			at++
		}
	}
	return ""
}
