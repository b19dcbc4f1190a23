package published

import (
	"fmt"
	"slices"
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
	Among      chip.Catalogue // where it stands
	Format     string         // of products: bf16, fp16, fp8, fp4
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
	r, mended := r.mended()
	c := Case{Run: r, Assumed: mended, Chips: r.Chips.Value, DP: r.DP.Value, Sequence: r.Sequence.Value, Batch: r.Batch.Value,
		MicroBatch: r.MicroBatch, VPP: r.VPP, ZeRO: r.stage(), Recompute: r.recompute()}
	var err error
	if err = c.find(chips); err != nil {
		return Case{}, err
	}
	if c.Format, err = r.format(); err != nil {
		return Case{}, err
	}
	c.native()
	if err := c.decoder(); err != nil {
		return Case{}, err
	}
	return c, c.degrees()
}

// find takes the chip by its name in the catalogue, or by another that it has.
func (c *Case) find(chips chip.Catalogue) error {
	for _, name := range []string{c.Run.ChipID, c.Run.Chip} {
		found, ok := chips.Like(name)
		if !ok {
			continue
		}
		if c.Chip, c.Among = found, chips; found.Name != name {
			c.assume("chip %s", found.Name)
		}
		return nil
	}
	return &fault.Input{Where: "chip_id", Value: fault.Clip(c.Run.ChipID), Problem: "is not in the catalogue", Next: "add the chip, or write the name it has there"}
}

// Twin is what two runs have in common that differ only in who made them, when, and
// with which software.
func (c Case) Twin() string {
	return fmt.Sprint(c.Run.Model, c.Chip.Name, c.Chips, c.Layout, c.DP, c.CP, c.Sequence, c.Batch, c.Run.Dtype)
}

// Comparable says that the run states all that a comparison needs, whether or not this
// program can make use of it.
func (r Run) Comparable() bool { return r.complete() == nil && r.IsStep() }

