package gauge

import (
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/model"
)

// Report is what was measured. Its JSON keys are described in docs/cli.md.
type Report struct {
	Model          string `json:"model"`
	Params         int64  `json:"params"`
	ActiveParams   int64  `json:"active_params"`
	BatchSequences int    `json:"batch_sequences"`
	SequenceTokens int    `json:"sequence_tokens"`
	Threads        int    `json:"threads"`
	KernelSet      string `json:"kernel_set"`
	Numeric        string `json:"numeric"`   // "fp32", or what is emulated
	Processor      string `json:"processor"` // empty: unknown
	Version        string `json:"version"`   // of the program; Engine leaves it empty
	Go             string `json:"go"`
	Platform       string `json:"platform"`

	Steps           int     `json:"steps"`
	Seconds         float64 `json:"seconds"`           // of the steps, without what lies between them
	TokensPerSecond float64 `json:"tokens_per_second"` // over all steps

	StepSeconds map[string]float64 `json:"step_seconds"` // mean by part; "total" is their sum

	StepFLOPs    float64 `json:"step_flops"`   // floating-point operations of the model's products in a step
	GFLOPS       float64 `json:"gflops"`       // those per second, in thousand millions
	SGEMMGFLOPS  float64 `json:"sgemm_gflops"` // this machine's rate of one large product on as many threads, median
	ShareOfSGEMM float64 `json:"share_of_sgemm"`

	PredictedBytes int64  `json:"predicted_bytes"`
	PeakBytes      *int64 `json:"peak_bytes"` // of this process; nil: unknown
}

// partNames are the keys of StepSeconds beside "total", in order.
func partNames() []string {
	var names []string
	for _, p := range engine.Parts() {
		names = append(names, p.String())
	}
	return append(names, optimizerPart, engine.Waiting.String())
}

// PartNames are the keys of StepSeconds in the order of a step, "total" last.
func PartNames() []string { return append(partNames(), totalPart) }

// Parts of a step that the engine does not know.
const (
	optimizerPart = "optimizer"
	totalPart     = "total"
)

// shareOut turns the workers' time by part into a step's: what all workers spent over
// their number. What is left of the wall time is waiting, of one for another and in
// what one does alone.
func (r *Report) shareOut(m *meter) {
	steps := float64(r.Steps)
	r.StepSeconds = map[string]float64{
		totalPart: m.total.Seconds() / steps, optimizerPart: m.optimizer.Seconds() / steps,
	}
	rest := r.StepSeconds[totalPart] - r.StepSeconds[optimizerPart]
	for _, p := range engine.Parts() {
		x := m.spent[p].Seconds() / float64(r.Threads) / steps
		r.StepSeconds[p.String()] = x
		rest -= x
	}
	r.StepSeconds[engine.Waiting.String()] = max(0, rest)
}

// stepFLOPs is the work of a step that counts: FLOPs of the model's products, forward
// and backward.
func stepFLOPs(cfg model.Config, rows, seq int) float64 {
	f := cfg.FLOPs(seq)
	return (f.Forward + f.Backward) * float64(rows*seq)
}
