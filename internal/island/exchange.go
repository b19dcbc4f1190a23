package island

import (
	"fmt"
	"slices"
	"sync"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/wire"
)

// exchange is the learner's part of one fragment's exchange. Vectors hold the
// fragment's tensors one behind the other.
type exchange struct {
	fragment.Fragment
	index int // of the fragment

	anchor  []float32 // the syncer's value as last adopted
	version uint64    // of anchor

	sequence     uint64  // of the last contribution
	sentStep     uint64  // counters when it was sent: the next one begins there
	sentPosition int64   // samples
	sentWithheld int64   // of them in steps that were not applied
	sentExperts  []int64 // tokens routed so far, by layer and expert

	flight *flight
	work   sync.WaitGroup // on the flight, beside the learner's goroutine
	sent   []float32      // memory of the flight's sent
	delta  []float32      // memory of its pseudo-gradient; nil while somebody may read it
	value  []float32      // memory of its verdict's value
}

// flight is the one contribution under way. It is sent again unchanged until its
// verdict is there.
type flight struct {
	message   *wire.Contribution
	anchor    []float32 // what it is the difference to
	payload   []byte    // pseudo-gradient; nil while the weights are being gathered
	delta     []float32 // memory for it
	sends     int       // how often it was sent
	sent      []float32 // where the learner was, as the syncer sees it
	sentStep  uint64
	ownTokens int64 // own tokens when it was sent
	verdict   *verdict
	reseed    []float32 // what was installed while the weights were being gathered
}

// encode gives the payload, and makes of the weights in sent what the syncer will see of them.
func (fl *flight) encode() []byte {
	return wire.Bytes(difference(fl.delta, fl.anchor, fl.sent))
}

// complete notes the payload.
func (fl *flight) complete(payload []byte) {
	fl.payload = payload
	if fl.reseed != nil {
		copy(fl.sent, fl.reseed)
	}
}

// verdict is an answer that waits for its step boundary.
type verdict struct {
	ruling  wire.Ruling
	version uint64
	stamp   int64
	value   []float32 // of the fragment at version
	ready   bool      // value is there, and the trainer is prepared
}

type adoption struct {
	fragment int
	version  uint64
	step     uint64
}

// dirty: it has been trained since the last contribution. When every step since then
// was withheld there is nothing to send, unless the weights themselves are broken:
// these are sent, refused, and seeded anew.
func (l *Learner) dirty(f *exchange) bool {
	if l.unsent(f) > 0 || l.position == f.sentPosition {
		return l.unsent(f) > 0
	}
	broken, _ := l.trainer.look(f)
	return broken
}

// unsent is the tokens trained since the last contribution, in steps that were applied.
func (l *Learner) unsent(f *exchange) int64 {
	samples := (l.position - f.sentPosition) - (l.withheld - f.sentWithheld)
	return samples * int64(l.run.Train.SequenceTokens)
}

// rounded: the syncer's value is not this learner's, although nothing was trained
// since: a difference of two fp32 numbers is rounded on its way. Once they are close
// their difference is exact (Sterbenz 1974), so that a second contribution, of no
// samples, closes the gap.
func (l *Learner) rounded(f *exchange) bool {
	_, apart := l.trainer.look(f)
	return apart
}

// contribute makes the next contribution of fragment p from what was trained
// since the last one, and remembers it as under way. It is complete once the trainer
// has given the weights.
func (l *Learner) contribute(p int, flush bool) (*flight, error) {
	f := l.fragments[p]
	if f.flight != nil {
		return nil, fmt.Errorf("fragment %d: contribution %d has no verdict yet", p, f.sequence)
	}
	f.sent = reuse(f.sent, f.Size)
	f.sequence++
	fl := &flight{anchor: f.anchor, sent: f.sent, delta: reuse(f.delta, f.Size), sentStep: l.step, ownTokens: l.ownTokens()}
	fl.message = &wire.Contribution{
		Fragment: uint32(p), Sequence: f.sequence, BaseVersion: f.version,
		FromStep: f.sentStep, ToStep: l.step, FromPosition: uint64(f.sentPosition), ToPosition: uint64(l.position),
		Tokens: uint64(l.unsent(f)), Withheld: uint64(l.withheld - f.sentWithheld), TensorTokens: l.tensorTokens(f), Flush: flush,
	}
	for _, a := range l.adoptions {
		fl.message.Adoptions = append(fl.message.Adoptions, &wire.Adoption{Fragment: uint32(a.fragment), Version: a.version, Step: a.step})
	}
	l.adoptions = l.adoptions[:0]
	f.flight, f.delta = fl, nil
	f.restart(l)
	if l.trainer.gather(f) {
		fl.complete(fl.encode())
	}
	return fl, nil
}

