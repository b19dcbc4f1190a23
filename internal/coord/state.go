package coord

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// slot is an island's place in the run, whichever process fills it.
type slot struct {
	barren   int    // starts in a row that brought nothing into the model
	shut     bool   // left, quarantined, refused or given up: not started again
	why      string // it is quarantined or was refused
	ended    string // why its last incarnation is closed
	starts   int
	outside  bool // nobody starts it: it arrives
	arrivals int
	refused  int // times at the gate
	offered  int // incarnations that were to take its saved state over
}

// State is the coordinator. The zero value is not usable: see New and Restore.
type State struct {
	cfg         Config
	pool        pool
	members     map[uint64]*member
	slots       map[string]*slot
	incarnation uint64   // last one given
	consumed    int64    // samples in the model, of closed incarnations
	skipped     []Range  // samples that the run leaves out; ascending, disjoint
	avoid       []Range  // samples that rollbacks gave up
	withheld    int      // steps so far
	fleet       int64    // samples used by all islands in this era
	spikes      []spiked // the recent ones of this era, oldest first
	rollbacks   int      // of the run
	save        save
	measuring   uint64 // incarnation that measures the finished model
	measured    bool   // it has
	stopping    bool
	stopAt      time.Time
	why         string // of stopping
	started     bool
	done        bool
	seeds       map[string]Seed
	outside     []string       // slots of islands that arrive, in the order they came to be
	uses        map[string]int // of limited join strings
	touched     bool           // somebody was started or has arrived in this era
}

// Seed is what an island takes over from a checkpoint. Positions count from the
// first sample the island was ever given.
type Seed struct {
	Base      int64   // position of the first sample of Leases; what is before is settled
	Leases    []Range // up to Position
	Position  int64   // trained
	Committed int64   // the highest that is in the model
	Answered  int64   // the lowest with a verdict, over fragments
	Holes     []Range // positions before Position of steps that were not applied
}

// net is how many samples before a position the island has applied.
func (s Seed) net(position int64) int64 { return position - holed(s.Holes, position) }

// Withheld is how many samples before Position it has not.
func (s Seed) Withheld() int64 { return holed(s.Holes, s.Position) }

// New is a run that begins with sample 0.
func New(cfg Config) *State {
	s := &State{cfg: cfg, members: map[uint64]*member{}, slots: map[string]*slot{}, seeds: map[string]Seed{}, uses: map[string]int{}}
	s.pool.total = cfg.TotalSamples
	for _, name := range cfg.Islands {
		s.slots[name] = &slot{}
	}
	for _, name := range cfg.Outside {
		s.slots[name], s.outside = &slot{outside: true}, append(s.outside, name)
	}
	return s
}

// Step takes one input at time now and returns what to do and why.
func (s *State) Step(in Input, now time.Time) ([]Effect, string) {
	if s.done {
		return nil, "the run is over"
	}
	var effects []Effect
	reason := ""
	switch in := in.(type) {
	case Start:
		effects, reason = s.start(now)
	case Arrived:
		effects, reason = s.arrived(in, now)
	case Interrupt:
		effects, reason = s.interrupt(now)
	case Tick:
		effects, reason = s.tick(now)
	case Quiet:
		effects, reason = s.quiet(now)
	case CutTaken:
		effects, reason = s.cutTaken(in, now)
	case Saved:
		effects, reason = s.saved(in)
	case Evaluated:
		effects, reason = s.evaluated(in)
	case SaveFailed:
		effects, reason = s.saveFailed(in, now)
	default:
		effects, reason = s.member(in, now)
	}
	if s.done {
		return effects, reason
	}
	for _, follow := range []func(time.Time) ([]Effect, string){s.supply, s.release, s.settle} {
		more, why := follow(now)
		if why != "" {
			reason = why
		}
		effects = append(effects, more...)
	}
	return effects, reason
}

// ordered lists the members by incarnation, so that equal inputs give equal effects.
func (s *State) ordered() []*member {
	return slices.SortedFunc(maps.Values(s.members), func(a, b *member) int { return cmp.Compare(a.incarnation, b.incarnation) })
}

// Consumed is the number of samples that are in the model.
func (s *State) Consumed() int64 {
	n := s.consumed
	for _, m := range s.members {
		n += m.net(m.committed)
	}
	return n
}

// Live is the number of members that are here: neither awaited nor closing nor gone.
func (s *State) Live() int {
	n := 0
	for _, m := range s.members {
		if m.phase != closing && !m.awaited {
			n++
		}
	}
	return n
}

// Skipped is the samples that the run leaves out.
func (s *State) Skipped() []Range { return slices.Clone(s.skipped) }

// Rollbacks is how often the run was rolled back, in all its eras.
func (s *State) Rollbacks() int { return s.rollbacks }

// Incarnation is the last one given.
func (s *State) Incarnation() uint64 { return s.incarnation }

// Account says where the run's samples are: in the model or behind what is, leased
// and not in the model, or in the pool. With those that are skipped they always add
// up to the goal, unless that was lowered below what is trained already.
func (s *State) Account() (consumed, leased, pooled int64) {
	consumed = s.consumed
	for _, m := range s.members {
		consumed += m.net(m.committed)
		leased += m.net(m.lease.end) - m.net(m.committed)
	}
	for _, seed := range s.seeds {
		consumed += seed.net(seed.Committed)
		leased += seed.net(seed.Position) - seed.net(seed.Committed)
	}
	return consumed, leased, s.pool.left()
}
