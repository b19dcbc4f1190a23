package coord

import (
	"fmt"
	"time"
)

// savePhase is how far a checkpoint is.
//
// The exchange comes to rest first (no call goes out, what is under way is
// merged), so that every island's anchors are the syncer's versions when it
// captures its own state; islands go on training all the while. Then the cut is
// copied, the exchange goes on, and writing happens in the background (S5).
type savePhase int

const (
	noSave savePhase = iota
	pausing
	capturing
	cutting
	writing
)

type save struct {
	number   uint64 // last one begun
	phase    savePhase
	since    time.Time
	missing  map[uint64]bool // incarnations that have not captured yet
	final    bool
	consumed int64 // at the last cut
}

func (s *State) beginSave(final bool, now time.Time) ([]Effect, string) {
	s.save.number++
	s.save.phase, s.save.since, s.save.final = pausing, now, final
	for _, m := range s.members {
		m.captured = -1
	}
	return []Effect{PauseExchange{}}, fmt.Sprintf("checkpoint %d begins", s.save.number)
}

// quiet: the exchange rests; whoever can captures its state.
func (s *State) quiet(now time.Time) ([]Effect, string) {
	if s.save.phase != pausing {
		return nil, ""
	}
	s.save.phase, s.save.since, s.save.missing = capturing, now, map[uint64]bool{}
	var effects []Effect
	for _, m := range s.ordered() {
		if m.phase == training || m.phase == idle {
			s.save.missing[m.incarnation] = true
			effects = append(effects, Capture{m.incarnation, s.save.number})
		}
	}
	more, reason := s.maybeCut(now)
	return append(effects, more...), reason
}

func (s *State) capturedBy(m *member, in Captured) ([]Effect, string) {
	if s.save.phase != capturing || in.Checkpoint != s.save.number {
		return nil, ""
	}
	delete(s.save.missing, m.incarnation)
	if !in.OK {
		return nil, fmt.Sprintf("%s could not save its state for checkpoint %d", m.island, in.Checkpoint)
	}
	m.captured = in.Position
	return nil, fmt.Sprintf("%s captured its state at sample %d", m.island, in.Position)
}

// maybeCut cuts once nobody alive is missing.
func (s *State) maybeCut(now time.Time) ([]Effect, string) {
	if s.save.phase != capturing {
		return nil, ""
	}
	for inc := range s.save.missing {
		if m := s.members[inc]; m != nil && m.phase != closing {
			return nil, ""
		}
	}
	s.save.phase, s.save.since = cutting, now
	return []Effect{Cut{s.save.number}}, fmt.Sprintf("checkpoint %d is cut", s.save.number)
}

func (s *State) cutTaken(in CutTaken, now time.Time) ([]Effect, string) {
	if s.save.phase != cutting || in.Checkpoint != s.save.number {
		return nil, ""
	}
	s.save.phase, s.save.since, s.save.consumed = writing, now, s.Consumed()
	if _, _, over := s.over(); !over {
		s.save.final = false // somebody trains on: the last one is still to come
	}
	return []Effect{
		ResumeExchange{},
		Record{CheckpointRecord{"checkpoint", now, s.save.number, s.save.consumed}},
		Save{s.save.number},
	}, fmt.Sprintf("checkpoint %d is being written", s.save.number)
}

func (s *State) saved(in Saved) ([]Effect, string) {
	if s.save.phase != writing || in.Checkpoint != s.save.number {
		return nil, ""
	}
	s.save.phase = noSave
	if s.save.final {
		return nil, fmt.Sprintf("final checkpoint %d is written", in.Checkpoint)
	}
	return nil, fmt.Sprintf("checkpoint %d is written", in.Checkpoint)
}

