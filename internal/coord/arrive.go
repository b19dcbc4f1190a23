package coord

import (
	"fmt"
	"strings"
	"time"
)

// Islands come in two ways. Those that the run starts itself are launched and
// replaced by effects. Those from outside arrive when somebody starts them, and after
// an end their place waits: nothing is given up, and a run without anybody waits.
//
// After a resume the place of an island from outside whose state is in the checkpoint
// is an incarnation at once, which its arrival takes over. Until then it is awaited: it
// holds its samples, and its state is in every checkpoint as it was (Snapshot); but no one
// waits for it when the pool is empty.

// Arrived: an island from outside wants to take part. The answer is Accept or Refuse.
type Arrived struct {
	Arrival uint64 // the caller's number for it
	Island  string // empty: any place that is free
	Token   string // names the join string it came by, if its uses are limited
	Uses    int    // how often that may be used; 0: any number of times
}

func (Arrived) isInput() {}

type (
	// Accept lets an arrival in under a name and an incarnation. Its Joined follows.
	Accept struct {
		Arrival, Incarnation uint64
		Island               string
		Restart              bool
	}
	// Refuse sends an arrival away. Retry: it may be let in a moment later.
	Refuse struct {
		Arrival uint64
		Why     string
		Retry   bool
	}
)

func (Accept) isEffect() {}
func (Refuse) isEffect() {}

// ArriveRecord: an island from outside took over an incarnation.
type ArriveRecord struct {
	Kind        string    `json:"kind"` // "arrive"
	At          time.Time `json:"at"`
	Incarnation uint64    `json:"incarnation"`
	Island      string    `json:"island"`
	Token       string    `json:"token,omitempty"` // whose uses this counts for
}

// maxIslands bounds how many names an open run may get.
const maxIslands = 1024

func (s *State) arrived(in Arrived, now time.Time) ([]Effect, string) {
	name, why, retry := s.place(in)
	if why != "" {
		effects := []Effect{Refuse{in.Arrival, why, retry}}
		if m := s.holder(name); m != nil && m.broken && m.phase != closing {
			more, _ := s.end(m, "died", "its stream broke, and another one came in its name")
			effects = append(effects, more...)
		}
		return effects, "refused an island: " + why
	}
	sl := s.slots[name]
	if sl == nil {
		sl = &slot{outside: true}
		s.slots[name], s.outside = sl, append(s.outside, name)
	}
	var effects []Effect
	m := s.holder(name)
	if m == nil {
		m, effects = s.incarnate(name, now)
	}
	m.awaited, m.launchedAt, m.heardAt, m.steppedAt = false, now, now, now
	s.touched = true
	sl.arrivals++
	if in.Token != "" {
		s.uses[in.Token]++
	}
	return append(effects,
		Record{ArriveRecord{"arrive", now, m.incarnation, name, in.Token}},
		Accept{in.Arrival, m.incarnation, name, sl.arrivals > 1},
	), name + " arrived"
}

// place finds the name that an arrival gets, or says why there is none. The name
// comes with a refusal, too, when somebody else has it.
func (s *State) place(in Arrived) (name, why string, retry bool) {
	switch {
	case !s.started:
		return "", "the run has not begun", true
	case s.stopping:
		return "", "the run is being stopped", false
	case s.finished():
		return "", "nothing is left to train", false
	case in.Uses > 0 && s.uses[in.Token] >= in.Uses:
		return "", fmt.Sprintf("join string %s was for %d uses, all of which are used up", in.Token, in.Uses), false
	case in.Island == "":
		return s.anyPlace()
	}
	sl := s.slots[in.Island]
	switch {
	case sl == nil && s.cfg.Open && len(s.slots) < maxIslands:
		return in.Island, "", false
	case sl == nil && s.cfg.Open:
		return "", fmt.Sprintf("the run has %d islands, no more are taken", len(s.slots)), false
	case sl == nil:
		return "", fmt.Sprintf("the run has no island %q; %s", in.Island, s.free()), false
	case !sl.outside:
		return "", fmt.Sprintf("island %q is started by the run itself; %s", in.Island, s.free()), false
	}
	why, retry = s.taken(in.Island)
	return in.Island, why, retry
}

