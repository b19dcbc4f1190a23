package plan

import (
	"github.com/mistura-project/mistura/internal/anatomy"
)

// Task is what an island trains.
type Task struct {
	Model    anatomy.Decoder
	Sequence int    // tokens
	Batch    int    // sequences of a step, of the whole island
	Format   string // of products: bf16, fp16, fp8, fp4
	// Imbalance is the load of the busiest expert-parallel rank over the mean load; 1
	// is even, and so is 0.
	Imbalance float64
	Stack     Stack // training software; empty: as usual on the chip
	// Unfused attention writes its scores to memory, as software did before 2023.
	Unfused bool
	// Months is how much older the software is than the newest that constants were fitted
	// to; 0: not, or not known.
	Months float64
}

// Stack is a family of training software, by how it splits a model and overlaps work.
type Stack string

// The stacks that constants know.
const (
	Megatron  Stack = "megatron"  // Megatron-Core and what is built on it: NeMo, Megatron-Bridge
	Plain     Stack = "plain"     // Megatron-Core as it comes, without the overlap of tensor-parallel traffic
	Classic   Stack = "classic"   // Megatron-LM before 2023 and its forks: no overlap, attention unfused
	FSDP      Stack = "fsdp"      // PyTorch's fully sharded data parallel, eager
	Titan     Stack = "titan"     // torchtitan: FSDP2 with tensor parallel, mostly compiled
	MindSpeed Stack = "mindspeed" // Megatron on Ascend
	Primus    Stack = "primus"    // Megatron on AMD
	Sailor    Stack = "sailor"    // research runtime
)

// Layout is how an island splits a task.
type Layout struct {
	anatomy.Layout
	DP, CP     int
	VPP        int // virtual stages of a rank; 1: plain 1F1B
	MicroBatch int // sequences
	ZeRO       int // stage; 3 gathers weights layer by layer
	Recompute  anatomy.Recompute
	// Stages are the layers of each stage where they are not even.
	Stages []int
	// Exposed turns the overlap of gradients' and weights' exchange with work off.
	Exposed bool
}

// Chips is how many chips the layout takes.
func (l Layout) Chips() int { return l.TP * l.PP * l.DP * l.CP }

// Term is a share of a step's time.
type Term int

// The terms, in the order in which they are shown.
const (
	Products Term = iota
	ExpertProducts
	Attention
	Head
	Elementwise // norms, activations, routing: what memory bandwidth bounds
	Recomputed
	TensorTraffic
	ExpertTraffic
	ContextTraffic
	StageTraffic
	Bubble
	DataTraffic // exposed part of gradients and weights
	Optimizer
	Overhead // launches, synchronisation, stragglers
	Terms    // their number
)

// Part is a share of a rank's memory.
type Part int

// The parts, in the order in which they are shown.
const (
	Weights Part = iota
	Gradients
	Masters
	Moments
	Activations
	Logits
	Buffers   // of communication and of work that is under way
	Framework // context of the driver, collectives' library, allocator
	Parts     // their number
)

// Step is what a step takes.
type Step struct {
	Seconds   float64
	Low, High float64 // between which 80 % of published runs of such a chip and kind lay
	Terms     [Terms]float64
	Memory    [Parts]float64 // bytes, on the fullest rank
}

// Bytes is the memory of the fullest rank.
func (s Step) Bytes() float64 {
	n := 0.0
	for _, b := range s.Memory {
		n += b
	}
	return n
}

// Told is a term or part with its formula.
type Told struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"` // seconds, or bytes
	Formula string  `json:"formula"`
}
