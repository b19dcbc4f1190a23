package coord

import (
	"fmt"
	"time"
)

// end closes an incarnation: the groups record it, then the rest of its lease
// comes back (S2).
func (s *State) end(m *member, how, why string) ([]Effect, string) {
	sl := s.slots[m.island]
	m.unclaimed = m.holdsSeed()
	m.again = m.unclaimed && (how == "died" || how == "refused") && s.offers(m)
	switch {
	case how == "left":
		sl.shut = !sl.outside
	case m.unclaimed && sl.barren < s.cfg.Restarts: // what it was offered is counted
	case how == "died" && m.committed > m.brought:
		sl.barren = 0
	case how == "died" || how == "refused":
		sl.barren++
	}
	m.phase, m.how, m.why = closing, how, why
	end := Effect(Expel{m.incarnation, why})
	if how == "died" {
		end = s.farewell(m.incarnation, m.island, why)
	}
	return []Effect{end, Close{m.incarnation, why}}, fmt.Sprintf("%s %s: %s", m.island, how, why)
}

// farewell ends the session of an incarnation that is closed. An island from outside may come
// back under its name, unless that does not help or nobody is let in any more: nobody else would
// start it again. Of one that waits for its trainer the process is started again, and the trainer
// is to come to it.
func (s *State) farewell(incarnation uint64, island, why string) Effect {
	sl, late := s.slots[island], s.stopping || s.finished()
	if sl != nil && (sl.outside || s.patient(island)) && !sl.shut && !late && sl.barren < s.cfg.Restarts {
		return Recall{incarnation, why}
	}
	return Expel{incarnation, why}
}

// closedFor says why an incarnation is closed, as far as that is known still.
func (s *State) closedFor(m *member, island string) string {
	why := ""
	if m != nil {
		why = m.why
	} else if sl := s.slots[island]; sl != nil {
		why = sl.ended
	}
	if why == "" {
		return "this incarnation is closed"
	}
	return "this incarnation is closed: " + why
}

// closedAt hands back what is not in the model and starts the island again. A
// restored member may end before the syncer knew what it had brought along.
func (s *State) closedAt(m *member, in ClosedAt, now time.Time) ([]Effect, string) {
	if m.phase != closing {
		return nil, ""
	}
	position := max(min(in.Position, m.lease.end), m.committed)
	rest := m.lease.applied(position, m.holes)
	delete(s.members, m.incarnation)
	s.slots[m.island].ended = m.why
	effects := []Effect{
		Record{CloseRecord{"close", now, m.incarnation, m.island, m.how, m.why, position, rest}},
		Gone{m.incarnation, m.island, m.how, m.why},
	}
	m.unclaimed = m.unclaimed && position == m.brought // what it had sent before may be in the model by now
	if m.unclaimed && m.again && s.offers(m) {
		s.pool.give(m.lease.applied(m.seed.Position, m.holes)) // what it was granted beside
		s.leaveOut()
		return append(effects, s.offer(m, now)...), fmt.Sprintf("%s closed before it had its saved state, which waits for its next incarnation", m.island)
	}
	s.consumed += m.net(position)
	s.pool.give(rest)
	s.leaveOut()
	if m.unclaimed && m.how != "finished" {
		effects = append(effects, Record{NotRestoredRecord{"not_restored", now, m.incarnation, m.island, s.slots[m.island].offered, m.why}})
	}
	return append(effects, s.replace(m, now)...),
		fmt.Sprintf("%s closed at sample %d, %d samples handed back", m.island, position, length(rest))
}

// replace starts the island again unless it left, was shut, cannot get to its first
// step, or comes back by itself.
func (s *State) replace(m *member, now time.Time) []Effect {
	sl := s.slots[m.island]
	if s.stopping || sl.shut || sl.outside || s.finished() {
		return nil
	}
	if sl.barren >= s.cfg.Restarts {
		sl.shut = true
		return []Effect{Gone{m.incarnation, m.island, "given up", fmt.Sprintf("%d starts in a row that brought nothing into the model; last: %s", sl.barren, m.why)}}
	}
	return s.launch(m.island, now)
}

// interrupt takes back every lease; when all have flushed the run is saved and
// ends. One that is still starting has nothing to save, unless it brings a state
// along from a checkpoint: then it comes up first. A state that nobody has come for stays.
func (s *State) interrupt(now time.Time) ([]Effect, string) {
	if s.stopping {
		return nil, ""
	}
	s.stopping, s.stopAt, s.why = true, now, "interrupted by the user"
	if !s.touched { // a new checkpoint would hold less than the one it began from
		return s.finish(Interrupted, s.why+" before an island came", now)
	}
	var effects []Effect
	for _, m := range s.ordered() {
		switch m.phase {
		case training, idle:
			effects = append(effects, Revoke{m.incarnation})
		case launched, joined:
			if !m.restored {
				more, _ := s.end(m, "finished", "interrupted before its first step")
				effects = append(effects, more...)
			}
		}
	}
	return effects, s.why
}
