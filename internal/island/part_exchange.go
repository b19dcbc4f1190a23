package island

import (
	"fmt"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// followed is a fragment as a follower knows it.
type followed struct {
	anchor   []float32 // the syncer's value as the ranks have taken it last
	seed     []float32 // the value that it began with, until a saved state is taken over; nil: none is
	seeded   uint64    // its version
	digests  [][]byte  // of its tensors; nil: there is no value yet
	sequence uint64    // of the contribution that was gathered last
	message  *wire.Contribution
	payload  []byte    // nil while it is made
	sent     []float32 // where the ranks were, as the syncer sees it
	made     bool      // sent and payload are those of sequence
	early    *early    // nil: no verdict waits
	work     sync.WaitGroup
}

// early is a verdict about a contribution that this host's ranks have not given their part of
// yet: where all that it holds is a replica the others' parts are enough for a merge.
type early struct {
	sequence uint64
	delivery *delivery
}

// install offers the ranks the syncer's value of a fragment. The first one of each is noted, and
// once all are here the coordinator is told what they are.
func (f *follower) install(fr *wire.Fragment, m transport.Down) error {
	value, err := f.decode(fr.Fragment, m)
	if err != nil {
		return err
	}
	f.holding.deliver(int(fr.Fragment), &delivery{op: attach.Install, version: fr.Version, value: value})
	at := f.fragments[fr.Fragment]
	if at.digests != nil {
		return nil
	}
	f.mu.Lock()
	if at.seeded = fr.Version; f.state.saved != nil {
		at.seed = value
	}
	f.mu.Unlock()
	at.digests = f.holding.fragments[fr.Fragment].Digests(value)
	if f.missing--; f.missing == 0 {
		ready := &wire.Ready{}
		for _, at := range f.fragments {
			ready.TensorDigest = append(ready.TensorDigest, at.digests...)
		}
		f.link.send(&wire.FromLearner{Body: &wire.FromLearner_Ready{Ready: ready}}, nil)
	}
	return nil
}

func (f *follower) decode(p uint32, m transport.Down) ([]float32, error) {
	if int(p) >= len(f.fragments) || m.Damaged {
		return nil, fmt.Errorf("fragment %d of %d came damaged or does not exist", p, len(f.fragments))
	}
	value := make([]float32, len(f.fragments[p].anchor))
	if err := wire.DecodeF32(value, m.Payload); err != nil {
		return nil, fmt.Errorf("fragment %d: %w", p, err)
	}
	return value, nil
}

// gathered makes this host's part of a contribution out of what its ranks have given.
func (f *follower) gathered(g *attach.Gathered) {
	p, h := g.Fragment, f.holding
	at, boxes := f.fragments[p], h.own(p)
	at.work.Wait()
	h.forgetAdoptions(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	at.sequence, at.payload, at.made = g.Sequence, nil, false
	at.sent = reuse(at.sent, len(at.anchor))
	at.message = &wire.Contribution{
		Fragment: uint32(p), Sequence: g.Sequence, ToStep: f.state.steps + g.Step,
		Part: uint32(h.control().Hello.Part), Parts: uint32(h.hosts()), Boxes: layout.BoxesToWire(boxes),
	}
	at.work.Add(1)
	f.work.Go(func() {
		f.makePart(p, boxes)
		f.deliver(p)
	})
}

// makePart computes this host's part of the contribution and sends it.
func (f *follower) makePart(p int, boxes []layout.Box) {
	at, h := f.fragments[p], f.holding
	defer at.work.Done()
	h.collect(p, at.sent)
	payload := h.frames[p].Append(nil, difference(make([]float32, len(at.sent)), at.anchor, at.sent), boxes...)
	f.mu.Lock()
	defer f.mu.Unlock()
	at.payload, at.made = payload, true
	f.sendPart(at)
}

// deliver offers the ranks the verdict about the part that is made, if it is there.
func (f *follower) deliver(p int) {
	at := f.fragments[p]
	f.mu.Lock()
	e := at.early
	if e == nil || !at.made || e.sequence != at.sequence {
		f.mu.Unlock()
		return
	}
	at.early, e.delivery.sent = nil, at.sent
	f.mu.Unlock()
	f.holding.deliver(p, e.delivery)
}

// sendPart sends a part that is made, unless this host has none; mu is held.
func (f *follower) sendPart(at *followed) {
	if at.payload != nil && len(at.message.Boxes) > 0 {
		f.link.send(&wire.FromLearner{Body: &wire.FromLearner_Contribution{Contribution: at.message}}, at.payload)
	}
}

// verdict offers the merged value to the ranks, or sends the part again. One that comes again, of
// a later version, is what the first host adopts when it had lost the one before.
func (f *follower) verdict(v *wire.Verdict, m transport.Down) error {
	if int(v.Fragment) >= len(f.fragments) {
		return nil
	}
	p := int(v.Fragment)
	f.mu.Lock()
	at := f.fragments[p]
	over := at.sequence > v.Sequence
	if v.Ruling == wire.Ruling_RESEND && at.sequence == v.Sequence {
		f.sendPart(at)
	}
	f.mu.Unlock()
	if over || v.Ruling == wire.Ruling_REFUSED || v.Ruling == wire.Ruling_RESEND {
		return nil
	}
	value, err := f.decode(v.Fragment, m)
	if err != nil {
		return err
	}
	f.mu.Lock()
	at.early = &early{v.Sequence, &delivery{op: attach.Adopt, version: v.Version, value: value}}
	f.mu.Unlock()
	f.deliver(p)
	return nil
}

// taken: all ranks of this host have taken a value. It is the anchor of what they gather next;
// a contribution under way finds itself there when it was installed.
func (f *follower) taken(p int, d *delivery) {
	if d.probe {
		return
	}
	at := f.fragments[p]
	at.work.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(at.anchor, d.value)
	if d.op == attach.Install && at.sent != nil {
		copy(at.sent, d.value)
	}
}
