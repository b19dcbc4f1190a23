package anatomy

// Formats are the bytes that training state takes for each parameter.
type Formats struct {
	Weight   int // that products read
	Gradient int // as it is accumulated
	Master   int // copy that the optimizer moves; 0: the weight itself
	Moments  int // both of AdamW
}

// Mixed is 16-bit weights, fp32 gradients, masters and moments: Megatron's 18 bytes.
func Mixed() Formats { return Formats{Weight: 2, Gradient: 4, Master: 4, Moments: 8} }

// FP32 is everything in fp32: 16 bytes.
func FP32() Formats { return Formats{Weight: 4, Gradient: 4, Moments: 8} }

// BF16 is everything in bf16, without masters: 8 bytes.
func BF16() Formats { return Formats{Weight: 2, Gradient: 2, Moments: 4} }

// State is training state in bytes.
type State struct{ Weights, Gradients, Masters, Moments int64 }

// Total is the sum.
func (s State) Total() int64 { return s.Weights + s.Gradients + s.Masters + s.Moments }

// Replicas are the ranks that hold the same parameters: of the experts' they are
// fewer, for expert-parallel ranks are taken from among them.
type Replicas struct{ Dense, Routed int }

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
