package gate

import "math"

// The bounds of DESIGN, section 9, as relative errors.
const (
	exactLoss     = 1e-5 // fp32
	exactGradient = 1e-3
	roundedLoss   = 1e-3 // any other format
	ownFactor     = 3    // a gradient's error over what a trusted device makes on the same tensor in the same format

	// gradientFloor is what the error of a tensor may be as a share of the whole
	// gradient's length: about the spacing of fp32. Of a tensor whose gradient is all but
	// cancelled, nothing but rounding is left to compare.
	gradientFloor = 1.2e-7
)

// Unmeasured bounds stand in for three times a trusted device's own error where no
// trusted device has computed the model: the largest that the native engine makes on its
// own models, rounded up.
const (
	unmeasuredBF16 = 0.15
	unmeasuredFP16 = 0.03
)

// FalseAlarms is the most that the chance of refusing a learner whose every tensor is
// inside its bound may be, over all tensors together.
const FalseAlarms = 1e-6

// Own is what the trusted engine's own number format costs: relative errors against
// fp32 on the same probe.
type Own struct {
	Loss      float64   `json:"loss"`
	Gradients []float64 `json:"gradients"` // by tensor, in the order of the record
}

// lossBound is the relative bound of the loss: what either side's number format allows.
func lossBound(reference, format string, own *Own) float64 {
	switch {
	case format == FP32 && reference == FP32:
		return exactLoss
	case own != nil:
		return max(roundedLoss, ownFactor*own.Loss)
	default:
		return roundedLoss
	}
}

// gradientBound is the relative bound of tensor i: what either side's number format allows.
func gradientBound(reference, format string, own *Own, i int) float64 {
	bound := unmeasured(reference)
	if format != FP32 && own != nil {
		return max(bound, ownFactor*own.Gradients[i])
	}
	return max(bound, unmeasured(format))
}

// unmeasured is the bound of a number format where nobody has measured what it costs.
func unmeasured(format string) float64 {
	switch format {
	case FP32:
		return exactGradient
	case FP16:
		return unmeasuredFP16
	default:
		return unmeasuredBF16
	}
}

// certainty is the factor by which the error that a sketch estimates may exceed the true
// one before the true one is called greater: by chance it does so in fewer than
// FalseAlarms of all gates with so many tensors.
//
// The sum S of the squares of k projections of a vector of length 1 has the moments of a
// χ² variable of k degrees or less (a sum of ±1 signs is sub-Gaussian with parameter 1),
// so that Chernoff's bound for χ² holds whatever the vector is:
// P(S > x) ≤ (x/k)^(k/2) exp(-(x-k)/2) for x > k. The estimate is √(S/k).
func certainty(tensors int) float64 {
	const k = float64(Projections)
	want := math.Log(FalseAlarms / float64(max(tensors, 1)))
	low, high := k, 1e4
	for range 100 {
		x := (low + high) / 2
		if k/2*math.Log(x/k)-(x-k)/2 > want {
			low = x
		} else {
			high = x
		}
	}
	return math.Sqrt(high / k)
}