// taken says why an outside island's place is not free, or nothing.
func (s *State) taken(name string) (why string, retry bool) {
	m := s.holder(name)
	switch {
	case s.isFree(name):
		return "", false
	case s.slots[name].shut:
		return fmt.Sprintf("island %q is shut out: %s", name, s.slots[name].why), false
	case m.phase == closing:
		return fmt.Sprintf("island %q is just ending", name), true
	case m.broken:
		return fmt.Sprintf("island %q has lost its stream and is ended in favour of the newcomer", name), true
	}
	return fmt.Sprintf("island %q is here already (incarnation %d); %s", name, m.incarnation, s.free()), false
}

// anyPlace is the first free place: one that is awaited, then one that is listed or was
// left, then a new one if the run is open.
func (s *State) anyPlace() (name, why string, retry bool) {
	for _, awaited := range []bool{true, false} {
		for _, name := range s.outside {
			if m := s.holder(name); (m != nil) == awaited && s.isFree(name) {
				return name, "", false
			}
		}
	}
	if s.cfg.Open && len(s.slots) < maxIslands {
		for n := 1; ; n++ {
			if name := fmt.Sprintf("island-%d", n); s.slots[name] == nil {
				return name, "", false
			}
		}
	}
	for _, name := range s.outside {
		if _, soon := s.taken(name); soon {
			return name, "every place is taken, but one is about to be free", true
		}
	}
	return "", "every place in the run is taken", false
}

func (s *State) isFree(name string) bool {
	m := s.holder(name)
	return !s.slots[name].shut && (m == nil || m.awaited && m.phase != closing)
}

// free names the places that are, for a message.
func (s *State) free() string {
	var names []string
	for _, name := range s.outside {
		if s.isFree(name) {
			names = append(names, name)
		}
	}
	switch {
	case len(names) > 0:
		return "free: " + strings.Join(names, ", ")
	case s.cfg.Open:
		return "choose another name"
	}
	return "no place is free"
}

// holder is the member that has a name, closing or not.
func (s *State) holder(name string) *member {
	for _, m := range s.members {
		if m.island == name {
			return m
		}
	}
	return nil
}

// await opens the places of islands whose saved state waits for them.
func (s *State) await(now time.Time) []Effect {
	var effects []Effect
	for _, name := range s.outside {
		if _, saved := s.seeds[name]; saved {
			m, record := s.incarnate(name, now)
			m.awaited = true
			effects = append(effects, record...)
		}
	}
	return effects
}

// expecting says whether somebody may still arrive.
func (s *State) expecting() bool {
	for _, name := range s.outside {
		if !s.slots[name].shut {
			return true
		}
	}
	return s.cfg.Open
}

// release gives up on those who are awaited once everybody who is here has run out of
// samples: theirs are needed.
func (s *State) release(now time.Time) ([]Effect, string) {
	switch {
	case s.stopping || s.pool.left() > 0:
		return nil, ""
	case s.finished():
		return s.giveUp("nothing is left to train")
	}
	here := false
	for _, m := range s.members {
		if !m.awaited && m.phase != idle {
			return nil, ""
		}
		here = here || m.phase == idle
	}
	if !here {
		return nil, ""
	}
	return s.giveUp("the others have run out of samples, and it has not come back")
}

// giveUp ends everybody who is awaited.
func (s *State) giveUp(why string) (effects []Effect, reason string) {
	for _, m := range s.ordered() {
		if m.awaited && m.phase != closing {
			more, r := s.end(m, "died", why)
			effects, reason = append(effects, more...), r
		}
	}
	return effects, reason
}
