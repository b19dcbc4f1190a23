package ledger

// Summary is what a run did, for people and as the JSON object that ends the
// output of "mistura train --json". Keys are only ever added. A value that is
// unknown is null.
type Summary struct {
	Tokens     int64           `json:"tokens"`     // committed, earlier eras included
	Seconds    float64         `json:"seconds"`    // of this era
	ValidLoss  Value           `json:"valid_loss"` // nats per token, newest
	TrainLoss  Value           `json:"train_loss"` // nats per token, mean of the last steps
	Merges     int             `json:"merges"`
	Checkpoint *string         `json:"checkpoint"` // path of the newest whole one
	Islands    []IslandSummary `json:"islands"`

	Outcome      Outcome `json:"outcome"`
	Reason       string  `json:"reason"` // of the outcome, empty when there is nothing to say
	RunID        string  `json:"run_id"`
	Dir          string  `json:"dir"`
	Era          uint32  `json:"era"`
	GoalTokens   int64   `json:"goal_tokens"`
	Params       int64   `json:"params"`
	ActiveParams *int64  `json:"active_params"`
	BigramNats   Value   `json:"bigram_nats"`     // cross-entropy of the held-out text
	TrigramNats  Value   `json:"trigram_nats"`    // the same, byte trigram
	ValidFinal   bool    `json:"valid_final"`     // valid_loss is of the finished model
	ValidTokens  int64   `json:"valid_tokens"`    // committed when valid_loss was measured
	ValidIsland  *string `json:"valid_island"`    // that measured it; nil: the run itself, or nobody
	Tracked      bool    `json:"samples_tracked"` // false: islands bring their own data, so that S2 cannot be judged
	Dropped      int     `json:"dropped"`
	Refused      int     `json:"refused"`
	Skipped      int64   `json:"skipped_steps"`

	Spikes         int       `json:"spikes"`          // decisions of the spike rule
	Rollbacks      int       `json:"rollbacks"`       // of the run, earlier eras included
	SkippedSamples []Samples `json:"skipped_samples"` // that the run leaves out
}

// IslandSummary is what one island did in this era.
type IslandSummary struct {
	Name            string `json:"name"`
	Tokens          int64  `json:"tokens"` // trained, by all incarnations
	Steps           int64  `json:"steps"`
	TokensPerSecond Value  `json:"tokens_per_second"`
	Restarts        int    `json:"restarts"`
	Share           Value  `json:"share"` // of the tokens that all islands trained
	Dropped         int    `json:"dropped"`
	Refused         int    `json:"refused"`
	GradientNorm    Value  `json:"gradient_norm"` // of the last step, before clipping
	ExpertLoad      Value  `json:"expert_load"`   // of the last step: busiest expert over mean, worst layer
	// Numeric is "fp32", or "emulated" and a profile of package numeric; of a trainer what it declares at the
	// gate. nil: it has not started, or has not said.
	Numeric *string `json:"numeric"`
	// Gate is passed, recorded, skipped, refused or pending; nil: it has not come.
	Gate       *string `json:"gate"`
	GateReason string  `json:"gate_reason"` // of the last decision
}

// Summary sums the run up. A run that has not ended counts as failed.
func (s *Status) Summary() Summary {
	ended := RunEnded{Outcome: RunFailed, Reason: "the run did not end"}
	if s.Ended != nil {
		ended = *s.Ended
	}
	sum := Summary{
		Tokens:      s.Consumed,
		Seconds:     s.Elapsed().Seconds(),
		ValidLoss:   s.ValidLoss,
		TrainLoss:   s.TrainLoss,
		Merges:      s.Merges,
		Islands:     []IslandSummary{},
		Outcome:     ended.Outcome,
		Reason:      ended.Reason,
		RunID:       s.Run.RunID,
		Dir:         s.Run.Dir,
		Era:         s.Run.Era,
		GoalTokens:  s.Run.Tokens,
		Params:      s.Run.Params,
		BigramNats:  entropy(s.Run.BigramNats),
		TrigramNats: entropy(s.Run.TrigramNats),
		ValidFinal:  s.ValidFinal,
		ValidTokens: s.ValidTokens,
		Tracked:     !s.Run.OwnData,
		Dropped:     s.Dropped,
		Refused:     s.Refused,
		Skipped:     s.Skipped,

		Spikes:         s.Spikes,
		Rollbacks:      s.Rollbacks,
		SkippedSamples: append([]Samples{}, s.SkippedSamples...),
	}
	if path := s.Checkpoint; path != "" {
		sum.Checkpoint = &path
	}
	if n := s.Run.ActiveParams; n > 0 {
		sum.ActiveParams = &n
	}
	if island := s.ValidIsland; island != "" {
		sum.ValidIsland = &island
	}
	for _, i := range s.Islands {
		sum.Islands = append(sum.Islands, IslandSummary{
			Name:            i.Name,
			Tokens:          i.Tokens,
			Steps:           i.Steps,
			TokensPerSecond: i.MeanSpeed(),
			Restarts:        i.Restarts,
			Share:           s.Share(i),
			Dropped:         i.Dropped,
			Refused:         i.Refused,
			GradientNorm:    i.GradientNorm,
			ExpertLoad:      i.ExpertLoad,
			Numeric:         i.numeric(),
			Gate:            i.gate(),
			GateReason:      i.GateReason,
		})
	}
	return sum
}

// entropy reads a number of an event where 0 stands for not measured, such as a cross-entropy.
func entropy(nats float64) Value {
	if nats == 0 {
		return Value{}
	}
	return Known(nats)
}