// restart begins the counters of the next contribution here.
func (f *exchange) restart(l *Learner) {
	f.sentStep, f.sentPosition, f.sentWithheld = l.step, l.position, l.withheld
	copy(f.sentExperts, l.expert)
}

// tensorTokens is, by tensor, the tokens that trained it: those routed to an
// expert, all of them for any other tensor. An expert may have seen more than the
// contribution stands for, of own data beyond the lease.
func (l *Learner) tensorTokens(f *exchange) []uint64 {
	out := make([]uint64, len(f.Tensors))
	for i, t := range f.Tensors {
		out[i] = uint64(l.unsent(f))
		if t.Kind == model.Expert {
			at := t.Layer*l.run.Model.Experts + t.Expert
			out[i] = min(out[i], uint64(l.expert[at]-f.sentExperts[at]))
		}
	}
	return out
}

// seed installs the syncer's value: at the start, or after a refusal. What this
// learner has in the fragment is given up; a contribution under way will find
// itself at this value when its verdict comes.
func (l *Learner) seed(p int, version uint64, stamp int64, value []float32) error {
	f := l.fragments[p]
	if len(value) != f.Size {
		return fmt.Errorf("fragment %d: %d elements instead of %d", p, len(value), f.Size)
	}
	f.work.Wait()
	if fl := f.flight; fl != nil && fl.payload == nil { // what was asked for is the difference to the old anchor
		fl.anchor, fl.reseed = slices.Clone(f.anchor), slices.Clone(value)
	} else if fl != nil {
		copy(fl.sent, value)
	}
	copy(f.anchor, value)
	f.version = version
	l.trainer.install(f, value)
	f.restart(l)
	if now := l.ownTokens(); stamp >= l.clock.at(now) {
		l.clock = clock{stamp, now}
	}
	return nil
}

// adopt takes over the verdict of fragment p: θ ← θ + (Θ_v − θ̂_sent). For a lone
// island Θ_v is θ̂_sent bit for bit and nothing moves (D5). A refused contribution
// is forgotten; the fragment is seeded anew by what follows.
func (l *Learner) adopt(p int) {
	f := l.fragments[p]
	v := f.flight.verdict
	if v.ruling == wire.Ruling_REFUSED {
		f.flight = nil
		return
	}
	l.trainer.adopt(f)
	f.anchor, f.value = v.value, f.anchor // copying would hold up the boundary
	f.version = v.version
	l.clock = clock{v.stamp, f.flight.ownTokens}
	l.adoptions = append(l.adoptions, adoption{p, v.version, l.step})
	f.delta, f.flight = f.flight.done(), nil
}

// done is the memory of the pseudo-gradient once there is a verdict. Where it was sent once all of
// it has arrived; a second time may still be under way.
func (fl *flight) done() []float32 {
	if fl.sends > 1 {
		return nil
	}
	return fl.delta
}

// differenceBlock is how many elements are worked on while they are in the core's cache.
const differenceBlock = 4096

// difference fills delta with the pseudo-gradient; sent becomes what the syncer will see of the weights.
func difference(delta, anchor, sent []float32) []float32 {
	for from := 0; from < len(sent); from += differenceBlock {
		to := min(from+differenceBlock, len(sent))
		outer.PseudoGradient(delta[from:to], anchor[from:to], sent[from:to])
		outer.Sent(sent[from:to], anchor[from:to], delta[from:to])
	}
	return delta
}
