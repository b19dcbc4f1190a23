package assess

import (
	"math"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// Question is what a chip is judged for.
type Question struct {
	Chip, Reference chip.Chip
	Catalogue       chip.Catalogue // whose chips stand in for figures that nobody knows
	Table           chip.Table     // of measured efficiency
	Own             bool           // the table is the user's: what it has of training's products goes before what was fitted to runs
	Constants       plan.Constants
	Runs            []published.Run

	Model    anatomy.Decoder
	Sequence int    // tokens
	Batch    int    // sequences a step, at every number of chips
	Format   string // of products
	Chips    int    // at which the two are compared
}

// Evidence is how well published runs of a chip are predicted.
type Evidence struct {
	Runs   int      `json:"published_runs"`   // that can be compared
	Tests  int      `json:"unseen_runs"`      // of those, on which nothing was fitted
	Median *float64 `json:"median_abs_error"` // of their step times, a fraction; nil without any
	P90    *float64 `json:"p90_abs_error"`
}

// Proven says that there are published runs enough to speak of an error.
func (e Evidence) Proven() bool { return e.Runs >= plan.Proven && e.Median != nil }

// evidenceOf is what is known of predictions of a chip.
func evidenceOf(name string) Evidence {
	e, ok := plan.EvidenceOf(name)
	out := Evidence{Runs: e.Rows, Tests: e.Tests}
	if ok && !math.IsNaN(e.Median) && !math.IsNaN(e.P90) {
		out.Median, out.P90 = &e.Median, &e.P90
	}
	return out
}

// Report is the answer. What is not known is null.
type Report struct {
	Chip      string `json:"chip"`
	Reference string `json:"reference"`
	Model     string `json:"model"`
	Sequence  int    `json:"sequence_tokens"`
	Batch     int    `json:"batch_sequences"`
	Format    string `json:"format"`

	Verdict     Verdict     `json:"verdict"`
	Performance Performance `json:"performance"`
	Scalability Scalability `json:"scalability"`
	Ecosystem   Ecosystem   `json:"ecosystem"`
}

// Performance is the two chips beside each other.
type Performance struct {
	Grade     chip.Grade `json:"grade"` // of the weakest figure of the chip that it rests on
	Chip      Side       `json:"chip"`
	Reference Side       `json:"reference"`
	Rate      *Span      `json:"rate_over_reference"` // tokens/s of a chip over those of one of the reference
	Cost      *Span      `json:"cost_over_reference"` // without a price of both in one currency not known
	// Worth is the price at which both cost the same, in the currency of the reference.
	Worth    *Span      `json:"break_even_price_per_chip_hour"`
	Currency string     `json:"break_even_currency"`
	Runs     []WholeRun `json:"published_whole_runs"`
}

// Side is what is predicted of one chip.
type Side struct {
	Chip     string   `json:"chip"`
	Missing  string   `json:"not_predicted"` // why; empty: it is
	Chips    int      `json:"chips"`
	Layout   *Layout  `json:"layout"`
	Step     *Span    `json:"step_seconds"`
	Rate     *Span    `json:"tokens_per_second_and_chip"`
	MFU      *Span    `json:"mfu"` // of the dense peak, causal attention counted
	Bytes    float64  `json:"memory_bytes"`
	Memory   float64  `json:"chip_memory_bytes"`
	Terms    []Share  `json:"step_shares"` // largest first
	Price    *Span    `json:"price_per_chip_hour"`
	Cost     *Span    `json:"cost_per_trillion_tokens"`
	Currency string   `json:"currency"` // of both; empty: no price is known
	Evidence Evidence `json:"evidence"`
	Assumed  []string `json:"assumed"`
}

// Span is a number between two others. Of predictions it is the range in which 80 %
// of published runs lay, wider where figures are assumed.
type Span struct {
	Low  float64 `json:"low"`
	Mid  float64 `json:"mid"`
	High float64 `json:"high"`
}

// over divides two spans as plan compares runs: their errors are independent.
func (s Span) over(t Span) Span {
	r := plan.Over(plan.Range(s), plan.Range(t))
	return Span(r)
}

// under is a number divided by the span.
func (s Span) under(x float64) Span { return Span{x / s.High, x / s.Mid, x / s.Low} }

// Share is a term's part of a step.
type Share struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"`
}

// Layout is how chips share the model.
type Layout struct {
	TP         int    `json:"tp"`
	PP         int    `json:"pp"`
	VPP        int    `json:"vpp"`
	DP         int    `json:"dp"`
	EP         int    `json:"ep"`
	CP         int    `json:"cp"`
	MicroBatch int    `json:"micro_batch"`
	ZeRO       int    `json:"zero"`
	Recompute  string `json:"recompute"`
}

// Scalability is the chip at more and more chips, with the same model and batch.
type Scalability struct {
	Grade     chip.Grade `json:"grade"`
	Rows      []Row      `json:"rows"`
	Reference []Row      `json:"reference_rows"`
	Failure   string     `json:"failures"` // how often a chip interrupts a job, or that nobody says
}

// Row is one number of chips.
type Row struct {
	Chips      int      `json:"chips"`
	Missing    string   `json:"not_predicted"` // why; empty: it is
	Short      float64  `json:"short_bytes"`   // that a chip lacks, with the layout that needs least
	Layout     *Layout  `json:"layout"`
	Step       *Span    `json:"step_seconds"`
	MFU        *Span    `json:"mfu"`
	Efficiency *float64 `json:"efficiency"` // of a chip's tokens/s over those at the number of chips where they are highest
	Bound      string   `json:"bound"`      // the term that takes most beside the model's own products
	BoundShare float64  `json:"bound_share"`
}

// Ecosystem is what software there is, and what is unlike the reference.
type Ecosystem struct {
	Grade   chip.Grade `json:"grade"`
	Items   []Item     `json:"items"`
	Traps   []Item     `json:"numeric_traps"`
	Unknown []string   `json:"not_known"`
}

// Item is one thing that is said.
type Item struct {
	Name   string     `json:"name"`
	Said   string     `json:"said"`
	Grade  chip.Grade `json:"grade"`
	Source string     `json:"source"`
	Date   string     `json:"date"`
}

// WholeRun is a published run of the chip of which only the bill is known.
type WholeRun struct {
	ID     string  `json:"id"`
	Model  string  `json:"model"`
	Source string  `json:"source"`
	Hours  float64 `json:"chip_hours_per_trillion_tokens"`
	MFU    float64 `json:"implied_mfu"` // six operations a token and active parameter, of the bf16 peak
	// Gap is what is predicted of its model over what was published, minus 1; null if
	// another model was asked for.
	Gap *float64 `json:"predicted_hours_over_published_minus_1"`
}
