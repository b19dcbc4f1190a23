package store

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrNonFinite: a tensor that was to be saved holds a NaN or an infinity.
var ErrNonFinite = errors.New("non-finite value")

// checkFinite names the first tensor with a value that must not be saved.
func checkFinite(tensors []Tensor) error {
	for _, t := range tensors {
		if i := slices.IndexFunc(t.F32, nonFinite); i >= 0 {
			return fmt.Errorf("tensor %s, element %d of %d: %w %v", t.Name, i, len(t.F32), ErrNonFinite, t.F32[i])
		}
	}
	return nil
}

// nonFinite tells by the exponent, whose bits are all set for NaN and infinity.
func nonFinite(v float32) bool {
	const exponent = 0x7f800000
	return math.Float32bits(v)&exponent == exponent
}
