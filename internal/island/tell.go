package island

import "time"

// Who has started an island by hand on a host of its own sees its log and nothing else of the run:
// soon that it trains, and now and then how.
const (
	tellFirst = 5 * time.Second
	tellEvery = 30 * time.Second
)

// teller says when that is.
type teller struct {
	at     time.Time // of the last line, or of the first step
	tokens int64     // that the island had trained by then
	every  time.Duration
}

// due gives the tokens of a second since the last line when it is time for another.
func (t *teller) due(now time.Time, tokens int64) (speed float64, due bool) {
	if t.every == 0 {
		*t = teller{now, tokens, tellFirst}
	}
	passed := now.Sub(t.at)
	if passed < t.every {
		return 0, false
	}
	speed = float64(tokens-t.tokens) / passed.Seconds()
	*t = teller{now, tokens, tellEvery}
	return speed, true
}

// tell writes how a native island from outside trains; of a trainer of one's own that is its own to say.
func (r *runner) tell(s StepStats) {
	if r.crew != nil || !r.outside {
		return
	}
	if speed, due := r.telling.due(time.Now(), r.learner.ownTokens()); due {
		r.log.Info("trains", "step", r.learner.step, "loss", s.Loss, "tokens_per_second", int64(speed), "run_tokens", r.learner.clock.stamp, "of", int64(r.run.Tokens))
	}
}
