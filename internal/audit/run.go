package audit

import (
	"encoding/json"
	"fmt"

	"github.com/mistura-project/mistura/internal/coord"
)

// Era is the tape of one era: the records of the coordinator's sequence and of the
// one group of fragments, each in order.
type Era struct {
	Coordinator []json.RawMessage
	Group       []json.RawMessage
}

// Report is what the tape says about samples, at its end.
type Report struct {
	Eras      int
	Merges    int // that were not undone by a later era
	Dropped   int // contributions
	Refused   int
	Leased    int64 // samples that were ever handed out
	Consumed  int64 // samples that count as trained: in the model, or behind one of the same learner that is
	Holding   int64 // leased by incarnations that are not closed, and not consumed
	Returned  int64 // handed out before, nobody's now, and not skipped
	Skipped   int64 // samples that the run leaves out
	Spikes    int   // decisions of the spike rule, those of undone steps included
	Rollbacks int
	Nowhere   []coord.Range // consumed, but in the history of no fragment: dropped, refused or given up with a re-seed
	Fragments []Fragment
	Outcome   coord.Outcome // of the last era; empty when its end is not on the tape
	Problems  []string      // what must not be; empty for a run that kept S1 and S2
}

// Fragment is the history of one fragment.
type Fragment struct {
	Version uint64
	Samples int64 // in its history, each once
	Missing int64 // consumed, but not in its history (S2: at most a period after a death or a restore)
}

// Run audits the tapes of all eras of a run, oldest first. An error means that a
// record cannot be read; what the records say is judged in the report.
func Run(eras []Era) (Report, error) {
	a := &auditor{checkpoints: map[uint64]*books{}}
	for i, era := range eras {
		a.number = uint32(i + 1)
		if err := a.coordinator(era.Coordinator); err != nil {
			return Report{}, fmt.Errorf("era %d, coordinator: %w", i+1, err)
		}
		if err := a.group(era.Group); err != nil {
			return Report{}, fmt.Errorf("era %d, group: %w", i+1, err)
		}
		a.reconcile()
	}
	return a.report(len(eras)), nil
}

// auditor reads one era after the other.
type auditor struct {
	number      uint32 // of the era
	books       *books // of the era
	checkpoints map[uint64]*books
	fragments   []*history
	dropped     int
	refused     int
	outcome     coord.Outcome
	given       spans // left out by rollbacks
	spikes      int
	rollbacks   int
	problems    []string
}

// maxProblems is how many are named; one fault can spoil every record behind it.
const maxProblems = 100

func (a *auditor) problem(format string, args ...any) {
	if len(a.problems) < maxProblems {
		a.problems = append(a.problems, fmt.Sprintf("era %d: ", a.number)+fmt.Sprintf(format, args...))
	}
}

// report sums up after the last era.
func (a *auditor) report(eras int) Report {
	r := Report{Eras: eras, Dropped: a.dropped, Refused: a.refused, Outcome: a.outcome, Spikes: a.spikes, Rollbacks: a.rollbacks}
	if a.books == nil {
		r.Problems = a.problems
		return r
	}
	consumed := a.books.held.without()
	for _, l := range a.books.lives {
		if l.closed {
			continue
		}
		for _, open := range l.after(l.committed) {
			r.Holding += open.Len()
			consumed.remove(open)
		}
	}
	nowhere := consumed
	for _, h := range a.fragments {
		a.standing(h)
		r.Merges += len(h.merges)
		r.Fragments = append(r.Fragments, Fragment{h.version(), h.samples.len(), consumed.without(h.samples).len()})
		nowhere = nowhere.without(h.samples)
	}
	r.Consumed, r.Nowhere = consumed.len(), nowhere
	r.Leased = a.books.leased.len()
	skipped := a.given.without(a.books.held)
	for _, s := range a.books.lost {
		skipped.add(s)
	}
	r.Skipped = skipped.len()
	r.Returned = a.books.leased.without(a.books.held, skipped).len()
	r.Problems = a.problems
	return r
}

// standing names what is doubtful in the merges that were not undone. An era that was
// killed may have said on one tape what is missing on the other.
func (a *auditor) standing(h *history) {
	for _, m := range h.merges {
		for _, p := range m.parts {
			if p.doubt != "" && (m.era != a.number || a.outcome == coord.Finished || a.outcome == coord.Interrupted) {
				a.problem("%s", p.doubt)
			}
		}
	}
}
