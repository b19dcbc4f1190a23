package scalar_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/model"
)

func TestRouteBackward(t *testing.T) {
	for _, router := range []string{model.Softmax, model.Sigmoid} {
		for _, norm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s norm %v", router, norm), func(t *testing.T) {
				c := model.Config{Router: router, NormTopK: norm, Experts: 5, TopK: 2}
				logits, dWeight, dShare := normals(20, 5), normals(21, 2), normals(22, 5)
				r := scalar.Route(c, logits, nil, nil)
				d := scalar.RouteBackward(c, r, dWeight, dShare, 0.7)
				checkGradient(t, logits, d, func() float64 {
					r := scalar.Route(c, logits, nil, r.Choice)
					return scalar.Dot(dWeight, r.Weight) + scalar.Dot(dShare, r.Share) + 0.7*r.LogSum
				}, bound)
			})
		}
	}
}

func TestTopKBreaksTiesToTheLowestNumber(t *testing.T) {
	if got := scalar.TopK([]float64{0.1, 0.5, 0.5, 0.1}, 3); !slices.Equal(got, []int{1, 2, 0}) {
		t.Errorf("chose %v", got)
	}
}

func TestRouterLossesBackward(t *testing.T) {
	c := model.Config{Router: model.Softmax, Experts: 4, TopK: 2}
	logits := normals(23, 3*4)
	route := func(choices [][]int) (tokens []scalar.Routed[float64]) {
		for i, l := range rows(logits, 4) {
			var choice []int
			if choices != nil {
				choice = choices[i]
			}
			tokens = append(tokens, scalar.Route(c, l, nil, choice))
		}
		return tokens
	}
	tokens := route(nil)
	var choices [][]int
	for _, r := range tokens {
		choices = append(choices, r.Choice)
	}
	_, _, dShare, dLogSum := scalar.RouterLosses(c, tokens)
	for e := range dShare {
		dShare[e] *= 0.3
	}
	var d []float64
	for i, r := range tokens {
		d = append(d, scalar.RouteBackward(c, r, []float64{0, 0}, dShare, 0.2*dLogSum[i])...)
	}
	checkGradient(t, logits, d, func() float64 {
		balance, z, _, _ := scalar.RouterLosses(c, route(choices))
		return 0.3*balance + 0.2*z
	}, bound)
}

// TestBalanceLossConvention is case A8: a uniform router over 8 experts that picks
// 2 reads 1.0 here; the convention that does not divide by the number picked reads 2.0,
// so that its coefficient c is 2c in ours.
func TestBalanceLossConvention(t *testing.T) {
	c := model.Config{Router: model.Softmax, Experts: 8, TopK: 2}
	var tokens []scalar.Routed[float64]
	for i := range 4 {
		tokens = append(tokens, scalar.Route(c, make([]float64, 8), nil, []int{2 * i, 2*i + 1}))
	}
	if balance, _, _, _ := scalar.RouterLosses(c, tokens); math.Abs(balance-1) > 1e-12 {
		t.Errorf("balance loss is %v at perfect balance", balance)
	}
}
