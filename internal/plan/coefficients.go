package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// coefficients are the constants of one task on one kind of chip, as rates.
type coefficients struct {
	product, expert, score float64 // seconds a FLOP; of scores in the wide format
	wide                   float64 // seconds a FLOP of products that are never narrowed: router and head
	byteTime               float64 // seconds a byte of device memory
	biased                 float64 // times the time for experts with biases, whose products are not fused
	tokens, width          float64 // sizes at which products reach half of their rate
	keys                   float64 // at which scores reach half of their rate
	elementwise            float64 // times that a kept byte is moved
	routing                float64 // times that a token on its way through experts is moved
	cast                   float64 // times that an operand is moved to be narrowed; 0 in 16 bits
	launch                 float64 // seconds a layer and micro-batch, each way
	grouped                float64 // seconds of each expert of a rank, beside its products
	link, nic              float64 // seconds a byte
	hop                    float64 // seconds of a collective, beside its bytes
	tp, ep, send           float64 // part of those that work does not hide
	overlap                float64 // exponent with which work and gradients' exchange add up; 1: one after the other
	scale                  float64 // more time for each doubling of hosts
	factor                 float64 // of the stack
	unfused                bool    // attention writes its scores out
}

// coefficients resolves what constants say of a task on a kind of chip. Those of what chips
// reach that were not fitted to this one are told, with their values.
func (k Constants) coefficients(t Task, h Hardware) (c coefficients, assumed []string) {
	at := func(name string) float64 { return k.of(name).Value }
	family, stack := h.Family(), string(t.Stack)
	ofChip := func(name string) float64 {
		v := k.of(name)
		fitted := h.fitted() && strings.Contains(v.Name+".", "."+family+".")
		if said := fmt.Sprintf("%s %.2g", name, v.Value); !fitted && !slices.Contains(assumed, said) {
			assumed = append(assumed, said)
		}
		return v.Value
	}
	product := func(format string) float64 {
		if h.Share != nil && format == t.Format {
			return 1 / (h.Peak[format] * h.Share.Mid)
		}
		return 1 / (h.Peak[format] * ofChip(k.productName(format, family)))
	}
	c.product, c.wide = product(t.Format), product(wide(t.Format))
	if kindOf(t) == "experts" {
		c.expert = c.product / ofChip("expert."+family+"."+t.Format)
	}
	c.biased = at("biased")
	c.score = 1 / (h.Peak[wide(t.Format)] * ofChip("score."+family) * at("fused."+stack))
	c.keys, c.routing = at("keys"), at("routing")
	c.byteTime = 1 / (h.Bandwidth * at("bandwidth"))
	c.tokens, c.width = at("tokens"), at("width")
	c.elementwise = at("elementwise." + stack)
	if t.Format == "fp8" || t.Format == "fp4" {
		c.cast = at("cast." + t.Format)
	}
	c.launch, c.grouped = at("launch."+stack), at("grouped."+t.Format)
	c.nic = 1 / (h.NIC * at("nic"))
	if c.link = c.nic; h.Link > 0 {
		c.link = 1 / (h.Link * at("link"))
	}
	c.hop = at("hop")
	c.tp, c.ep, c.send = at("tp."+stack), at("ep."+stack), at("send."+stack)
	c.overlap = at("overlap." + stack)
	c.scale = at("scale")
	c.factor = at("stack."+stack) * math.Exp(t.Months*at("drift."+kindOf(t)))
	c.unfused = t.Unfused
	return c, assumed
}

// productName is the constant of products in a format: fp16 goes like bf16 where it was
// not fitted apart.
func (k Constants) productName(format, family string) string {
	name := "product." + format + "." + family
	if format == "fp16" && k.of(name).Name != name {
		return "product.bf16." + family
	}
	return name
}

// spread is the half width of the range of a prediction, as a logarithm: that of models
// of the kind, not less than that of the family of chips where it is told apart; of a
// chip to whose products nothing was fitted, and whose user does not say what they reach, that
// of chips and software left out whole.
func (k Constants) spread(t Task, h Hardware) float64 {
	if h.Share == nil && (!h.fitted() || k.of(k.productName(t.Format, h.Family())).Rows == 0) {
		return k.of("range.other").Value
	}
	width := k.of("range." + kindOf(t)).Value
	if own := k.of("range." + h.Family()); own.Name == "range."+h.Family() {
		width = max(width, own.Value)
	}
	return width
}

// widened are those of products that are never narrowed: router and head (DeepSeek-V3,
// arXiv 2412.19437, section 3.3.1; Transformer Engine's recipes leave them out too).
func (c coefficients) widened() coefficients {
	c.product, c.cast = c.wide, 0
	return c
}

// wide is the format in which attention multiplies: products are narrowed, scores are not.
func wide(format string) string {
	switch format {
	case "fp16", "tf32", "fp32":
		return format
	}
	return "bf16"
}

// wideBytes are those of an activation.
func wideBytes(format string) int { return int(operandBytes(wide(format))) }

// kindOf tells models with experts from dense ones.
func kindOf(t Task) string {
	for _, r := range t.Model.Layers {
		if r.Experts != nil {
			return "experts"
		}
	}
	return "dense"
}
