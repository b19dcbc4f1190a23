package runfile

import (
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/spike"
)

// DefaultPreset is the model of a run that names none.
const DefaultPreset = "ling-nano"

// Default is the built-in run: a small model on the Go source tree, two islands of
// which the second is paced to half the speed. Sources of the numbers are in
// docs/formats/run.md.
func Default() Run {
	rule := spike.Default()
	return Run{
		Format: Format,
		Seed:   1,
		Tokens: 1_000_000,
		Model:  preset(DefaultPreset),
		Data:   Data{ValidShare: 0.05},
		Train: Train{
			SequenceTokens:     128,
			BatchSequences:     4,
			Accumulate:         1,
			DocumentBoundaries: true,
			PeakRate:           2e-3,
			FinalRate:          0,
			WarmupTokens:       Auto,
			DecayTokens:        Auto,
			Shape:              "wsd",
			Beta1:              0.9,
			Beta2:              0.99,
			Eps:                1e-8,
			WeightDecay:        0.1,
			ClipNorm:           1,
		},
		Eval:       Eval{EveryTokens: Auto, Sequences: 32, FinalSequences: 256},
		Checkpoint: Checkpoint{EveryTokens: Auto, Keep: 2},
		Exchange: Exchange{
			Fragments:      4,
			PeriodTokens:   Auto,
			OverlapSteps:   1,
			Quorum:         1,
			MaxWaitSeconds: 10,
			StaleVersions:  4,
			JoinerMoments:  PeerMoments,
		},
		Spike: Spike{
			Window:     rule.Window,
			Factor:     rule.Factor,
			FloorNats:  rule.FloorNats,
			Limit:      10,
			LimitSteps: 1000,
			Rollbacks:  3,
		},
		Islands: []Island{{Name: "fast", Pace: 1}, {Name: "slow", Pace: 0.5}},
		Limits: Limits{
			HeartbeatSeconds: 10,
			StallSeconds:     10,
			StallFactor:      10,
			FirstStepSeconds: 300,
			RunwaySeconds:    60,
			Restarts:         5,
		},
	}
}

// preset is the model section of a preset that is known to exist.
func preset(name string) Model {
	cfg, err := model.Preset(name)
	if err != nil {
		panic("runfile: built-in preset: " + err.Error())
	}
	return Model{Preset: name, Config: cfg}
}
