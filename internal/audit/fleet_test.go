package audit_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/audit"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/syncer"
)

// saved is a learner's own state in a checkpoint.
type saved struct {
	checkpoint uint64
	step       uint64
	trained    []int64
	holes      []bool
	fragments  []exchange
}

// restore is what a learner takes over.
type restore struct {
	saved     *saved
	position  int64 // trained
	committed int64 // in the model
	keep      []bool
	positions []int64
}

// checkpoint is what the store has of one.
type checkpoint struct {
	snapshot coord.Snapshot
	tables   syncer.Tables
	saved    map[string]*saved
	truth    []map[int64]bool
}

// queue carries out effects one after the other, as package serve does.
type queue struct {
	s    *fleet
	era  int
	todo []work
	busy bool
}

type work struct {
	effect any // what it costs depends on it
	do     func()
}

func (q *queue) push(effect any, do func()) {
	q.todo = append(q.todo, work{effect, do})
	q.run()
}

func (q *queue) run() {
	if q.busy || len(q.todo) == 0 {
		return
	}
	q.busy = true
	w := q.todo[0]
	q.todo = q.todo[1:]
	q.s.clock.after(q.s.cost(w.effect), func() {
		if q.s.over(q.era) {
			return
		}
		w.do()
		q.busy = false
		q.run()
	})
}

// fleet drives both machines as package serve does, on virtual time, with
// simulated learners, store and network.
type fleet struct {
	t      *rapid.T
	random *rand.Rand
	clock  *clock
	cfg    coord.Config
	xcfg   syncer.Config
	tau    uint64
	strict bool
	noise  float64 // share of contributions that are damaged, and of those sent twice
	spikes float64 // share of steps that spike
	past   coord.Past

	era      int
	ended    bool // this era
	coord    *coord.State
	sync     *syncer.State
	coordFX  *queue
	syncFX   *queue
	outage   time.Duration // until when the store is out
	learners map[uint64]*learner
	paces    map[string]time.Duration
	outside  map[string]bool // names that come from outside
	open     bool
	visitors []*visitor

	version     []uint64
	payloads    map[syncer.Key][]int64
	truth       []map[int64]bool // samples in each fragment, as the learners know them
	captures    map[uint64]*saved
	copied      checkpoint
	checkpoints []checkpoint
	failing     int // saves that will fail
	restores    map[string]*restore
	tape        []audit.Era
	versions    []map[int]uint64 // newest version by era and fragment
	unsure      bool             // something was dropped, refused or given up
	crashing    map[string]int   // starts that will fail
	gone        map[string]string
	result      *coord.Done
	trace       []string
}

func (s *fleet) at() time.Time { return time.Unix(0, 0).UTC().Add(s.clock.now) }

func (s *fleet) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.5 + s.random.Float64()))
}
func (s *fleet) chance(p float64) bool { return s.random.Float64() < p }
func (s *fleet) over(era int) bool     { return s.ended || era != s.era }

func (s *fleet) say(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%8.2f ", s.clock.now.Seconds())+fmt.Sprintf(format, args...))
	if len(s.trace) > 400 {
		s.trace = s.trace[100:]
	}
}

// begin opens an era with machines that are ready to start.
func (s *fleet) begin(c *coord.State, x *syncer.State, first any) {
	for _, l := range s.learners {
		l.die("its parent is gone", -1)
	}
	s.era++
	s.ended, s.result = false, nil
	s.coord, s.sync = c, x
	s.coordFX, s.syncFX = &queue{s: s, era: s.era}, &queue{s: s, era: s.era}
	s.learners, s.payloads, s.captures = map[uint64]*learner{}, map[syncer.Key][]int64{}, map[uint64]*saved{}
	s.tape = append(s.tape, audit.Era{})
	s.versions = append(s.versions, map[int]uint64{})
	s.record(first)
	view := struct {
		Kind      string `json:"kind"`
		Fragments []int  `json:"fragments"`
	}{Kind: "view"}
	for p := range s.xcfg.Fragments {
		view.Fragments = append(view.Fragments, p)
	}
	s.group(view)
	s.decide(coord.Start{})
	s.invite()
	s.tick(s.era)
}

func (s *fleet) tick(era int) {
	if s.over(era) {
		return
	}
	s.decide(coord.Tick{})
	s.exchange(syncer.Tick{})
	s.watch()
	s.clock.after(500*time.Millisecond, func() { s.tick(era) })
}

