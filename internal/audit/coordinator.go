package audit

import (
	"encoding/json"
	"maps"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/spike"
)

// books say who holds which samples, as the coordinator's tape has it.
type books struct {
	era    uint32
	lives  map[uint64]*life // by incarnation
	held   spans            // leased and not handed back: consumed, or somebody's
	leased spans            // ever handed out
	tried  spans            // withheld once
	lost   spans            // skipped after a second try
}

// life is one incarnation.
type life struct {
	island    string
	lease     lease
	holes     spans // positions of steps that were not applied
	restored  bool  // took samples over from a checkpoint
	committed int64 // highest position that is in the model, as far as known
	passed    bool  // another has taken over the same
	closed    bool  // on the coordinator's tape
	closedAt  int64
	shut      bool // closed on the group's tape
	shutAt    int64
}

// lease is the samples of a life by position; the first is at position base.
type lease struct {
	base   int64
	ranges []coord.Range
}

// add appends r, as one with what it continues.
func (l *lease) add(r coord.Range) {
	r.Due = 0
	if n := len(l.ranges); n > 0 && l.ranges[n-1].To == r.From {
		l.ranges[n-1].To = r.To
		return
	}
	l.ranges = append(l.ranges, r)
}

func (l lease) end() int64 { return l.base + spans(l.ranges).len() }

// between is the samples at the positions from <= n < to.
func (l lease) between(from, to int64) []coord.Range {
	var out []coord.Range
	at := l.base
	for _, r := range l.ranges {
		cut := coord.Range{From: r.From + max(from-at, 0), To: r.From + min(to-at, r.Len())}
		if cut.Len() > 0 {
			out = append(out, cut)
		}
		at += r.Len()
	}
	return out
}

// applied is the samples at the positions from <= n < to that were not withheld or skipped.
func (l *life) applied(from, to int64) []coord.Range {
	var out []coord.Range
	for _, r := range (spans{{From: from, To: to}}).without(l.holes) {
		out = append(out, l.lease.between(r.From, r.To)...)
	}
	return out
}

// after is the same from a position to the end of the lease.
func (l *life) after(position int64) []coord.Range { return l.applied(position, l.lease.end()) }

func (b *books) clone() *books {
	c := &books{era: b.era, lives: map[uint64]*life{}, held: slices.Clone(b.held), leased: slices.Clone(b.leased), tried: slices.Clone(b.tried), lost: slices.Clone(b.lost)}
	for inc, l := range b.lives {
		copied := *l
		copied.lease.ranges, copied.holes = slices.Clone(l.lease.ranges), slices.Clone(l.holes)
		c.lives[inc] = &copied
	}
	return c
}

// eraRecord is what is needed of the first record of an era.
type eraRecord struct {
	Checkpoint uint64 `json:"from_checkpoint"`
	Undone     []struct {
		Era      uint32 `json:"era"`
		Fragment int    `json:"fragment"`
		From     uint64 `json:"from_version"`
		To       uint64 `json:"to_version"`
	} `json:"undone"`
}

// coordinator reads the coordinator's tape of an era.
func (a *auditor) coordinator(records []json.RawMessage) error {
	a.books, a.outcome = &books{era: a.number, lives: map[uint64]*life{}}, ""
	var before *books // as the checkpoint left them, until everybody who goes on is launched
	for _, raw := range records {
		var kind struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return err
		}
		if kind.Kind != "launch" {
			a.abandon(before)
			before = nil
		}
		var err error
		switch kind.Kind {
		case "era":
			before, err = read(raw, a.begin)
		case "launch":
			_, err = read(raw, func(r coord.LaunchRecord) *books { return a.launch(r, before) })
		case "lease":
			_, err = read(raw, a.grant)
		case "close":
			_, err = read(raw, a.close)
		case "spike":
			_, err = read(raw, a.spike)
		case "rollback":
			_, err = read(raw, func(r coord.RollbackRecord) *books {
				a.rollbacks++
				for _, s := range r.Skipped {
					a.given.add(s)
				}
				return nil
			})
		case "checkpoint":
			_, err = read(raw, func(r coord.CheckpointRecord) *books {
				a.checkpoints[r.Checkpoint] = a.books.clone()
				return nil
			})
		case "end":
			_, err = read(raw, func(r coord.EndRecord) *books {
				a.outcome = r.Outcome
				return nil
			})
		}
		if err != nil {
			return err
		}
	}
	a.abandon(before)
	return nil
}

