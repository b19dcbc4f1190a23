package gate

import (
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

func TestRowsHaveEquallyManyTargets(t *testing.T) {
	for _, sequence := range []int{1, 2, 5, 32, 256, 100_000} {
		p := NewProbe(3, 256, sequence, true, 255)
		length := len(p.Tokens) / p.Rows
		if length < 3 || length > LongestSequence+1 {
			t.Errorf("sequence of %d: %d tokens a row", sequence, length)
		}
		for row := range p.Rows {
			ends := 0
			for _, token := range p.Tokens[row*length : (row+1)*length-1] {
				if token < 0 || token > 255 {
					t.Fatalf("token %d", token)
				}
				if token == 255 {
					ends++
				}
			}
			if ends != 1 {
				t.Errorf("sequence of %d: row %d ends %d documents", sequence, row, ends)
			}
		}
	}
}

// Sharpened weights come from exact steps, so that every host has the same bits; matrices
// then have about the gain that they are to have.
func TestSharpenedWeights(t *testing.T) {
	for _, name := range []string{"ling-tiny", "ling-nano"} {
		cfg, err := model.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		before, after := make([]float32, cfg.Size()), make([]float32, cfg.Size())
		for i, tensor := range cfg.Tensors() {
			draws := rng.New(1, rng.Test, uint64(i))
			for k := range tensor.Size() {
				x := 1.0
				if tensor.Kind != model.Norm {
					x = cfg.InitStd * draws.Normal()
				}
				before[tensor.Offset+k] = float32(x)
			}
		}
		copy(after, before)
		Sharpen(cfg, 1, after)
		for _, tensor := range cfg.Tensors() {
			first := after[tensor.Offset] / before[tensor.Offset]
			for k := range tensor.Size() {
				x, y := before[tensor.Offset+k], after[tensor.Offset+k]
				if tensor.Kind == model.Norm {
					if _, low := exponent(y / 3); !low {
						if _, high := exponent(y / 5); !high {
							t.Fatalf("%s: gain %v is neither 3/4 nor 5/4 of a power of two", tensor.Name, y)
						}
					}
					continue
				}
				if y != x*first {
					t.Fatalf("%s: %v became %v, others grew by %v", tensor.Name, x, y, first)
				}
			}
			if _, exact := exponent(first); tensor.Kind != model.Norm && !exact {
				t.Errorf("%s grew by %v, not a power of two", tensor.Name, first)
			}
		}
	}
}

// exponent is that of a power of two.
func exponent(x float32) (e int, exact bool) {
	f, e := math.Frexp(float64(x))
	return e, f == 0.5
}
