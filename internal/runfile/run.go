package runfile

import (
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/sheet"
	"github.com/mistura-project/mistura/internal/spike"
)

// Format is the newest run file format that this program reads.
//
// History (append only):
//
//	1  first version
const Format = 1

// Count is a number of tokens, as [sheet.Count] reads and writes it.
type Count = sheet.Count

// Auto stands for a count that [Run.Resolve] works out from other values.
const Auto = sheet.Auto

// ParseCount reads a count as a person writes it.
func ParseCount(s string) (Count, error) { return sheet.ParseCount(s) }

// Run describes one run. Keys in the file are the yaml tags; docs/formats/run.md
// gives unit, default and the meaning of zero of each.
type Run struct {
	Format     int        `yaml:"format"`
	Name       string     `yaml:"name"`   // of the run and of its folder; empty: the model's name, or "run"
	Seed       uint64     `yaml:"seed"`   // of every random draw
	Tokens     Count      `yaml:"tokens"` // to train in all, rounded up to whole steps
	Out        string     `yaml:"out"`    // run folder; empty: the next free runs/NAME-N
	Gate       string     `yaml:"gate"`   // required: an island shows that it computes the same model before it contributes; off
	Model      Model      `yaml:"model"`
	Data       Data       `yaml:"data"`
	Train      Train      `yaml:"train"`
	Eval       Eval       `yaml:"eval"`
	Checkpoint Checkpoint `yaml:"checkpoint"`
	Exchange   Exchange   `yaml:"exchange"`
	Spike      Spike      `yaml:"spike"`
	Islands    []Island   `yaml:"islands"`
	Limits     Limits     `yaml:"limits"`

	origin origin
	others bool // islands may join beside those listed
}

// Model is a preset and whatever differs from it. The embedded configuration is
// always complete: Parse fills it from the preset before it reads the other keys.
type Model struct {
	Preset       string `yaml:"preset"` // empty: every other key counts from zero
	From         string `yaml:"from"`   // run or checkpoint folder, or safetensors file, that the first weights are from; seed: the island marked so; empty: they are drawn
	model.Config `yaml:",inline"`
	Tensors      []Tensor `yaml:"tensors"` // of a model that is not ours; none: the model is the configuration's
}

// Tensor is one parameter tensor of a model that is not ours.
type Tensor struct {
	Name  string `yaml:"name"`
	Shape []int  `yaml:"shape"` // extents, outermost first; none: one element
	State bool   `yaml:"state"` // no gradient reaches it: merged as a mean by tokens, without an outer step
}

// Data says which text is trained on.
type Data struct {
	Paths      []string `yaml:"paths"`       // files and folders; empty: the Go source tree
	ValidShare float64  `yaml:"valid_share"` // share of documents held back, above 0 and at most 0.5
	Own        bool     `yaml:"own"`         // islands bring their own data: nothing is read here, and a sample is one token
}

// Train is the inner optimisation of every island.
type Train struct {
	SequenceTokens     int     `yaml:"sequence_tokens"`     // length of one sample
	BatchSequences     int     `yaml:"batch_sequences"`     // samples of one forward and backward pass
	Accumulate         int     `yaml:"accumulate"`          // passes of one step
	DocumentBoundaries bool    `yaml:"document_boundaries"` // documents that share a sample do not see each other
	PeakRate           float64 `yaml:"peak_rate"`           // learning rate after warm-up
	FinalRate          float64 `yaml:"final_rate"`          // learning rate at the end
	WarmupTokens       Count   `yaml:"warmup_tokens"`       // auto: 5 % of tokens
	DecayTokens        Count   `yaml:"decay_tokens"`        // the last ones, shape wsd; auto: 20 % of tokens
	Shape              string  `yaml:"shape"`               // wsd or cosine
	Beta1              float64 `yaml:"beta1"`               // AdamW
	Beta2              float64 `yaml:"beta2"`
	Eps                float64 `yaml:"eps"`
	WeightDecay        float64 `yaml:"weight_decay"` // of matrices; norms and embeddings take none
	ClipNorm           float64 `yaml:"clip_norm"`    // bound of the global gradient norm; 0: none
}

// Eval says when and how much the validation loss is measured.
type Eval struct {
	EveryTokens    Count `yaml:"every_tokens"`    // auto: an eighth of tokens; 0: only at the end
	Sequences      int   `yaml:"sequences"`       // held-out samples of a measurement during the run
	FinalSequences int   `yaml:"final_sequences"` // of the last one
}

// Checkpoint says when the run is saved and how many saves stay.
type Checkpoint struct {
	EveryTokens Count `yaml:"every_tokens"` // auto: a quarter of tokens; 0: only at the end
	Keep        int   `yaml:"keep"`
}