// read decodes a record and judges it.
func read[R any](raw json.RawMessage, judge func(R) *books) (*books, error) {
	var r R
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	return judge(r), nil
}

// begin takes back what the new era does not have and returns the books at the
// checkpoint from which it begins, each life as far as it was in the model then.
func (a *auditor) begin(e eraRecord) *books {
	for _, u := range e.Undone {
		if u.Fragment >= 0 && u.Fragment < len(a.fragments) {
			a.fragments[u.Fragment].undo(u.Era, u.From, u.To)
		}
	}
	if e.Checkpoint == 0 {
		return nil
	}
	at := a.checkpoints[e.Checkpoint]
	if at == nil {
		a.problem("checkpoint %d, from which it begins, is not on the tape", e.Checkpoint)
		return nil
	}
	before := at.clone()
	a.books.held, a.books.leased, a.books.tried, a.books.lost = before.held, before.leased, before.tried, before.lost
	for inc, l := range before.lives {
		l.committed = max(l.committed, a.merged(before.era, inc))
	}
	return before
}

// abandon hands back what lives of the checkpoint held and nobody took over.
func (a *auditor) abandon(before *books) {
	if before == nil {
		return
	}
	for _, l := range before.lives {
		if !l.closed {
			a.handBack(l.after(l.committed))
		}
	}
}

func (a *auditor) handBack(ranges []coord.Range) {
	for _, r := range ranges {
		a.books.held.remove(r)
	}
}

// launch opens a life, which may take over what one of the checkpoint has trained.
func (a *auditor) launch(r coord.LaunchRecord, before *books) *books {
	if a.books.lives[r.Incarnation] != nil {
		a.problem("incarnation %d is launched twice", r.Incarnation)
		return nil
	}
	l := &life{island: r.Island, lease: lease{base: r.Base}}
	for _, g := range r.Leases {
		l.lease.add(g)
	}
	a.books.lives[r.Incarnation] = l
	if r.Position == 0 && len(r.Leases) == 0 {
		return nil
	}
	old := before.alive(r.Island)
	again := old == nil
	if again {
		old = a.books.left(r.Island)
	}
	if old == nil {
		a.problem("incarnation %d takes over samples that nobody of island %s left", r.Incarnation, r.Island)
		return nil
	}
	if !slices.Equal(l.lease.ranges, old.lease.between(r.Base, r.Position)) || r.Position < old.committed || l.lease.end() != r.Position {
		a.problem("incarnation %d takes over other samples than island %s had trained", r.Incarnation, r.Island)
	}
	l.restored, l.committed, old.closed, old.passed = true, old.committed, true, true
	l.holes = old.holes.without(spans{{From: r.Position, To: math.MaxInt64}})
	if !again {
		a.handBack(old.after(r.Position))
		return nil
	}
	for _, g := range l.after(l.committed) { // which the one before has handed back
		for _, twice := range a.books.held.add(g) {
			a.problem("incarnation %d takes over samples %d to %d, which somebody has by now", r.Incarnation, twice.From, twice.To)
		}
	}
	return nil
}

// left is the newest life of an island in this era if that was to take over a saved state, and ended
// without anything of it in the model: another may take the same over.
func (b *books) left(island string) *life {
	for _, inc := range slices.Backward(slices.Sorted(maps.Keys(b.lives))) {
		if l := b.lives[inc]; l.island == island && l.closed {
			if l.restored && !l.passed && l.closedAt == l.committed {
				return l
			}
			return nil
		}
	}
	return nil
}

// alive is the life of an island at a checkpoint.
func (b *books) alive(island string) *life {
	if b != nil {
		for _, inc := range slices.Sorted(maps.Keys(b.lives)) {
			if l := b.lives[inc]; l.island == island && !l.closed {
				return l
			}
		}
	}
	return nil
}

