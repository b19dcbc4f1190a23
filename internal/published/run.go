package published

// Maybe is a number that may not be stated.
type Maybe[T int | float64] struct {
	Value T
	Known bool
}

// Or is the number, or another where it is not stated.
func (m Maybe[T]) Or(other T) T {
	if m.Known {
		return m.Value
	}
	return other
}

// Count and Amount are numbers of a run that may not be stated.
type (
	Count  = Maybe[int]
	Amount = Maybe[float64]
)

// Run is one published training run, as its source states it. Empty text is not
// stated.
type Run struct {
	ID, Grade, Source string
	Line              int // of the file
	Year              Count

	Model                                        string
	ParamsB, ActiveB                             Amount // billions
	Layers, Hidden, Heads, KVHeads, FFN, Vocab   Count
	Experts, TopK, Shared, ExpertFFN, DenseFirst Count
	MTP                                          Count
	Tied                                         Count // 0 or 1

	Sequence, Batch, MicroBatch, Accumulation Count // tokens; sequences a step, and of one rank
	ChipID, Chip                              string
	Chips                                     Count
	TP, PP, VPP, DP, EP, CP, ETP              Count
	ZeRO, Recompute, Dtype                    string
	Schedule, AsyncTP, Optimizer, CUDAGraph   string
	SequenceParallel                          Count // 0 or 1
	Routing                                   string

	Metric   string
	Measured Amount
	Unit     string

	PeakMemoryGiB Amount
	Software      string
	NodeNICGbits  Amount
	Notes         string

	Faults map[string]error // cells that cannot be read, by column; each is unknown
}

// MoE says that the model has experts.
func (r Run) MoE() bool { return r.Experts.Or(0) > 1 }