// watch is L1: nobody who is connected waits for samples that the pool has, once
// the store answers and nothing is in the way.
func (s *fleet) watch() {
	_, _, pooled := s.coord.Account()
	for _, l := range s.learners {
		if l.waiting != "samples" || l.dead || l.frozen || l.hung || l.expelled || !l.linked || pooled == 0 || s.clock.now < s.outage {
			l.starving = -1
			continue
		}
		if l.starving < 0 {
			l.starving = s.clock.now
		}
		if s.clock.now-l.starving > 90*time.Second {
			s.t.Fatalf("%v starves while the pool has %d samples", l, pooled)
		}
	}
}

func (s *fleet) decideIn(era int, in coord.Input) {
	if !s.over(era) {
		s.decide(in)
	}
}

func (s *fleet) decide(in coord.Input) {
	if s.ended {
		return
	}
	effects, reason := s.coord.Step(in, s.at())
	if reason != "" {
		s.say("coord %T%+v: %s", in, in, reason)
	}
	consumed, leased, pooled := s.coord.Account()
	if skipped := lengthOf(s.coord.Skipped()); consumed+leased+pooled+skipped != s.cfg.TotalSamples {
		s.t.Fatalf("after %T: %d in the model + %d leased + %d in the pool + %d skipped is not %d", in, consumed, leased, pooled, skipped, s.cfg.TotalSamples)
	}
	for _, e := range effects {
		s.coordFX.push(e, func() { s.coordinate(e) })
	}
}

