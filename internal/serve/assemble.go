package serve

import (
	"fmt"

	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/wire"
)

// assembly is the contribution of one island to one fragment while its parts come in. There is one
// at a time: a host sends the next only after the verdict on the last.
type assembly struct {
	sequence uint64             // of the newest contribution
	whole    bool               // it is with the syncer
	head     *wire.Contribution // of part 0, which says everything but the payload
	here     []bool             // by part
	toStep   uint64             // of the part that came first
	defect   string             // of a part; the rest need not come
	delta    []float32          // of the fragment, as far as it has come
}

// split says whether a contribution comes in parts; else it is the whole fragment.
func (ps *parties) split(inc uint64, c *wire.Contribution) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	island := ps.of[inc]
	return island != nil && (len(island.hosts) > 1 || len(c.Boxes) > 0)
}

// add takes a part of a contribution. When the contribution is complete, or known to be wrong, it
// returns its head with the payload or the defect; one that is complete already and is sent again has no
// payload. Nothing is returned while parts are missing. why says that the host does not keep to the protocol.
func (ps *parties) add(inc uint64, part int, c *wire.Contribution, payload []byte) (whole *assembly, why string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	island := ps.of[inc]
	if island == nil || !island.complete() {
		return nil, "a part of a contribution before every host of the island has come"
	}
	if int(c.Fragment) >= len(ps.fragments) || int(c.Part) != part || max(1, int(c.Parts)) != len(island.hosts) {
		return nil, fmt.Sprintf("host %d of %d sent part %d of %d of a contribution to fragment %d of %d",
			part, len(island.hosts), c.Part, c.Parts, c.Fragment, len(ps.fragments))
	}
	a := &island.assemblies[c.Fragment]
	switch {
	case c.Sequence < a.sequence || c.Sequence == a.sequence && a.whole:
		if part == 0 { // its verdict may have been lost
			return &assembly{head: c, whole: true}, ""
		}
		return nil, ""
	case c.Sequence > a.sequence:
		*a = assembly{sequence: c.Sequence, here: make([]bool, len(island.hosts)), toStep: c.ToStep, delta: make([]float32, ps.fragments[c.Fragment].Size)}
	case a.here[part]:
		return nil, ""
	}
	a.here[part] = true
	if part == 0 {
		a.head = c
	}
	if why := ps.fill(a, island.hosts[part].boxes[c.Fragment], c, payload); why != "" && a.defect == "" {
		a.defect = fmt.Sprintf("host %d: %s", part, why)
	}
	return island.finish(a, int(c.Fragment)), ""
}

// fill copies a part to its place, or says what is wrong with it.
func (ps *parties) fill(a *assembly, declared []layout.Box, c *wire.Contribution, payload []byte) string {
	if c.ToStep != a.toStep {
		return fmt.Sprintf("its part is of step %d, another host's of step %d", c.ToStep, a.toStep)
	}
	boxes, err := layout.BoxesFromWire(ps.fragments[c.Fragment], c.Boxes)
	if err != nil {
		return err.Error()
	}
	if !layout.Equal(boxes, declared) {
		return fmt.Sprintf("its part holds %d boxes that are not the %d it declared", len(boxes), len(declared))
	}
	if err := ps.frames[c.Fragment].Decode(a.delta, payload, boxes...); err != nil {
		return err.Error()
	}
	return ""
}

// finish hands a contribution over once nothing of it is missing, and keeps what tells one
// that is sent again. Hosts with no piece of the fragment send nothing, but the first does.
func (p *party) finish(a *assembly, fragment int) *assembly {
	if a.head == nil {
		return nil
	}
	for part, h := range p.hosts {
		expected := part == 0 || len(h.boxes[fragment]) > 0
		if expected && !a.here[part] && a.defect == "" {
			return nil
		}
	}
	done := *a
	a.whole, a.head, a.delta = true, nil, nil
	return &done
}
