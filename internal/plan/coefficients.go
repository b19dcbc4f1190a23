package plan

import (
	"fmt"
	"math"
)

// coefficients are the constants of one task on one kind of chip, as rates.
type coefficients struct {
	product, expert, score float64 // seconds a FLOP
	byteTime               float64 // seconds a byte of device memory
	biased                 float64 // more for experts with biases, whose products are not fused
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

// coefficients resolves what constants say of a task on a kind of chip. The names of
// those that had to be taken from other chips are told.
func (k Constants) coefficients(t Task, h Hardware) (c coefficients, assumed []string) {
	at := func(name string) float64 {
		v, _ := k.of(name)
		return v.Value
	}
	ofChip := func(name string) float64 {
		v, ok := k.of(name)
		if !ok {
			assumed = append(assumed, fmt.Sprintf("%s %.2g of the peak, not fitted to this chip", name, v.Value))
		}
		return v.Value
	}
	stack := string(t.Stack)
	if h.Share != nil {
		c.product = 1 / (h.Peak[t.Format] * h.Share.Mid)
	} else {
		c.product = 1 / (h.Peak[t.Format] * ofChip("product."+t.Format+"."+h.Family()))
	}
	c.expert, c.biased = c.product/at("expert."+h.Family()+"."+t.Format), at("biased")
	c.score = 1 / (h.Peak[wide(t.Format)] * ofChip("score."+h.Family()) * at("fused."+stack))
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
