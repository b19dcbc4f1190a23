package anatomy

import "fmt"

// Formats are the bytes that training state takes for each parameter.
type Formats struct {
	Weight   int // that products read
	Gradient int // as it is accumulated
	Master   int // copy that the optimizer moves; 0: the weight itself
	Moments  int // both of AdamW
}

// Bytes is the sum.
func (f Formats) Bytes() int { return f.Weight + f.Gradient + f.Master + f.Moments }

// FormatNames lists what FormatsNamed knows.
func FormatNames() []string { return []string{"mixed", "fp32", "bf16"} }

// FormatsNamed finds formats by name.
func FormatsNamed(name string) (Formats, bool) {
	switch name {
	case "mixed":
		return Mixed(), true
	case "fp32":
		return FP32(), true
	case "bf16":
		return BF16(), true
	}
	return Formats{}, false
}

// Mixed is 16-bit weights, fp32 gradients, masters and moments: Megatron's 18 bytes.
func Mixed() Formats { return Formats{Weight: 2, Gradient: 4, Master: 4, Moments: 8} }

// FP32 is everything in fp32: 16 bytes.
func FP32() Formats { return Formats{Weight: 4, Gradient: 4, Moments: 8} }

// BF16 is everything in bf16, without masters: 8 bytes.
func BF16() Formats { return Formats{Weight: 2, Gradient: 2, Moments: 4} }

// State is training state in bytes.
type State struct {
	Weights   int64 `json:"weights"`
	Gradients int64 `json:"gradients"`
	Masters   int64 `json:"masters"`
	Moments   int64 `json:"moments"`
}

// Total is the sum.
func (s State) Total() int64 { return s.Weights + s.Gradients + s.Masters + s.Moments }

// Replicas are the ranks that hold the same parameters: of the experts' they are
// fewer, for expert-parallel ranks are taken from among them.
type Replicas struct{ Dense, Routed int }

// LeastDP is the smallest number of data-parallel ranks among which the expert-parallel
// ones find their places: tp·dp is a multiple of ep·etp.
func (l Layout) LeastDP() int {
	a, b := l.EP*l.ETP, l.TP
	for b != 0 {
		a, b = b, a%b
	}
	return l.EP * l.ETP / a
}

// CheckDP refuses data-parallel ranks among which expert-parallel ones find no place.
func (l Layout) CheckDP(dp int) error {
	if least := l.LeastDP(); dp < 1 || dp%least != 0 {
		return refuse("dp", dp, fmt.Sprintf("leaves no place for %d × %d ranks of experts", l.EP, l.ETP), fmt.Sprintf("use a multiple of %d", least))
	}
	return nil
}

// Replicas counts the ranks that hold the same parameters when dp ranks train on
// different data.
func (l Layout) Replicas(dp int) Replicas {
	return Replicas{Dense: dp, Routed: dp * l.TP / (l.EP * l.ETP)}
}

// State is what one rank has of parameters. ZeRO (Rajbhandari et al., arXiv
// 1910.02054, section 5) divides masters and moments among the replicas from stage 1,
// gradients from stage 2, weights from stage 3; a share is rounded up.
func (h Held) State(l Layout, f Formats, zero int, replicas Replicas) State {
	dense, routed := h.Rank(l.TP, l.EP, l.ETP)
	of := func(bytes, from int) int64 {
		if zero < from {
			return int64(bytes) * (dense + routed)
		}
		return int64(bytes) * (up(dense, replicas.Dense) + up(routed, replicas.Routed))
	}
	return State{Weights: of(f.Weight, 3), Gradients: of(f.Gradient, 2), Masters: of(f.Master, 1), Moments: of(f.Moments, 1)}
}

// up divides, rounding up.
func up(n int64, by int) int64 { return (n + int64(by) - 1) / int64(by) }