// saveFailed: the last checkpoint is what a run is for, so without it the run has
// failed; an earlier one is tried again when the next is due.
func (s *State) saveFailed(in SaveFailed, now time.Time) ([]Effect, string) {
	if s.save.phase != writing || in.Checkpoint != s.save.number {
		return nil, ""
	}
	s.save.phase = noSave
	if s.save.final {
		return s.finish(Failed, "the last checkpoint could not be written: "+in.Why, now)
	}
	return nil, fmt.Sprintf("checkpoint %d was not written: %s", in.Checkpoint, in.Why)
}

// saveTick bounds the phases that wait for others.
func (s *State) saveTick(now time.Time) ([]Effect, string) {
	awaited := (*member).exchanges
	if s.save.phase == capturing { // what others upload by then is no reason to wait for those
		awaited = func(m *member) bool { return s.save.missing[m.incarnation] }
	}
	limit, over := s.overdue(s.save.since, s.cfg.CheckpointWait, now, awaited)
	if !over {
		return nil, ""
	}
	switch s.save.phase {
	case pausing:
		s.save.phase, s.save.consumed, s.save.final = noSave, s.Consumed(), false
		return []Effect{ResumeExchange{}}, fmt.Sprintf("checkpoint %d given up: the exchange did not come to rest within %v", s.save.number, limit.Round(100*time.Millisecond))
	case capturing:
		clear(s.save.missing)
		return s.maybeCut(now)
	}
	return nil, ""
}

// settle begins what the state itself calls for: a checkpoint that is due, the
// last one, or the end of the run. The last one counts when nothing has come into
// the model since its cut.
func (s *State) settle(now time.Time) ([]Effect, string) {
	switch s.save.phase {
	case capturing:
		return s.maybeCut(now)
	case noSave:
	default:
		return nil, ""
	}
	if outcome, why, over := s.over(); over {
		if !s.save.final || s.save.consumed != s.Consumed() {
			return s.beginSave(true, now)
		}
		if effects, asks, waits := s.lastWord(outcome); waits {
			return effects, asks
		}
		return s.finish(outcome, why, now)
	}
	s.save.final = false
	if every := s.cfg.CheckpointSamples; every > 0 && s.Consumed()-s.save.consumed >= every && !s.stopping && !s.finished() { // the last one is near then
		return s.beginSave(false, now)
	}
	return nil, ""
}

// over says whether nothing is left to do: nobody trains, flushes or is being
// closed, and no samples wait (or the run is to stop).
func (s *State) over() (Outcome, string, bool) {
	if !s.started {
		return "", "", false
	}
	starting := false
	for _, m := range s.members {
		switch m.phase {
		case closing, training:
			return "", "", false
		case launched, joined: // only one that brings something along has something to flush
			starting = starting || m.restored && !(m.awaited && s.stopping) // a state that waits is in the last checkpoint as it is
		}
	}
	switch {
	case starting:
		return "", "", false
	case s.finished() && len(s.skipped) > 0:
		return Finished, fmt.Sprintf("every sample is in the model but %d that were skipped", length(s.skipped)), true
	case s.finished():
		return Finished, "every sample is in the model", true
	case s.stopping:
		return Interrupted, s.why, true
	case s.pool.left() == 0:
		return Finished, fmt.Sprintf("every sample is trained; %d of %d are not in the model: what held them was dropped or refused",
			s.cfg.TotalSamples-length(s.skipped)-s.Consumed(), s.cfg.TotalSamples), true
	case len(s.members) == 0 && !s.expecting():
		return Failed, fmt.Sprintf("no island is left; %d of %d samples are in the model", s.Consumed(), s.cfg.TotalSamples), true
	}
	return "", "", false
}

func (s *State) finished() bool { return s.Consumed()+length(s.skipped) >= s.cfg.TotalSamples }

func (s *State) finish(outcome Outcome, why string, now time.Time) ([]Effect, string) {
	s.done = true
	effects := []Effect{Record{EndRecord{"end", now, outcome, why}}}
	for _, m := range s.ordered() {
		effects = append(effects, Dismiss{m.incarnation}, Gone{m.incarnation, m.island, "finished", why})
	}
	return append(effects, Done{outcome, why}), why
}
