package audit

import (
	"encoding/json"
	"fmt"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/syncer"
)

// history is what was merged into one fragment, without what was undone.
type history struct {
	merges  []merge
	samples spans
	parts   map[who]*part // the last of each incarnation
}

// merge is one version of a fragment.
type merge struct {
	era     uint32
	version uint64
	parts   []part
}

// part is one contribution of a merge.
type part struct {
	who      who
	sequence uint64
	to       int64 // sample position
	samples  []coord.Range
	doubt    string // a problem unless the merge is undone: the coordinator's tape may end before the group's
}

type who struct {
	era         uint32
	incarnation uint64
}

func (h *history) version() uint64 {
	if len(h.merges) == 0 {
		return 0
	}
	return h.merges[len(h.merges)-1].version
}

// undo takes the versions from..to of an era out of the history.
func (h *history) undo(era uint32, from, to uint64) {
	kept := h.merges[:0]
	for _, m := range h.merges {
		if m.era != era || m.version < from || m.version > to {
			kept = append(kept, m)
			continue
		}
		for _, p := range m.parts {
			for _, r := range p.samples {
				h.samples.remove(r)
			}
		}
	}
	h.merges = kept
	clear(h.parts)
	for _, m := range h.merges {
		for i := range m.parts {
			h.parts[m.parts[i].who] = &m.parts[i]
		}
	}
}

// merged is the highest position of an incarnation over fragments.
func (a *auditor) merged(era uint32, incarnation uint64) int64 {
	var to int64
	for _, h := range a.fragments {
		if p := h.parts[who{era, incarnation}]; p != nil {
			to = max(to, p.to)
		}
	}
	return to
}

// maxFragments is more than any model is split into.
const maxFragments = 1 << 16

// history is that of a fragment, or nil when there can be no such fragment.
func (a *auditor) history(fragment int) *history {
	if fragment < 0 || fragment >= maxFragments {
		a.problem("there is no fragment %d", fragment)
		return nil
	}
	for len(a.fragments) <= fragment {
		a.fragments = append(a.fragments, &history{parts: map[who]*part{}})
	}
	return a.fragments[fragment]
}

// group reads the group's tape of an era.
func (a *auditor) group(records []json.RawMessage) error {
	for _, raw := range records {
		var kind struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return err
		}
		var err error
		switch kind.Kind {
		case "view":
			_, err = read(raw, func(v struct {
				Fragments []int `json:"fragments"`
			}) *books {
				for _, p := range v.Fragments {
					a.history(p)
				}
				return nil
			})
		case "merge":
			_, err = read(raw, a.merge)
		case "dropped":
			a.dropped++
		case "refused":
			a.refused++
		case "incarnation_closed":
			_, err = read(raw, a.shut)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *auditor) merge(r syncer.MergeRecord) *books {
	h := a.history(r.Fragment)
	if h == nil {
		return nil
	}
	if r.Version != h.version()+1 {
		a.problem("fragment %d goes from version %d to %d", r.Fragment, h.version(), r.Version)
	}
	m := merge{era: a.number, version: r.Version}
	for _, c := range r.Parts {
		m.parts = append(m.parts, a.part(h, r.Fragment, c))
	}
	h.merges = append(h.merges, m)
	for i := range m.parts {
		h.parts[m.parts[i].who] = &m.parts[i]
	}
	return nil
}

// part counts the samples of one contribution.
func (a *auditor) part(h *history, fragment int, c syncer.PartRecord) part {
	p := part{who: who{a.number, c.Incarnation}, sequence: c.Sequence, to: c.ToPosition}
	l := a.books.lives[c.Incarnation]
	if l == nil {
		a.problem("fragment %d merges a contribution of incarnation %d, which was never launched", fragment, c.Incarnation)
		return p
	}
	if l.shut {
		a.problem("fragment %d merges a contribution of incarnation %d after its end", fragment, c.Incarnation)
	}
	if last := h.parts[p.who]; last != nil && (c.Sequence <= last.sequence || c.FromPosition < last.to) {
		a.problem("fragment %d merges contribution %d of incarnation %d from position %d, after contribution %d up to position %d",
			fragment, c.Sequence, c.Incarnation, c.FromPosition, last.sequence, last.to)
	}
	if c.FromPosition < l.lease.base || c.ToPosition > l.lease.end() {
		a.problem("fragment %d merges positions %d to %d of incarnation %d, which was given %d to %d",
			fragment, c.FromPosition, c.ToPosition, c.Incarnation, l.lease.base, l.lease.end())
	}
	p.samples = l.applied(c.FromPosition, c.ToPosition)
	if held := c.ToPosition - c.FromPosition - spans(p.samples).len(); held != c.Withheld {
		p.doubt = fmt.Sprintf("fragment %d merges positions %d to %d of incarnation %d less %d samples, but %d of them are withheld on the coordinator's tape",
			fragment, c.FromPosition, c.ToPosition, c.Incarnation, c.Withheld, held)
	}
	for _, r := range p.samples {
		for _, twice := range h.samples.add(r) {
			a.problem("samples %d to %d are in fragment %d a second time, by incarnation %d", twice.From, twice.To, fragment, c.Incarnation)
		}
	}
	return p
}

func (a *auditor) shut(r syncer.ClosedRecord) *books {
	l := a.books.lives[r.Incarnation]
	if l == nil || l.shut {
		a.problem("the group closes incarnation %d, which does not live", r.Incarnation)
		return nil
	}
	l.shut, l.shutAt = true, r.Position
	return nil
}
