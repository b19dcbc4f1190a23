package audit_test

import (
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
)

// visitor is somebody outside who starts an island and starts it again whenever it is
// gone, by its name or by none.
type visitor struct {
	name string
	inc  uint64
}

// settle says which islands the next era has, and who of them comes from outside.
func (s *fleet) settle(islands []string) {
	s.cfg.Islands, s.cfg.Outside, s.cfg.Open = nil, nil, s.open
	s.visitors = nil
	for _, name := range islands {
		switch {
		case !s.outside[name]:
			s.cfg.Islands = append(s.cfg.Islands, name)
			continue
		case !s.open:
			s.cfg.Outside = append(s.cfg.Outside, name)
		}
		s.visitors = append(s.visitors, &visitor{name: name})
	}
	if s.open { // it waits for somebody, so somebody must come
		s.visitors = append(s.visitors, &visitor{})
	}
}

// comes says whether an island is from outside.
func (s *fleet) comes(name string) bool { return !slices.Contains(s.cfg.Islands, name) }

// invite lets every visitor come whenever its island is not there.
func (s *fleet) invite() {
	for i, v := range s.visitors {
		v.inc = 0
		s.visit(s.era, i)
	}
}

func (s *fleet) visit(era, i int) {
	s.clock.after(s.jitter(4*time.Second), func() {
		if s.over(era) {
			return
		}
		v := s.visitors[i]
		if l := s.learners[v.inc]; l == nil || l.dead || l.expelled {
			in := coord.Arrived{Arrival: uint64(i), Island: v.name}
			if s.chance(0.3) {
				in.Island = ""
			}
			s.decide(in)
		}
		s.visit(era, i)
	})
}

// accept makes a visitor a learner, unless it has lost patience.
func (s *fleet) accept(e coord.Accept) {
	l := s.born(e.Incarnation, e.Island)
	s.visitors[e.Arrival].inc = e.Incarnation
	if s.crashing[e.Island] > 0 {
		s.crashing[e.Island]--
		l.die("could not start", -1)
		s.decide(coord.Exited{Incarnation: e.Incarnation, Why: "its session ended before it was let in"})
		return
	}
	l.linked = true
	s.decide(coord.Joined{Incarnation: l.inc, Island: l.island})
	l.beat()
}

// born is the learner of a new incarnation.
func (s *fleet) born(incarnation uint64, island string) *learner {
	pace, known := s.paces[island]
	if !known {
		pace = 700 * time.Millisecond
	}
	l := &learner{
		s: s, era: s.era, inc: incarnation, island: island, pace: pace, starving: -1,
		up:   &pipe{clock: s.clock, delay: func() time.Duration { return s.jitter(30 * time.Millisecond) }},
		down: &pipe{clock: s.clock, delay: func() time.Duration { return s.jitter(30 * time.Millisecond) }},
	}
	for range s.xcfg.Fragments {
		l.fragments = append(l.fragments, &exchange{})
	}
	s.learners[incarnation] = l
	return l
}
