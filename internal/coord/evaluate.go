package coord

// Where an island measures the validation loss, the finished model is measured before the
// run ends: everything is in it and saved, and nobody is dismissed yet. Whoever measures
// may take its time; the run waits for as long as it lives.

// Evaluated: the island has measured the finished model, or cannot.
type Evaluated struct{ Incarnation uint64 }

func (Evaluated) isInput() {}

// Evaluate asks an idle island for the validation loss of the finished model, which it is
// sent first. Answer with Evaluated.
type Evaluate struct{ Incarnation uint64 }

func (Evaluate) isEffect() {}

// lastWord asks for the validation loss of the finished model, once, and says whether the
// run waits for it.
func (s *State) lastWord(outcome Outcome) (effects []Effect, why string, waits bool) {
	if outcome != Finished || s.stopping || s.measured || s.cfg.Evaluator == "" {
		return nil, "", false
	}
	for _, m := range s.ordered() {
		if m.island != s.cfg.Evaluator || m.phase != idle {
			continue
		}
		if s.measuring == m.incarnation {
			return nil, "", true
		}
		s.measuring = m.incarnation
		return []Effect{Evaluate{m.incarnation}}, m.island + " measures the finished model", true
	}
	return nil, "", false
}

// evaluated ends the wait.
func (s *State) evaluated(in Evaluated) ([]Effect, string) {
	if in.Incarnation == s.measuring {
		s.measured = true
	}
	return nil, ""
}
