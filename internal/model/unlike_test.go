package model

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

func foreignTable() []Tensor {
	return []Tensor{
		{Name: "embed.weight", Shape: []int{300, 16}, Kind: Foreign}, {Name: "norm.running_mean", Shape: []int{16}, Kind: State},
		{Name: "scale", Shape: []int{}, Kind: Foreign}, {Name: "head.weight", Shape: []int{300, 16}, Kind: Foreign},
	}
}

func sameAs(run []Tensor) (out []Named) {
	for _, t := range run {
		out = append(out, Named{Name: t.Name, Shape: t.Shape, State: t.Kind == State})
	}
	return out
}

// The order in which a framework lists its parameters is its own affair, and a scalar's
// missing shape is its shape.
func TestAlikeInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 10 {
		own := sameAs(foreignTable())
		own[2].Shape = nil
		r.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
		if err := Unlike(foreignTable(), own); err != nil {
			t.Fatal(err)
		}
	}
}

// The danger: a trainer joins with another model and its weights are averaged with the
// run's, or it is refused in words that name no parameter.
func TestUnlikeModelsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		own   func([]Named) []Named
		run   func([]Tensor) []Tensor
		value string
		says  []string
	}{
		"lacks":  {own: func(x []Named) []Named { return x[1:] }, value: "embed.weight", says: []string{"this model lacks it", "[300 16]"}},
		"has":    {own: func(x []Named) []Named { return append(x, Named{Name: "bias", Shape: []int{7}}) }, value: "bias", says: []string{"does not have it", "[7]"}},
		"shape":  {own: func(x []Named) []Named { x[0].Shape = []int{16, 300}; return x }, value: "embed.weight", says: []string{"[16 300] here", "[300 16] in the run"}},
		"scalar": {own: func(x []Named) []Named { x[2].Shape = []int{1}; return x }, value: "scale", says: []string{"[1] here", "[] in the run"}},
		"state":  {own: func(x []Named) []Named { x[1].State = false; return x }, value: "norm.running_mean", says: []string{"with gradient here", "without gradient in the run"}},
		"tied here": {own: func(x []Named) []Named { x[0].Tied = []string{"head.weight"}; return x[:3] }, value: "head.weight",
			says: []string{"tied to embed.weight in this model", "parameter of its own", "untie"}},
		"tied there": {run: func(x []Tensor) []Tensor { return x[:3] }, value: "head.weight", says: []string{"does not have it", "tie it to embed.weight"}},
		"tied by another name": {run: func(x []Tensor) []Tensor { return x[1:] },
			own:   func(x []Named) []Named { x[0].Tied = []string{"head.weight"}; return x[:3] },
			value: "head.weight", says: []string{"is tied to embed.weight", "the run knows it as head.weight"}},
		"wrapped": {own: func(x []Named) []Named {
			for i := range x {
				x[i].Name = "model." + x[i].Name
			}
			return x
		}, value: "embed.weight", says: []string{`all names begin with "model." here`, "7 more"}},
		"not wrapped": {run: func(x []Tensor) []Tensor {
			for i := range x {
				x[i].Name = "model." + x[i].Name
			}
			return x
		}, value: "model.embed.weight", says: []string{`all names begin with "model." in the run`}},
	} {
		run, own := foreignTable(), sameAs(foreignTable())
		if c.run != nil {
			run = c.run(run)
		}
		if c.own != nil {
			own = c.own(own)
		}
		var in *fault.Input
		err := Unlike(run, own)
		if !errors.As(err, &in) || in.Value != c.value {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", name, err, s)
			}
		}
	}
}