// Exchange is how islands are merged.
type Exchange struct {
	Fragments      int      `yaml:"fragments"`        // parts of the model that are exchanged in turn
	PeriodTokens   Count    `yaml:"period_tokens"`    // of the fleet, between two merges of one fragment; auto: 6 steps an island, 480 of a lone one
	OuterRate      *float64 `yaml:"outer_rate"`       // nil (auto): 1 with one island, else 0.7
	OuterMomentum  *float64 `yaml:"outer_momentum"`   // nil (auto): 0 with one island, else 0.5
	OverlapSteps   int      `yaml:"overlap_steps"`    // least inner steps between sending and adopting
	Strict         *bool    `yaml:"strict"`           // adopt exactly then; nil (auto): with one island
	Quorum         int      `yaml:"quorum"`           // least contributions of a merge, of those live
	MaxWaitSeconds float64  `yaml:"max_wait_seconds"` // for islands later than the quorum
	StaleVersions  int      `yaml:"stale_versions"`   // a contribution older than this is dropped
	JoinerMoments  string   `yaml:"joiner_moments"`   // what an island that joins in mid-run starts its optimizer with: peer or zero
}

// Spike says which inner steps are not applied, and when so many of them roll the run
// back to its last checkpoint.
type Spike struct {
	Window     int     `yaml:"window"`      // losses of an island that a loss is compared with
	Factor     float64 `yaml:"factor"`      // deviations above their median that are a spike; 0: losses are not judged
	FloorNats  float64 `yaml:"floor_nats"`  // a loss no further above the median is none
	Limit      int     `yaml:"limit"`       // spikes of all islands within LimitSteps that roll the run back; 0: any number is borne
	LimitSteps int     `yaml:"limit_steps"` // inner steps of all islands
	Rollbacks  int     `yaml:"rollbacks"`   // of a run, after which it stops; 0: it stops in place of the first
}

// Island is one learner.
type Island struct {
	Name    string  `yaml:"name"`    // empty: island-1, island-2, … by place in the list
	Pace    float64 `yaml:"pace"`    // share of full speed, above 0 and at most 1; below 1 is a test aid
	Threads int     `yaml:"threads"` // 0: the machine's cores shared out; the bits are the same
	Numeric string  `yaml:"numeric"` // profile of package numeric that it emulates; empty: fp32, no emulation

	Engine    string `yaml:"engine"`    // native, torch, or external: a program of the user's; empty: native
	Device    string `yaml:"device"`    // of a torch island, such as cuda or npu; empty: cpu
	Precision string `yaml:"precision"` // of a torch island: fp32, bf16 or fp16; empty: fp32
	Ranks     int    `yaml:"ranks"`     // processes of a torch island; 0: 1
	Recompute bool   `yaml:"recompute"` // a torch island computes layers again in the backward pass, to save memory
	Seed      bool   `yaml:"seed"`      // its weights are version 0
	Evaluate  bool   `yaml:"evaluate"`  // it measures the validation loss
}

// Engines of an island.
const (
	Native   = "native"   // of this program
	Torch    = "torch"    // the reference learner in PyTorch, started by this program
	External = "external" // a trainer of the user's
)

// Engines are all of them.
func Engines() []string { return []string{Native, Torch, External} }

// DefaultEngine is the engine of an island that names none: the only one that can train
// a model that is not ours, or on data of its own.
func (r *Run) DefaultEngine() string {
	if r.Model.Foreign() || r.Data.Own {
		return External
	}
	return Native
}

// Precisions are the number formats of a torch island's products.
func Precisions() []string { return []string{"fp32", "bf16", "fp16"} }

// FromSeed as model.from: tensors and version 0 come from the island marked seed.
const FromSeed = "seed"

// Values of exchange.joiner_moments.
const (
	PeerMoments = "peer" // moments of the newest checkpoint, of the island itself or else of another
	ZeroMoments = "zero" // none; its rate rises over 1/(1-β₂) steps
)

// Limits is when something counts as dead.
type Limits struct {
	HeartbeatSeconds float64 `yaml:"heartbeat_seconds"`  // silence after which an island is dead
	StallSeconds     float64 `yaml:"stall_seconds"`      // least time without a step after which it is dead
	StallFactor      float64 `yaml:"stall_factor"`       // the same in medians of its own step time
	FirstStepSeconds float64 `yaml:"first_step_seconds"` // the same before its first step
	RunwaySeconds    float64 `yaml:"runway_seconds"`     // how far leases reach beyond the last verdict
	Restarts         int     `yaml:"restarts"`           // starts in a row that bring nothing into the model before an island is given up; 0: none
}

// SpikeRule is the spike rule of an island of a checked run.
func (r Run) SpikeRule() spike.Config {
	return spike.Config{Window: r.Spike.Window, Factor: r.Spike.Factor, FloorNats: r.Spike.FloorNats}
}

// StepSamples is the number of samples of one inner step.
func (r Run) StepSamples() int64 {
	return int64(r.Train.BatchSequences) * int64(r.Train.Accumulate)
}

// StepTokens is the number of tokens of one inner step.
func (r Run) StepTokens() int64 {
	return r.StepSamples() * int64(r.Train.SequenceTokens)
}

// TotalSamples is the number of samples of the whole run: Tokens, rounded up to
// whole steps.
func (r Run) TotalSamples() int64 {
	steps := (int64(r.Tokens) + r.StepTokens() - 1) / r.StepTokens()
	return steps * r.StepSamples()
}
