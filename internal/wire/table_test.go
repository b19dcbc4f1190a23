package wire

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"
)

func table() []TensorShape {
	return []TensorShape{
		{"model.embed.weight", []int{300, 16}}, {"scale", nil}, {"größe", []int{1}}, {"conv", []int{2, 3, 4, 5, 6, 7, 8, 9}},
	}
}

// The digest is part of the protocol. The first value was computed by a second program.
func TestTableDigestGolden(t *testing.T) {
	for want, tensors := range map[string][]TensorShape{
		"55aeb6e2cdee48434a884ba2f93ca201debe36048f54832f123ef5c1a8060755": table(),
		"f6de8b9f3d55d7bcc9ff482b03a46261398aa3843521ec4344f976d7e5d7123e": nil,
	} {
		if got := hex.EncodeToString(TableDigest(tensors)); got != want {
			t.Errorf("%v: %s, want %s", tensors, got, want)
		}
	}
}

// The order of the list does not matter, everything else does.
func TestTableDigestTellsModelsApart(t *testing.T) {
	whole := TableDigest(table())
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		shuffled := table()
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if !bytes.Equal(TableDigest(shuffled), whole) {
			t.Fatalf("%v has another digest", shuffled)
		}
	}
	for name, change := range map[string]func([]TensorShape) []TensorShape{
		"a name":              func(x []TensorShape) []TensorShape { x[1].Name = "scales"; return x },
		"a shape":             func(x []TensorShape) []TensorShape { x[0].Shape = []int{16, 300}; return x },
		"a scalar is a row":   func(x []TensorShape) []TensorShape { x[1].Shape = []int{1}; return x },
		"a tensor less":       func(x []TensorShape) []TensorShape { return x[1:] },
		"a tensor more":       func(x []TensorShape) []TensorShape { return append(x, TensorShape{"z", nil}) },
		"names that run over": func(x []TensorShape) []TensorShape { x[1].Name, x[2].Name = "scal", "egröße"; return x },
	} {
		if bytes.Equal(TableDigest(change(slices.Clone(table()))), whole) {
			t.Errorf("%s: the same digest", name)
		}
	}
}
