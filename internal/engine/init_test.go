package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
)

// TestInitParamsGolden is rule D1 and case A1: the digest holds on every machine.
// It changes every run's start, so it changes only on purpose.
func TestInitParamsGolden(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	params := floats(cfg.Size())
	InitParams(cfg, 1, params)
	h := sha256.New()
	for _, x := range params {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
		h.Write(b[:])
	}
	const want = "e33932037fbd759155168aa8207eedec018cabd25cec9024a13072b03c22e25f"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("digest of the initial weights is %s, want %s", got, want)
	}
}

func TestInitParamsDeviation(t *testing.T) {
	cfg, err := model.Preset("ling-nano")
	if err != nil {
		t.Fatal(err)
	}
	params, other := floats(cfg.Size()), floats(cfg.Size())
	InitParams(cfg, 1, params)
	InitParams(cfg, 2, other)
	for _, tensor := range cfg.Tensors() {
		x := params[tensor.Offset : tensor.Offset+tensor.Size()]
		want := cfg.InitStd
		switch {
		case tensor.Kind == model.Norm:
			for _, v := range x {
				if v != 1 {
					t.Fatalf("%s holds %v", tensor.Name, v)
				}
			}
			continue
		case tensor.Shape[1] != cfg.Dim || tensor.Name[len(tensor.Name)-2:] == ".o":
			want /= math.Sqrt(8) // it writes to the residual stream of 4 layers
		}
		sum := 0.0
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		if got := math.Sqrt(sum / float64(len(x))); math.Abs(got/want-1) > 0.1 {
			t.Errorf("%s has deviation %v, want %v", tensor.Name, got, want)
		}
		if sameBits(x, other[tensor.Offset:tensor.Offset+tensor.Size()]) != 0 {
			t.Errorf("%s does not depend on the seed", tensor.Name)
		}
	}
}