func (a *auditor) grant(r coord.LeaseRecord) *books {
	l := a.books.lives[r.Incarnation]
	if l == nil || l.closed {
		a.problem("a lease for incarnation %d, which does not live", r.Incarnation)
		return nil
	}
	for _, g := range r.Ranges {
		again := g.Retry()
		g.Due = 0
		if n := spans(a.books.tried.within(g)).len(); again && n != g.Len() || !again && n > 0 {
			a.problem("samples %d to %d are leased to incarnation %d with second try %v, and %d of them were withheld", g.From, g.To, r.Incarnation, again, n)
		}
		for _, skipped := range append(a.books.lost.within(g), a.given.within(g)...) {
			a.problem("samples %d to %d are leased to incarnation %d, but the run leaves them out", skipped.From, skipped.To, r.Incarnation)
		}
		for _, twice := range a.books.held.add(g) {
			a.problem("samples %d to %d are leased to incarnation %d, but somebody has them or they are in the model", twice.From, twice.To, r.Incarnation)
		}
		a.books.leased.add(g)
		l.lease.add(g)
	}
	return nil
}

func (a *auditor) close(r coord.CloseRecord) *books {
	l := a.books.lives[r.Incarnation]
	if l == nil || l.closed {
		a.problem("incarnation %d is closed, which does not live", r.Incarnation)
		return nil
	}
	var back, due spans
	for _, g := range r.Returned {
		g.Due = 0
		back.add(g)
	}
	for _, g := range l.after(r.Position) {
		due.add(g)
	}
	if !slices.Equal(back, due) {
		a.problem("incarnation %d ends at sample position %d and hands back %v, it should be %v", r.Incarnation, r.Position, back, due)
	}
	l.closed, l.closedAt = true, r.Position
	a.handBack(r.Returned)
	return nil
}

// spike takes the samples of a step that was not applied out of the life that held them.
func (a *auditor) spike(r coord.SpikeRecord) *books {
	l := a.books.lives[r.Incarnation]
	if l == nil || l.closed {
		a.problem("a spike of incarnation %d, which does not live", r.Incarnation)
		return nil
	}
	to := r.Position + spans(r.Samples).len()
	var told, held spans
	for _, s := range r.Samples {
		told.add(s)
	}
	for _, s := range l.applied(r.Position, to) {
		held.add(s)
	}
	if r.Position < l.committed || !slices.Equal(told, held) {
		a.problem("incarnation %d has a spike in samples %v at position %d, it holds %v there", r.Incarnation, told, r.Position, held)
	}
	a.spikes++
	for _, s := range told {
		tried := spans(a.books.tried.within(s)).len()
		if (r.Verdict == spike.Withhold) != (tried == 0) || tried != 0 && tried != s.Len() {
			a.problem("samples %d to %d of incarnation %d are %s, and %d of them had been withheld", s.From, s.To, r.Incarnation, r.Verdict, tried)
		}
		switch r.Verdict {
		case spike.Withhold:
			a.books.tried.add(s)
		case spike.Skip:
			a.books.lost.add(s)
		}
	}
	if r.Verdict == spike.Withhold || r.Verdict == spike.Skip {
		l.holes.add(coord.Range{From: r.Position, To: to})
		a.handBack(told)
	}
	return nil
}

// reconcile compares the two tapes once both are read.
func (a *auditor) reconcile() {
	for _, inc := range slices.Sorted(maps.Keys(a.books.lives)) {
		l := a.books.lives[inc]
		merged := a.merged(a.number, inc)
		if l.shut && (l.shutAt < merged || (l.shutAt > merged && !l.restored)) {
			a.problem("incarnation %d is closed at sample position %d on the group's tape, which holds it up to %d", inc, l.shutAt, merged)
		}
		l.committed = max(l.committed, merged)
		switch {
		case !l.closed:
			continue
		case !l.shut:
			a.problem("incarnation %d is closed before the group had put its end on the tape", inc)
		case l.closedAt != l.committed:
			a.problem("incarnation %d is closed at sample position %d, but it is in the model up to %d", inc, l.closedAt, l.committed)
		}
	}
}
