package numeric

import (
	"fmt"
	"math"
)

// LossScale is dynamic loss scaling: gradients are computed of the loss times Value, so
// that small ones do not vanish in fp16. Defaults and rule are those of torch.amp.GradScaler.
type LossScale struct {
	Value float32 // a power of two
	Good  int     // steps applied since Value last changed
}

const (
	firstLossScale = 1 << 16
	growthInterval = 2000
)

// NewLossScale is the scale of a new run.
func NewLossScale() LossScale { return LossScale{Value: firstLossScale} }

// Next is the scale after a step: half after one whose gradients overflowed, which is not
// applied, and double after 2000 good ones in a row. It stays between the powers of two
// that a float32 can be divided by and multiplied with.
func (s LossScale) Next(overflow bool) LossScale {
	if overflow {
		return LossScale{Value: max(s.Value/2, 0x1p-100)}
	}
	s.Good++
	if s.Good < growthInterval {
		return s
	}
	return LossScale{Value: min(s.Value*2, 0x1p100)}
}

// Check refuses a scale that no run can have come to.
func (s LossScale) Check() error {
	if fraction, _ := math.Frexp(float64(s.Value)); fraction != 0.5 || s.Value < 0x1p-100 || s.Value > 0x1p100 {
		return fmt.Errorf("the loss scale is %v, not a power of two between 2^-100 and 2^100", s.Value)
	}
	if s.Good < 0 || s.Good >= growthInterval {
		return fmt.Errorf("%d good steps at one loss scale, of at most %d", s.Good, growthInterval-1)
	}
	return nil
}
