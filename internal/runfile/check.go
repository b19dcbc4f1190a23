package runfile

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/spike"
)

// maxTokens keeps every product of counts within 63 bits.
const maxTokens = 1_000_000_000_000_000

// byteTokens is the number of tokens of the byte tokenizer.
const byteTokens = 256

// rule is one demand on one value.
type rule struct {
	path  string
	value any
	ok    bool
	want  string // follows "must be"
}

// check gives the first rule that is broken, as bad input.
func (r Run) check(rules []rule) error {
	for _, c := range rules {
		if !c.ok {
			return r.fault(c.path, c.value, "must be "+c.want, nextStep(c.path))
		}
	}
	return nil
}

// nextStep offers the default of the key.
func nextStep(path string) string {
	if def := Default().text(path); def != "" {
		return "the default is " + def
	}
	return "see docs/formats/run.md"
}

// whole demands least <= v <= most.
func whole[T int | Count](path string, v, least, most T) rule {
	return rule{path, v, v >= least && v <= most, fmt.Sprintf("from %v to %v", least, most)}
}

// above demands 0 < v < infinity.
func above(path string, v float64) rule {
	return rule{path, v, v > 0 && !math.IsInf(v, 0), "above 0"}
}

// notBelow demands 0 <= v < infinity.
func notBelow(path string, v float64) rule {
	return rule{path, v, v >= 0 && !math.IsInf(v, 0), "0 or more"}
}

// fraction demands 0 <= v < 1.
func fraction(path string, v float64) rule {
	return rule{path, v, v >= 0 && v < 1, "from 0 to below 1"}
}

// headRules hold before anything is filled in, for filling uses these values.
func (r Run) headRules() []rule {
	t := r.Train
	return []rule{
		{"format", r.Format, r.Format == Format, fmt.Sprintf("%d: this program reads no other", Format)},
		whole("tokens", r.Tokens, 1, maxTokens),
		whole("train.sequence_tokens", t.SequenceTokens, 1, 1<<20),
		whole("train.batch_sequences", t.BatchSequences, 1, 1<<16),
		whole("train.accumulate", t.Accumulate, 1, 1<<16),
		{"islands", len(r.Islands), len(r.Islands) > 0 && len(r.Islands) <= 1024, "a list of 1 to 1024 islands"},
	}
}

// bodyRules hold for the filled run.
func (r Run) bodyRules() []rule {
	t, e, l := r.Train, r.Exchange, r.Limits
	return []rule{
		{"name", r.Name, nameForm.MatchString(r.Name), "1 to 64 letters, digits, dots, hyphens or underscores, the first no dot or hyphen"},
		{"model.vocab", r.Model.Vocab, r.Model.Vocab >= byteTokens, fmt.Sprintf("%d or more, for the text is read as bytes", byteTokens)},
		{"data.valid_share", r.Data.ValidShare, r.Data.ValidShare > 0 && r.Data.ValidShare <= 0.5, "above 0 and at most 0.5"},
		above("train.peak_rate", t.PeakRate),
		{"train.final_rate", t.FinalRate, t.FinalRate >= 0 && t.FinalRate <= t.PeakRate, "from 0 to train.peak_rate"},
		whole("train.warmup_tokens", t.WarmupTokens, 0, maxTokens),
		whole("train.decay_tokens", t.DecayTokens, 0, maxTokens),
		{"train.decay_tokens", t.DecayTokens, t.WarmupTokens+t.DecayTokens <= max(r.Tokens, 1),
			fmt.Sprintf("at most tokens - train.warmup_tokens = %v", r.Tokens-t.WarmupTokens)},
		{"train.shape", t.Shape, t.Shape == "wsd" || t.Shape == "cosine", "wsd or cosine"},
		fraction("train.beta1", t.Beta1),
		fraction("train.beta2", t.Beta2),
		above("train.eps", t.Eps),
		notBelow("train.weight_decay", t.WeightDecay),
		notBelow("train.clip_norm", t.ClipNorm),
		whole("eval.every_tokens", r.Eval.EveryTokens, 0, maxTokens),
		whole("eval.sequences", r.Eval.Sequences, 1, 1<<20),
		whole("eval.final_sequences", r.Eval.FinalSequences, 1, 1<<20),
		whole("checkpoint.every_tokens", r.Checkpoint.EveryTokens, 0, maxTokens),
		whole("checkpoint.keep", r.Checkpoint.Keep, 1, 1000),
		whole("exchange.fragments", e.Fragments, 1, 1<<16),
		whole("exchange.period_tokens", e.PeriodTokens, 1, maxTokens),
		above("exchange.outer_rate", *e.OuterRate),
		fraction("exchange.outer_momentum", *e.OuterMomentum),
		whole("exchange.overlap_steps", e.OverlapSteps, 0, 1<<16),
		whole("exchange.quorum", e.Quorum, 1, 1024),
		notBelow("exchange.max_wait_seconds", e.MaxWaitSeconds),
		whole("exchange.stale_versions", e.StaleVersions, 1, 1<<16),
		whole("spike.window", r.Spike.Window, 2, spike.MaxWindow),
		notBelow("spike.factor", r.Spike.Factor),
		notBelow("spike.floor_nats", r.Spike.FloorNats),
		whole("spike.limit", r.Spike.Limit, 0, 1<<16),
		whole("spike.limit_steps", r.Spike.LimitSteps, 1, 1<<30),
		whole("spike.rollbacks", r.Spike.Rollbacks, 0, 1<<16),
		above("limits.heartbeat_seconds", l.HeartbeatSeconds),
		above("limits.stall_seconds", l.StallSeconds),
		{"limits.stall_factor", l.StallFactor, l.StallFactor >= 1, "1 or more"},
		above("limits.first_step_seconds", l.FirstStepSeconds),
		above("limits.runway_seconds", l.RunwaySeconds),
		whole("limits.restarts", l.Restarts, 0, 1<<16),
	}
}

// nameForm keeps names usable as folder and object names everywhere.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

func (r Run) checkIslands() error {
	seen := map[string]bool{}
	for i, island := range r.Islands {
		path := fmt.Sprintf("islands.%d.", i)
		err := r.check([]rule{
			{path + "name", island.Name, nameForm.MatchString(island.Name), "1 to 64 letters, digits, dots, hyphens or underscores, the first no dot or hyphen"},
			{path + "name", island.Name, !seen[island.Name], "the only island of this name"},
			{path + "pace", island.Pace, island.Pace > 0 && island.Pace <= 1, "above 0 and at most 1"},
			whole(path+"threads", island.Threads, 0, 4096),
		})
		if err != nil {
			return err
		}
		if err := r.moved(path+"numeric", numericError(island.Numeric)); err != nil {
			return err
		}
		seen[island.Name] = true
	}
	return nil
}

// checkModel puts file and line to what the model finds wrong with itself.
func (r Run) checkModel() error {
	err := r.Model.Validate()
	var in *fault.Input
	if errors.As(err, &in) && in.Where != "model" {
		return r.moved("model."+in.Where, err)
	}
	return r.moved("model", err)
}

// moved is err with its place in the run file, if it is bad input.
func (r Run) moved(path string, err error) error {
	var in *fault.Input
	if !errors.As(err, &in) {
		return err
	}
	moved := *in
	moved.Where = r.Where(path)
	return &moved
}

func numericError(name string) error {
	_, err := numeric.Find(name)
	return err
}

// presets lists the presets for a message.
func presets() string { return strings.Join(model.PresetNames(), ", ") }
