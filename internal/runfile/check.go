package runfile

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/sheet"
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
		whole("train.batch_sequences", t.BatchSequences, 1, maxBatch(r.Data.Own)),
		whole("train.accumulate", t.Accumulate, 1, 1<<16),
		{"islands", len(r.Islands), len(r.Islands) <= 1024, "a list of at most 1024 islands"},
	}
}

// maxBatch is the most samples of a pass; those of own data are tokens.
func maxBatch(own bool) int {
	if own {
		return 1 << 30
	}
	return 1 << 16
}

// bodyRules hold for the filled run.
func (r Run) bodyRules() []rule {
	t, e, l := r.Train, r.Exchange, r.Limits
	return []rule{
		{"name", r.Name, nameForm.MatchString(r.Name), "1 to 64 letters, digits, dots, hyphens or underscores, the first no dot or hyphen"},
		{"gate", r.Gate, r.Gate == GateRequired || r.Gate == GateOff, GateRequired + " or " + GateOff},
		{"model.vocab", r.Model.Vocab, r.Model.Foreign() || r.Model.Vocab >= byteTokens, fmt.Sprintf("%d or more, for the text is read as bytes", byteTokens)},
		whole("train.batch_sequences", t.BatchSequences, 1, maxBatch(r.Data.Own)),
		{"data.paths", strings.Join(r.Data.Paths, " "), !r.Data.Own || len(r.Data.Paths) == 0, "left out, for islands bring their own data (data.own)"},
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
		{"exchange.joiner_moments", e.JoinerMoments, e.JoinerMoments == PeerMoments || e.JoinerMoments == ZeroMoments, "peer or zero"},
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

// limitsInOrder refuses limits of which a larger wait would end before a smaller one: the
// outer watchdog would act before the inner one could. Silence is noticed first, then a
// step that does not end, then one that never begins.
func (r Run) limitsInOrder() error {
	l := r.Limits
	for _, c := range []struct {
		path, below string
		value, of   float64
	}{
		{"limits.stall_seconds", "limits.heartbeat_seconds", l.StallSeconds, l.HeartbeatSeconds},
		{"limits.first_step_seconds", "limits.stall_seconds", l.FirstStepSeconds, l.StallSeconds},
	} {
		if c.value < c.of {
			return r.fault(c.path, c.value, fmt.Sprintf("must be at least %s, which is %v", c.below, c.of), "raise the one or lower the other")
		}
	}
	return nil
}

// nameForm keeps names usable as folder and object names everywhere.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

// IsName says whether a text can be the name of an island.
func IsName(s string) bool { return nameForm.MatchString(s) }

// Values of gate.
const (
	GateRequired = "required"
	GateOff      = "off"
)

func (r Run) checkIslands() error {
	seen := map[string]bool{}
	seeds, evaluating := 0, 0
	for i, island := range r.Islands {
		path := fmt.Sprintf("islands.%d.", i)
		err := r.check([]rule{
			{path + "name", island.Name, nameForm.MatchString(island.Name), "1 to 64 letters, digits, dots, hyphens or underscores, the first no dot or hyphen"},
			{path + "name", island.Name, !seen[island.Name], "the only island of this name"},
			{path + "pace", island.Pace, island.Pace > 0 && island.Pace <= 1, "above 0 and at most 1"},
			whole(path+"threads", island.Threads, 0, 4096),
			{path + "engine", island.Engine, slices.Contains(Engines(), island.Engine), "native, torch or external"},
			{path + "engine", island.Engine, island.Engine == External || !r.Model.Foreign(), "external, for the model is not one of ours"},
			{path + "engine", island.Engine, island.Engine == External || !r.Data.Own, "external, for islands bring their own data"},
			{path + "device", island.Device, island.Device == "" || island.Engine == Torch, "left out, unless engine is torch"},
			{path + "precision", island.Precision, slices.Contains(Precisions(), island.Precision), "fp32, bf16 or fp16"},
			{path + "precision", island.Precision, island.Precision == "fp32" || island.Engine == Torch, "left out, unless engine is torch"},
			whole(path+"ranks", island.Ranks, 0, 1024),
			{path + "ranks", island.Ranks, island.Ranks == 0 || island.Engine == Torch, "left out, unless engine is torch"},
			{path + "recompute", island.Recompute, !island.Recompute || island.Engine == Torch, "left out, unless engine is torch"},
		})
		seeds, evaluating = seeds+btoi(island.Seed), evaluating+btoi(island.Evaluate)
		if err != nil {
			return err
		}
		if err := r.moved(path+"numeric", numericError(island.Numeric)); err != nil {
			return err
		}
		seen[island.Name] = true
	}
	fromSeed := r.Model.From == FromSeed
	return r.check([]rule{
		{"islands", seeds, seeds <= 1 && (seeds == 0 || fromSeed), "without seed: true, or one island has it and model.from is seed"},
		{"model.from", r.Model.From, !fromSeed || seeds == 1, "a path, unless one island has seed: true"},
		{"islands", evaluating, evaluating <= 1, "a list with at most one evaluate: true"},
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// maxTensors and maxDims bound a model that is not ours.
const (
	maxTensors  = 100_000
	maxDims     = 8
	maxNameByte = 256
	maxElements = 1 << 46
)

// checkTensors demands of a foreign model's tensors what everything later relies on.
func (r Run) checkTensors() error {
	if err := r.checkPlain(); err != nil {
		return err
	}
	seen := map[string]bool{}
	total := 1.0
	for i, t := range r.Model.Tensors {
		path := fmt.Sprintf("model.tensors.%d.", i)
		size := 1.0
		for _, d := range t.Shape {
			size *= float64(max(d, 0))
		}
		total += size
		err := r.check([]rule{
			{path + "name", t.Name, t.Name != "" && len(t.Name) <= maxNameByte && printable(t.Name), fmt.Sprintf("1 to %d bytes of printable text", maxNameByte)},
			{path + "name", t.Name, !seen[t.Name], "the only tensor of this name"},
			{path + "shape", t.Shape, len(t.Shape) <= maxDims && size > 0, fmt.Sprintf("at most %d extents above 0", maxDims)},
			{path + "shape", t.Shape, total <= maxElements, "of a model of at most 2^46 elements"},
		})
		if err != nil {
			return err
		}
		seen[t.Name] = true
	}
	return r.check([]rule{{"model.tensors", len(r.Model.Tensors), len(r.Model.Tensors) <= maxTensors, fmt.Sprintf("at most %d tensors", maxTensors)}})
}

// checkPlain refuses what is said of one of our models beside the tensors of another.
func (r Run) checkPlain() error {
	if r.Model.Preset != "" {
		return r.fault("model.preset", r.Model.Preset, "does not go with a model of your own", `write preset: ""`)
	}
	fields := sheet.Fields(reflect.ValueOf(r.Model.Config))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key != "name" && !fields[key].IsZero() {
			return r.fault("model."+key, fmt.Sprint(fields[key].Interface()), "does not go with a model of your own, of which only the tensors are known", "leave it out")
		}
	}
	return nil
}

// printable text can stand in a message, in a file and on a terminal.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
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
