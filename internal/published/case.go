package published

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
)

// Case is a run in the terms of this program: what a prediction is made of. What is
// not stated and can be done without stays unknown.
type Case struct {
	Run        Run
	Decoder    anatomy.Decoder
	Chip       chip.Chip
	Format     string // of products: bf16, fp16, fp8, fp4
	Layout     anatomy.Layout
	DP, CP     int
	Chips      int
	Sequence   int // tokens
	Batch      int // sequences a step
	MicroBatch Count
	VPP        Count
	ZeRO       Count
	Recompute  anatomy.Recompute // empty: not stated, or a way of its own
	Assumed    []string          // what the source leaves out and was taken for granted
}

// Case expresses a run. The error says what keeps it from being compared, and is a
// *fault.Input that names the columns.
func (r Run) Case(chips chip.Catalogue) (Case, error) {
	if err := r.complete(); err != nil {
		return Case{}, err
	}
	c := Case{Run: r, Chips: r.Chips.Value, DP: r.DP.Value, Sequence: r.Sequence.Value, Batch: r.Batch.Value,
		MicroBatch: r.MicroBatch, VPP: r.VPP, ZeRO: r.stage(), Recompute: r.recompute()}
	var err error
	if c.Chip, err = chips.Find(r.ChipID); err != nil {
		return Case{}, &fault.Input{Where: "chip_id", Value: r.ChipID, Problem: "is not in the catalogue", Next: "add the chip, or write the name it has there"}
	}
	if c.Format, err = r.format(); err != nil {
		return Case{}, err
	}
	if err := c.decoder(); err != nil {
		return Case{}, err
	}
	return c, c.degrees()
}

// complete says what a comparison needs and the run does not state.
func (r Run) complete() error {
	needed := []struct {
		column string
		known  bool
	}{
		{"layers", r.Layers.Known}, {"hidden", r.Hidden.Known}, {"heads", r.Heads.Known}, {"seq", r.Sequence.Known},
		{"global_batch_seqs", r.Batch.Known}, {"chip_id", r.ChipID != ""}, {"chips", r.Chips.Known}, {"tp", r.TP.Known}, {"pp", r.PP.Known},
		{"dp", r.DP.Known}, {"dtype", r.Dtype != ""}, {"ep", r.EP.Known || !r.MoE()}, {"measured_value", r.Measured.Known},
	}
	var missing []string
	for _, n := range needed {
		if n.known {
			continue
		}
		if err := r.Faults[n.column]; err != nil {
			return err
		}
		missing = append(missing, n.column)
	}
	if len(missing) > 0 {
		return &fault.Input{Where: strings.Join(missing, ", "), Problem: "not stated", Next: "a run is compared when it is"}
	}
	return nil
}

// stage is the stage of ZeRO. FSDP shards weights, gradients and optimizer state
// unless told otherwise: stage 3.
func (r Run) stage() Count {
	if r.ZeRO == "fsdp" {
		return Count{3, true}
	}
	n, err := strconv.Atoi(r.ZeRO)
	return Count{n, err == nil && n >= 0 && n <= 3}
}

func (r Run) recompute() anatomy.Recompute {
	for _, mode := range anatomy.Recomputes() {
		if string(mode) == r.Recompute {
			return mode
		}
	}
	return ""
}

// format is the number format of products; how fp8 is scaled is not told apart.
func (r Run) format() (string, error) {
	name := strings.ToLower(r.Dtype)
	for _, f := range []struct{ prefix, format string }{{"bf16", "bf16"}, {"fp16", "fp16"}, {"fp8", "fp8"}, {"mxfp8", "fp8"}, {"nvfp4", "fp4"}, {"mxfp4", "fp4"}, {"fp4", "fp4"}} {
		if strings.HasPrefix(name, f.prefix) {
			return f.format, nil
		}
	}
	return "", &fault.Input{Where: "dtype", Value: r.Dtype, Problem: "is no format that is known here", Next: "write BF16, FP16, FP8, MXFP8 or NVFP4"}
}

// gptVocab is the vocabulary of models named gpt whose table leaves it out: GPT-2's
// 50257 tokens as Megatron pads them for eight ranks (Narayanan et al., arXiv
// 2104.04473, section 5).
const gptVocab = 51200

func (c *Case) decoder() (err error) {
	r := c.Run
	s := anatomy.Shape{Name: r.Model, Layers: r.Layers.Value, Hidden: r.Hidden.Value, Heads: r.Heads.Value, KVHeads: r.KVHeads.Value, FFN: r.FFN.Value,
		Vocab: r.Vocab.Value, Positions: c.Sequence, MTP: r.MTP.Value}
	if r.MoE() {
		s.Experts, s.TopK, s.Shared, s.ExpertFFN, s.DenseLayers = r.Experts.Value, r.TopK.Value, r.Shared.Value, r.ExpertFFN.Value, r.DenseFirst.Value
	}
	if r.Tied.Known {
		tied := r.Tied.Value == 1
		s.Tied = &tied
	}
	if !r.Vocab.Known && strings.HasPrefix(strings.ToLower(r.Model), "gpt") {
		s.Vocab = gptVocab
		c.Assumed = append(c.Assumed, fmt.Sprintf("vocab %d", gptVocab))
	}
	c.Decoder, err = s.Decoder()
	return err
}

// degrees checks how the chips are shared.
func (c *Case) degrees() error {
	r := c.Run
	c.Layout = anatomy.Layout{TP: r.TP.Value, PP: r.PP.Value, EP: 1, ETP: 1, KVCopies: true, Whole: r.SequenceParallel == Count{0, true}}
	if r.MoE() {
		c.Layout.EP, c.Layout.ETP = r.EP.Value, r.ETP.Or(1)
		if !r.ETP.Known && c.Layout.TP > 1 {
			c.Assumed = append(c.Assumed, "etp 1")
		}
	}
	stages := int64(c.Layout.TP) * int64(c.Layout.PP) // degrees are below 2^31: two of them fit
	if stages > int64(c.Chips) {
		return c.unequal()
	}
	ranks := stages * int64(c.DP)
	if int64(c.Chips)%ranks != 0 {
		return c.unequal()
	}
	if c.CP = r.CP.Or(int(int64(c.Chips) / ranks)); int64(c.CP)*ranks != int64(c.Chips) {
		return c.unequal()
	}
	if err := c.Layout.Check(c.Decoder); err != nil {
		return err
	}
	return c.Layout.CheckDP(c.DP * c.CP)
}

func (c *Case) unequal() error {
	return &fault.Input{Where: "chips", Value: strconv.Itoa(c.Chips), Problem: fmt.Sprintf("is not tp %d · pp %d · dp %d · cp %d", c.Layout.TP, c.Layout.PP, c.DP, c.Run.CP.Or(1)),
		Next: "give the degrees whose product it is"}
}
