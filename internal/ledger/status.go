package ledger

import (
	"cmp"
	"slices"
	"time"
)

// Status is the state of a run as its events tell it so far. It is a plain value
// of which Apply is the only writer.
type Status struct {
	Run     RunStarted // zero until the run says so
	Now     time.Time  // time of the newest event
	Ended   *RunEnded  // nil while the run goes on
	Islands []Island   // in the order of the run file, later joiners behind

	Consumed int64    // tokens committed, earlier eras included
	Merges   int      // of fragments, in this era
	Versions []uint64 // newest by fragment, of this era
	Dropped  int      // contributions too old
	Refused  int      // contributions unusable
	Skipped  int64    // inner steps that were not applied

	Spikes         int       // decisions of the spike rule, since this status began
	Rollbacks      int       // of the run, earlier eras included
	SkippedSamples []Samples // that the run leaves out

	TrainLoss   Value  // mean of the last steps of all islands
	ValidLoss   Value  // newest validation loss
	ValidTokens int64  // tokens committed when it was measured
	ValidFinal  bool   // it is of the finished model
	ValidIsland string // that measured it; empty: the run itself

	Checkpoint string // path of the newest whole one, empty before the first
	Held       string // why saves wait, empty when they do not
	Paused     string // why merges wait, empty when they do not

	train mean
}

// New is the state before the first event.
func New() *Status { return &Status{} }

// Apply folds one event in.
func (s *Status) Apply(e Event) {
	s.Advance(e.when())
	switch e := e.(type) {
	case RunStarted:
		s.Run, s.Consumed, s.Checkpoint = e, e.TokensDone, e.Checkpoint
		s.Rollbacks, s.SkippedSamples = e.Rollbacks, e.Skipped
		for _, name := range e.Islands {
			s.island(name)
		}
	case IslandStarted, IslandReady, IslandGone, StepDone:
		s.applyIsland(e)
	case Spiked:
		s.Spikes++
		if e.Verdict == Skipped {
			s.SkippedSamples = joined(append(slices.Clone(s.SkippedSamples), e.Samples...))
		}
	case RolledBack:
		s.Run.Era, s.Rollbacks, s.SkippedSamples, s.Consumed = e.Era, e.Rollbacks, e.Skipped, e.Tokens
	case Merged:
		s.Merges++
		for len(s.Versions) <= e.Fragment {
			s.Versions = append(s.Versions, 0)
		}
		s.Versions[e.Fragment] = e.Version
	case Ruled:
		s.rule(e)
	case Consumed:
		s.Consumed = e.Tokens
	case Evaluated:
		s.ValidLoss, s.ValidTokens, s.ValidFinal, s.ValidIsland = Known(e.Loss), e.Tokens, e.Final, e.Island
	case CheckpointSaved:
		s.Checkpoint, s.Held = e.Path, ""
	case CheckpointHeld:
		s.Held = e.Reason
	case StorePaused:
		s.Paused = e.Reason
	case RunEnded:
		s.Ended = &e
	case NotRestored:
		s.island(e.Island).Unrestored = e.Reason
	case Gated:
		s.island(e.Island).gated(e)
	case Note:
	}
}

// joined is samples in order, as few spans as they make.
func joined(samples []Samples) (out []Samples) {
	slices.SortFunc(samples, func(a, b Samples) int { return cmp.Compare(a.From, b.From) })
	for _, s := range samples {
		if n := len(out); n > 0 && out[n-1].To >= s.From {
			out[n-1].To = max(out[n-1].To, s.To)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// Advance tells the time when no event does. Time never goes back.
func (s *Status) Advance(now time.Time) {
	if now.After(s.Now) {
		s.Now = now
	}
}

func (s *Status) rule(e Ruled) {
	island := s.island(e.Island)
	switch e.Ruling {
	case Dropped:
		s.Dropped++
		island.Dropped++
	case Refused:
		s.Refused++
		island.Refused++
	}
}

func (s *Status) applyIsland(e Event) {
	switch e := e.(type) {
	case IslandStarted:
		s.island(e.Island).start(e)
	case IslandReady:
		s.island(e.Island).ready(e)
	case IslandGone:
		s.island(e.Island).gone(e)
	case StepDone:
		if skipped, news := s.island(e.Island).step(e); news {
			s.Skipped += skipped
			s.train.add(e.Loss)
			s.TrainLoss = s.train.value(e.Loss)
		}
	}
}

// island finds an island by name and adds it when it is new.
func (s *Status) island(name string) *Island {
	i := slices.IndexFunc(s.Islands, func(x Island) bool { return x.Name == name })
	if i < 0 {
		s.Islands = append(s.Islands, Island{Name: name, State: Awaited})
		i = len(s.Islands) - 1
	}
	return &s.Islands[i]
}

// Trained is the number of tokens that the islands trained in this era. It may
// exceed what is committed: work of an island that died is done again.
func (s *Status) Trained() int64 {
	var n int64
	for i := range s.Islands {
		n += s.Islands[i].Tokens
	}
	return n
}

// Share is an island's part of the tokens trained, unknown before the first.
func (s *Status) Share(i Island) Value {
	all := s.Trained()
	if all == 0 {
		return Value{}
	}
	return Known(float64(i.Tokens) / float64(all))
}

// TokensPerSecond is the present speed of all islands together.
func (s *Status) TokensPerSecond() Value {
	sum, any := 0.0, false
	for i := range s.Islands {
		if rate, ok := s.Islands[i].Speed(s.Now).Get(); ok {
			sum, any = sum+rate, true
		}
	}
	if !any {
		return Value{}
	}
	return Known(sum)
}

// Elapsed is the time since the run started.
func (s *Status) Elapsed() time.Duration {
	if s.Run.At.IsZero() {
		return 0
	}
	return s.Now.Sub(s.Run.At)
}

// Left is the time that the remaining tokens take at the present speed; ok is
// false when that is unknown.
func (s *Status) Left() (left time.Duration, ok bool) {
	rate, ok := s.TokensPerSecond().Get()
	if !ok || rate <= 0 {
		return 0, false
	}
	tokens := max(0, s.Run.Tokens-s.Consumed)
	return time.Duration(float64(tokens) / rate * float64(time.Second)), true
}
