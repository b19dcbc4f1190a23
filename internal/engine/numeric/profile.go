package numeric

import (
	"fmt"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// Operator is a kind of matrix product in the model. Everything that is not a matrix
// product stays in fp32: the residual stream, norms, softmax, activation
// functions, positions, losses, the optimiser with its master weights, and the
// embedding.
type Operator uint8

const (
	Projection Operator = iota // queries, keys, values and attention's output
	Expert                     // dense, shared and routed MLPs
	Router                     // router logits
	Head                       // logits
	Attention                  // scores and their product with the values
	Operators                  // the number of them
)

// String names the operator.
func (o Operator) String() string {
	return [...]string{"projection", "expert", "router", "head", "attention"}[o]
}

// Role is what an operand of a product is.
type Role uint8

const (
	Activation Role = iota
	Weight
	Gradient // of an output
)

// Rule is how the products of one operator are computed, forward and backward. The zero
// Rule is fp32.
type Rule struct {
	Input   Format // that activations and weights are rounded to before a product
	Grads   Format // that gradients of outputs are rounded to before a product
	Scaling Scaling
	// Output is what results are rounded to. Attention scores and gradients of
	// weights stay in fp32: fused attention kernels hold the first in registers
	// (arXiv 2205.14135), and the second are added to fp32 gradients as they come
	// (Megatron-LM's gradient accumulation fusion).
	Output Format
	Sum    Accumulation
}

// Of is the format of an operand.
func (r Rule) Of(role Role) Format {
	if role == Gradient {
		return r.Grads
	}
	return r.Input
}

// Plain says that the rule changes nothing.
func (r Rule) Plain() bool {
	return r.Input.IsFP32() && r.Grads.IsFP32() && r.Output.IsFP32() && r.Sum.Kind == Plain
}

// Profile is a full definition of the arithmetic that is emulated.
type Profile struct {
	Name        string
	Description string
	Source      string
	Unknown     string // what no source says, and so is not emulated; may be empty
	Rules       [Operators]Rule
	LossScaling bool // dynamic, as LossScale does it
}

// Plain says that nothing is emulated: this is fp32.
func (p *Profile) Plain() bool {
	if p == nil {
		return true
	}
	for _, r := range p.Rules {
		if !r.Plain() {
			return false
		}
	}
	return !p.LossScaling
}

// String is how the profile is announced, always as an emulation.
func (p *Profile) String() string {
	if p.Plain() {
		return "fp32"
	}
	return "emulated " + p.Name
}

func names(profiles []Profile) []string {
	var all []string
	for _, p := range profiles {
		all = append(all, p.Name)
	}
	return all
}

// Find gives the profile of that name; an empty name is fp32. The error is a
// *fault.Input without a place, which the caller fills in.
func Find(name string) (*Profile, error) {
	if name == "" {
		name = "fp32"
	}
	for _, p := range Profiles() {
		if p.Name == name {
			return &p, nil
		}
	}
	return nil, &fault.Input{
		Where: "numeric", Value: name, Problem: "no such number format, nor a chip whose arithmetic is known",
		Next: "use " + strings.Join(names(formatProfiles()), ", ") + ", or a chip that docs/engine.md lists, such as h800-80g-sxm, mi300x, ascend-910b2 or ppu-810e",
	}
}

// Profiles lists all profiles: fp32, the formats, then the chips.
func Profiles() []Profile { return append(formatProfiles(), chipProfiles()...) }

// mixed is the usual mixed precision: every product but the router's takes and gives the
// format, as torch.autocast does.
func mixed(f Format, sum Accumulation) [Operators]Rule {
	r := Rule{Input: f, Grads: f, Output: f, Sum: sum}
	return [Operators]Rule{Projection: r, Expert: r, Head: r, Attention: r}
}

// inputs rounds what goes into every product, and nothing else: the switch that turns
// fp32 products into faster ones.
func inputs(f Format) [Operators]Rule {
	r := Rule{Input: f, Grads: f}
	return [Operators]Rule{Projection: r, Expert: r, Router: r, Head: r, Attention: r}
}

// eightBit has 8-bit products where DeepSeek-V3 has them, in projections and experts;
// head and attention are bf16, and results too.
func eightBit(input, grads Format, s Scaling, sum, rest Accumulation) [Operators]Rule {
	rules := mixed(BF16(), rest)
	r := Rule{Input: input, Grads: grads, Scaling: s, Output: BF16(), Sum: sum}
	rules[Projection], rules[Expert] = r, r
	return rules
}

const autocast = "torch.autocast"

func formatProfiles() []Profile {
	var plain Accumulation
	deepSeek := "DeepSeek-V3, arXiv 2412.19437, section 3.3"
	return []Profile{
		{Name: "fp32", Description: "no emulation"},
		{Name: "bf16", Description: "products take and give bf16, sums in fp32", Source: autocast, Rules: mixed(BF16(), plain)},
		{Name: "fp16", Description: "products take and give fp16, overflow is infinity; dynamic loss scaling",
			Source: autocast + " and GradScaler", Rules: mixed(FP16(), plain), LossScaling: true},
		{Name: "tf32", Description: "inputs of all products rounded to tf32, results fp32", Source: "Nvidia A100 whitepaper; allow_tf32 in PyTorch",
			Unknown: "libraries differ in how they round to tf32; nearest even is taken", Rules: inputs(TF32())},
		{Name: "hf32", Description: "inputs of all products rounded to hf32, results fp32", Source: "CANN, Ascend C API: SetHF32; allow_hf32 in torch_npu",
			Rules: inputs(HF32())},
		{Name: "fp8-e4m3", Description: "projections and experts in E4M3, a scale per block; head and attention in bf16; sums in fp32",
			Source: deepSeek, Rules: eightBit(E4M3(), E4M3(), PerBlock, plain, plain)},
		{Name: "fp8-hybrid", Description: "projections and experts in E4M3, their gradients in E5M2, a scale per tensor; head and attention in bf16; sums in fp32",
			Source: "arXiv 2209.05433; Transformer Engine, DelayedScaling with Format.HYBRID", Rules: eightBit(E4M3(), E5M2(), PerTensor, plain, plain)},
		{Name: "fp8-e4m3-fnuz", Description: "fp8-e4m3 with the E4M3 of CDNA3, whose largest value is 240",
			Source: "arXiv 2206.02915; " + deepSeek, Unknown: "how CDNA3 adds FP8 products is not emulated: sums are fp32",
			Rules: eightBit(E4M3FNUZ(), E4M3FNUZ(), PerBlock, plain, plain)},
		{Name: "fp8-hybrid-fnuz", Description: "fp8-hybrid with the formats of CDNA3",
			Source: "arXiv 2206.02915; Transformer Engine, DelayedScaling with Format.HYBRID", Unknown: "how CDNA3 adds FP8 products is not emulated: sums are fp32",
			Rules: eightBit(E4M3FNUZ(), E5M2FNUZ(), PerTensor, plain, plain)},
		{Name: "fp8-e4m3-hopper", Description: "fp8-e4m3 with the sums of Hopper, `hopper-fp8-promoted`, and of its bf16 products",
			Source: mmaSim + "; " + deepSeek, Rules: eightBit(E4M3(), E4M3(), PerBlock, HopperFP8Promoted(), Hopper())},
	}
}

// chipProfiles are chips by their name in the catalogue, each in the format that it is
// trained in.
func chipProfiles() []Profile {
	var all []Profile
	add := func(what string, sum Accumulation, unknown string, names ...string) {
		for _, name := range names {
			all = append(all, Profile{Name: name, Description: what + " in bf16", Source: autocast + "; " + sum.Source,
				Unknown: unknown, Rules: mixed(BF16(), sum)})
		}
	}
	add("Nvidia Ampere and Ada, sums as `ampere`,", Ampere(), "", "a100-80g-sxm", "a800-80g-sxm", "l40s", "rtx-4090")
	add("Nvidia Hopper, sums as `hopper`,", Hopper(), "", "h100-80g-sxm", "h800-80g-sxm", "h20", "h200-141g-sxm")
	add("AMD CDNA2, sums as `cdna2`,", CDNA2(), "", "mi250x")
	add("AMD CDNA3, sums as `cdna3`,", CDNA3(), "", "mi300x", "mi325x")
	unknown := func(what string, f Format, scaling bool, source string, names ...string) {
		for _, name := range names {
			all = append(all, Profile{Name: name, Description: fmt.Sprintf("%s, in %s, sums in fp32", what, f), Source: source,
				Unknown: "how the chip accumulates; inputs and results are rounded, sums are fp32", Rules: mixed(f, Accumulation{}), LossScaling: scaling})
		}
	}
	unknown("Huawei Ascend 910, saturation mode", FP16Saturating(), true,
		"Huawei, INF_NAN_MODE_ENABLE and aclrtFloatOverflowMode", "ascend-910a")
	unknown("Huawei Ascend, infinity and NaN mode", BF16(), false,
		"Huawei, INF_NAN_MODE_ENABLE; "+autocast, "ascend-910b1", "ascend-910b2", "ascend-910b3", "ascend-910b4", "ascend-910c", "ascend-950")
	unknown("T-Head PPU", BF16(), false, "T-Head SAIL 2.1; "+autocast, "ppu-810e", "ppu-m890")
	return all
}