func lengthOf(ranges []coord.Range) (n int64) {
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

func (s *fleet) exchange(in syncer.Input) {
	if s.ended {
		return
	}
	effects, reason := s.sync.Step(in, s.at())
	if reason != "" {
		s.say("sync %T%+v: %s", in, in, reason)
	}
	for _, e := range effects {
		s.syncFX.push(e, func() { s.synchronise(e) })
	}
}

// cost is how long an effect takes; what is written waits for the store.
func (s *fleet) cost(e any) time.Duration {
	switch e.(type) {
	case coord.Record, syncer.Commit:
		return s.jitter(20*time.Millisecond) + max(s.outage-s.clock.now, 0)
	case syncer.Merge:
		return s.jitter(20 * time.Millisecond)
	}
	return 0
}

func (s *fleet) record(r any) {
	s.tape[s.era-1].Coordinator = append(s.tape[s.era-1].Coordinator, s.encode(r))
}

func (s *fleet) group(r any) {
	s.tape[s.era-1].Group = append(s.tape[s.era-1].Group, s.encode(r))
}

func (s *fleet) encode(r any) json.RawMessage {
	raw, err := json.Marshal(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

func (s *fleet) tell(inc uint64, m any) {
	if l := s.learners[inc]; l != nil {
		l.tell(m)
	}
}

func (s *fleet) coordinate(e coord.Effect) {
	switch e := e.(type) {
	case coord.Record:
		s.record(e.Record)
		if r, ok := e.Record.(coord.RollbackRecord); ok {
			s.past = coord.Past{Rollbacks: r.Rollback, Skipped: r.Skipped}
		}
	case coord.Launch:
		s.launch(e)
	case coord.Accept:
		s.accept(e)
	case coord.Refuse:
		s.say("refused %+v", e)
	case coord.Admit:
		s.admit(e)
	case coord.Expel:
		s.expel(e.Incarnation)
	case coord.Recall:
		s.expel(e.Incarnation)
	case coord.Grant:
		s.tell(e.Incarnation, leaseMsg{position: e.From, ranges: e.Ranges, more: true})
	case coord.Regrant:
		s.tell(e.Incarnation, leaseMsg{position: e.From, ranges: e.Ranges, more: true})
	case coord.NoWork:
		s.tell(e.Incarnation, leaseMsg{})
	case coord.Revoke:
		s.tell(e.Incarnation, leaseMsg{revoke: true})
	case coord.Close:
		s.exchange(syncer.Close{Incarnation: e.Incarnation})
	case coord.PauseExchange:
		s.exchange(syncer.Pause{})
	case coord.ResumeExchange:
		s.exchange(syncer.Resume{})
	case coord.Capture:
		s.tell(e.Incarnation, captureMsg{e.Checkpoint})
	case coord.Cut:
		s.exchange(syncer.TakeCut{Checkpoint: e.Checkpoint})
	case coord.Save:
		s.save(e.Checkpoint)
	case coord.Gone:
		s.say("gone %+v", e)
		s.gone[e.Island] = e.Kind
	case coord.Dismiss:
		s.tell(e.Incarnation, stopMsg{})
	case coord.Done:
		s.result, s.ended = &e, true
	}
}

func (s *fleet) launch(e coord.Launch) {
	l := s.born(e.Incarnation, e.Island)
	s.clock.after(s.jitter(time.Second), func() {
		if s.over(l.era) || l.dead {
			return
		}
		if s.crashing[e.Island] > 0 {
			s.crashing[e.Island]--
			l.die("could not start", 0)
			return
		}
		l.linked = true
		l.input(coord.Joined{Incarnation: l.inc, Island: l.island})
		l.beat()
	})
}

func (s *fleet) admit(e coord.Admit) {
	l := s.learners[e.Incarnation]
	if e.Restored {
		l.restore = s.restores[l.island]
	}
	l.tell(welcome{l.restore})
	s.syncFX.push(nil, func() { s.seed(e.Incarnation) })
}

func (s *fleet) seed(inc uint64) {
	for p, v := range s.version {
		s.tell(inc, seedMsg{p, v})
	}
}

func (s *fleet) isReady(l *learner) {
	in := syncer.Join{Incarnation: l.inc, Island: l.island}
	if l.restore != nil {
		in.Tokens, in.Positions = int64(len(l.applied(0))), l.restore.positions
	}
	s.exchange(in)
	if l.restore != nil && s.chance(0.5) { // else its trainer's ranks never get so far
		s.decide(coord.Restored{Incarnation: l.inc})
	}
	s.decide(coord.Ready{Incarnation: l.inc})
}

func (s *fleet) expel(inc uint64) {
	l := s.learners[inc]
	if l == nil {
		return // it was awaited, and did not come
	}
	l.tell(rejectedMsg{})
	l.expelled = true
	s.clock.after(20*time.Second, func() { l.die("killed", 0) })
}

func (s *fleet) contribution(l *learner, c syncer.Contribution, samples []int64) {
	key := syncer.Key{Incarnation: c.Incarnation, Fragment: c.Fragment, Sequence: c.Sequence}
	if _, there := s.payloads[key]; !there && !c.Damaged && c.Defect == "" {
		s.payloads[key] = samples
	}
	s.exchange(syncer.Arrived{Contribution: c})
}

func (s *fleet) captured(l *learner, c *saved) {
	s.captures[l.inc] = c
	s.decide(coord.Captured{Incarnation: l.inc, Checkpoint: c.checkpoint, OK: true, Position: int64(len(c.trained))})
}

func (s *fleet) synchronise(e syncer.Effect) {
	switch e := e.(type) {
	case syncer.Call:
		s.tell(e.Incarnation, callMsg{e})
	case syncer.Merge:
		s.merge(e)
	case syncer.Commit:
		for _, r := range e.Records {
			if m, ok := r.(syncer.MergeRecord); ok {
				s.install(m)
			}
			if r, ok := r.(syncer.RulingRecord); ok {
				s.unsure = true
				s.say("%+v", r)
			}
			s.group(r)
		}
		s.exchange(syncer.Committed{})
	case syncer.Install:
		s.version[e.Fragment] = e.Version
	case syncer.Answer:
		s.tell(e.Key.Incarnation, verdictMsg{e.Key, e.Ruling, s.version[e.Key.Fragment]})
	case syncer.Discard:
		delete(s.payloads, e.Key)
	case syncer.Reseed:
		s.unsure = true
		s.seed(e.Incarnation)
	case syncer.Expel:
		s.expel(e.Incarnation)
	case syncer.Consumed:
		s.decide(coord.Consumed{Incarnation: e.Incarnation, Position: e.Position, Answered: e.Answered})
	case syncer.ClosedAt:
		s.decide(coord.ClosedAt{Incarnation: e.Incarnation, Position: e.Position})
	case syncer.Quarantine:
		s.decide(coord.Quarantine{Incarnation: e.Incarnation, Why: e.Why})
	case syncer.Quiet:
		s.decide(coord.Quiet{})
	case syncer.Cut:
		s.cut(e)
	}
}

func (s *fleet) merge(e syncer.Merge) {
	if !(e.Share > 0 && e.Share <= 1) {
		s.t.Fatalf("share %v", e.Share)
	}
	for _, k := range e.Keys {
		if _, there := s.payloads[k]; !there {
			s.t.Fatalf("the payload of %+v is gone before its merge", k)
		}
	}
	s.exchange(syncer.Merged{Finite: !s.chance(s.noise / 4)})
}

// install is the ground truth of S1 and S2: the samples as the learners trained them.
func (s *fleet) install(m syncer.MergeRecord) {
	s.versions[s.era-1][m.Fragment] = m.Version
	for _, c := range m.Parts {
		for _, n := range s.payloads[syncer.Key{Incarnation: c.Incarnation, Fragment: m.Fragment, Sequence: c.Sequence}] {
			if n < 0 || s.truth[m.Fragment][n] {
				s.t.Fatalf("sample %d comes into fragment %d a second time, by %+v", n, m.Fragment, c)
			}
			s.truth[m.Fragment][n] = true
		}
	}
}

func (s *fleet) cut(e syncer.Cut) {
	c := checkpoint{snapshot: s.coord.Snapshot(), tables: e.Tables, saved: map[string]*saved{}}
	for _, t := range s.truth {
		c.truth = append(c.truth, maps.Clone(t))
	}
	for _, m := range c.snapshot.Members {
		if p := s.captures[m.Incarnation]; p != nil && p.checkpoint == e.Checkpoint && m.Captured >= 0 {
			c.saved[m.Island] = p
		}
		if r := s.restores[m.Island]; m.Carried && r != nil {
			s.carry(c, m, r)
		}
	}
	s.copied = c
	s.decide(coord.CutTaken{Checkpoint: e.Checkpoint})
}

// carry takes along a state that its island has not begun with, and what was merged of it.
func (s *fleet) carry(c checkpoint, m coord.MemberSnapshot, r *restore) {
	c.saved[m.Island] = r.saved
	for p := range c.tables.Fragments {
		f := &c.tables.Fragments[p]
		if !slices.ContainsFunc(f.Learners, func(e syncer.LearnerEntry) bool { return e.Incarnation == m.Incarnation }) {
			f.Learners = append(f.Learners, syncer.LearnerEntry{Incarnation: m.Incarnation, Island: m.Island, Merged: r.positions[p]})
		}
	}
}

// save writes the copy in the background; the manifest comes last.
func (s *fleet) save(number uint64) {
	era, c := s.era, s.copied
	s.clock.after(s.jitter(2*time.Second), func() {
		switch {
		case s.over(era):
		case s.failing > 0:
			s.failing--
			s.decide(coord.SaveFailed{Checkpoint: number, Why: "no space"})
		default:
			s.checkpoints = append(s.checkpoints, c)
			s.decide(coord.Saved{Checkpoint: number})
		}
	})
}

// resume begins a new era from the newest checkpoint with these islands.
func (s *fleet) resume(islands []string) {
	s.ended = true
	c := s.checkpoints[len(s.checkpoints)-1]
	s.settle(islands)
	s.xcfg.Era = uint32(s.era + 1)
	s.restores = map[string]*restore{}
	seeds := map[string]coord.Seed{}
	for _, m := range c.snapshot.Members {
		own, seed, ok := c.saved[m.Island], coord.Seed{}, false
		if seed, ok = coord.SeedOf(m); own == nil || !ok || !slices.Contains(islands, m.Island) && !s.open {
			continue
		}
		r := &restore{saved: own, position: seed.Position, committed: seed.Committed}
		for p, t := range c.tables.Fragments {
			r.keep = append(r.keep, m.Captured >= m.Committed && own.fragments[p].version == t.Version)
			var position int64
			for _, e := range t.Learners {
				if e.Incarnation == m.Incarnation {
					position = e.Merged
				}
			}
			r.positions = append(r.positions, position)
		}
		s.restores[m.Island], seeds[m.Island] = r, seed
	}
	first := struct {
		Kind       string   `json:"kind"`
		Checkpoint uint64   `json:"from_checkpoint"`
		Undone     []undone `json:"undone"`
	}{Kind: "era", Checkpoint: c.snapshot.Checkpoint}
	for p, t := range c.tables.Fragments {
		if last := s.versions[s.era-1][p]; last > t.Version {
			first.Undone = append(first.Undone, undone{uint32(s.era), p, t.Version + 1, last})
		}
		s.version[p], s.truth[p] = t.Version, maps.Clone(c.truth[p])
	}
	s.say("resume from checkpoint %d with %v, undone %v", c.snapshot.Checkpoint, islands, first.Undone)
	next := coord.Restore(s.cfg, c.snapshot, seeds, s.past)
	consumed, leased, _ := next.Account()
	s.begin(next, syncer.Restore(s.xcfg, c.tables, consumed+leased), first)
}

type undone struct {
	Era      uint32 `json:"era"`
	Fragment int    `json:"fragment"`
	From     uint64 `json:"from_version"`
	To       uint64 `json:"to_version"`
}