// complete says what a comparison needs and the run does not state.
func (r Run) complete() error {
	needed := []struct {
		column string
		known  bool
	}{
		{"layers", r.Layers.Known}, {"hidden", r.Hidden.Known}, {"heads", r.Heads.Known}, {"seq", r.Sequence.Known},
		{"global_batch_seqs", r.Batch.Known}, {"chip_id", r.ChipID != ""}, {"chips", r.Chips.Known}, {"tp", r.TP.Known}, {"pp", r.PP.Known},
		{"dp", r.DP.Known}, {"dtype", r.Dtype != ""}, {"measured_value", r.Measured.Known},
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

// format is the number format of products; how fp8 is scaled is not told apart. A run
// that names two computes in the narrower one.
func (r Run) format() (string, error) {
	name := strings.ToLower(r.Dtype)
	for _, f := range []struct {
		format string
		said   []string
	}{
		{"fp4", []string{"fp4", "float4"}}, {"fp8", []string{"fp8", "float8"}}, {"bf16", []string{"bf16", "bfloat16"}},
		{"fp16", []string{"fp16", "float16", "half"}}, {"tf32", []string{"tf32"}}, {"fp32", []string{"fp32", "float32"}},
	} {
		if slices.ContainsFunc(f.said, func(word string) bool { return strings.Contains(name, word) }) {
			return f.format, nil
		}
	}
	return "", &fault.Input{Where: "dtype", Value: r.Dtype, Problem: "is no format that is known here", Next: "write BF16, FP16, FP8, MXFP8 or NVFP4"}
}

// native takes the next wider format in which the chip's peak is known where it is not
// known in the stated one: narrow formats are computed so where there are no units for them, and
// products in both formats of 16 bits are equally fast.
func (c *Case) native() {
	wider := map[string][]string{"fp4": {"fp8", "bf16", "fp16"}, "fp8": {"bf16", "fp16"}, "bf16": {"fp16"}, "fp16": {"bf16"}, "tf32": {"fp32"}, "fp32": {"tf32"}}
	for _, format := range append([]string{c.Format}, wider[c.Format]...) {
		field, _ := chip.Peak(format)
		if _, _, known := c.Chip.Of(field).Range(); !known {
			continue
		}
		if format != c.Format {
			c.assume("computed in %s", format)
		}
		c.Format = format
		return
	}
}

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
	c.sizes(&s)
	c.Decoder, err = s.Decoder()
	return err
}

// degrees checks how the chips are shared.
func (c *Case) degrees() error {
	r := c.Run
	c.Layout = anatomy.Layout{TP: r.TP.Value, PP: r.PP.Value, EP: 1, ETP: 1, KVCopies: true, Whole: r.SequenceParallel == Count{0, true}}
	if err := c.replicas(); err != nil {
		return err
	}
	if r.MoE() {
		c.experts()
	}
	if err := c.Layout.Check(c.Decoder); err != nil {
		return err
	}
	if err := c.schedule(); err != nil {
		return err
	}
	return c.Layout.CheckDP(c.DP * c.CP)
}

// schedule settles virtual stages and micro-batches. Virtual stages may be a few more
// than layers where embedding and head have one of their own.
func (c *Case) schedule() error {
	depth, chunks := c.Decoder.Depth(), int64(c.VPP.Or(1))*int64(c.Layout.PP)
	switch {
	case c.Layout.PP == 1 && c.VPP.Or(1) > 1:
		c.VPP = Count{1, true}
		c.assume("vpp 1, for pp is 1")
	case chunks > int64(depth+c.Layout.PP):
		return &fault.Input{Where: "vpp", Value: strconv.Itoa(c.VPP.Value), Problem: fmt.Sprintf("makes %d stages of %d layers", chunks, depth), Next: fmt.Sprintf("give at most %d", max(1, depth/c.Layout.PP))}
	}
	if share := c.Batch / c.DP; c.MicroBatch.Or(1) > share {
		c.MicroBatch = Count{share, true}
		c.assume("micro_batch %d, all of a replica", share)
	}
	return nil
}

// replicas settles dp and cp: chips = tp · pp · dp · cp. Some sources count the
// ranks of a package, and some count cp within dp.
func (c *Case) replicas() error {
	r, n := c.Run, int64(c.Chips)
	stages := int64(c.Layout.TP) * int64(c.Layout.PP) // degrees are below 2^31: two of them fit
	if stages > 2*n {
		return c.unequal()
	}
	ranks := stages * int64(c.DP)
	cp := int64(r.CP.Or(1))
	if !r.CP.Known && n%ranks == 0 {
		cp = n / ranks
	}
	devices, _ := c.Chip.Of(chip.Devices).Exact()
	switch {
	case n%ranks == 0 && n/ranks == cp:
	case n == ranks && c.DP%int(cp) == 0:
		c.DP /= int(cp)
		c.assume("dp %d, for cp is within", c.DP)
	case devices > 1 && ranks%n == 0 && float64(ranks/n)*float64(cp) == devices && c.DP%int(devices) == 0:
		c.DP /= int(devices)
		c.assume("dp %d, for a chip has %v ranks", c.DP, devices)
	case devices > 1 && ranks%n == 0 && float64(ranks/n)*float64(cp) == devices && c.Layout.TP%int(devices) == 0:
		c.Layout.TP /= int(devices)
		c.assume("tp %d, for a chip has %v ranks", c.Layout.TP, devices)
	default:
		return c.unequal()
	}
	c.CP = int(cp)
	if c.Batch < c.DP {
		return &fault.Input{Where: "global_batch_seqs", Value: strconv.Itoa(c.Batch), Problem: fmt.Sprintf("leaves some of dp %d without a sequence", c.DP), Next: "give the sequences of a step of all replicas"}
	}
	return nil
}

// experts settles how experts are shared. Where the source does not say how many
// ranks share them, it is as many as a host has; nor whether they are cut, they are as all
// else is (Megatron's default) unless there are as many expert-parallel ranks as tensor-parallel ones.
func (c *Case) experts() {
	r := c.Run
	c.Layout.EP, c.Layout.ETP = r.EP.Or(1), r.ETP.Or(1)
	if !r.EP.Known {
		for c.Layout.EP < 8 && r.Experts.Value%(2*c.Layout.EP) == 0 && c.DP*c.CP%(2*c.Layout.EP) == 0 {
			c.Layout.EP *= 2
		}
		c.assume("ep %d", c.Layout.EP)
	}
	if !r.ETP.Known && c.Layout.TP > 1 {
		if c.Layout.EP < c.Layout.TP && c.DP*c.CP%c.Layout.EP == 0 {
			c.Layout.ETP = c.Layout.TP
		}
		c.assume("etp %d", c.Layout.ETP)
	}
}

func (c *Case) unequal() error {
	return &fault.Input{Where: "chips", Value: strconv.Itoa(c.Chips), Problem: fmt.Sprintf("is not tp %d · pp %d · dp %d · cp %d", c.Layout.TP, c.Layout.PP, c.DP, c.Run.CP.Or(1)),
		Next: "give the degrees whose product it is"}
}
