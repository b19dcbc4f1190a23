package scalar_test

import (
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/model"
)

// TestModelBackward checks every parameter's gradient of whole models against
// finite differences, with choices and head norms held, for the first is a step
// function and the second has no gradient by definition. Neither has state.
func TestModelBackward(t *testing.T) {
	for _, c := range enginetest.Configs() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			params := normals(30, c.Size())
			for i := range params {
				params[i] *= 0.4
			}
			state := stateElements(c)
			for i := range state {
				params[i] = math.Abs(params[i]) // one of them is a variance
			}
			m := scalar.NewModel[float64](c, params)
			// The second sequence ends a document and has less to learn than the first.
			b := scalar.Batch{Tokens: []int32{1, 4, 2, 4, 3, 5, 1, 1}, Rows: 2, Boundaries: true, EndToken: 5}
			if c.RoutingWarmupTokens > 0 {
				b.Warmup = &scalar.Warmup{Alpha: 0.6, Eps: func(row, layer, token, expert int) float64 {
					return normals(uint64(1000+((row*9+layer)*9+token)*9+expert), 1)[0]
				}}
			}
			base := m.Run(b, true)
			b.Choices = base.Choices
			if c.NormHead {
				name := "head"
				if c.TiedEmbeddings {
					name = "embedding"
				}
				for _, tensor := range c.Tensors() {
					if tensor.Name == name {
						m.HeadNorms = scalar.ColumnNorms(m.Params[tensor.Offset:tensor.Offset+tensor.Size()], c.Dim)
					}
				}
			}
			for i := range state {
				if m.Grads[i] != 0 {
					t.Errorf("state has the gradient %v", m.Grads[i])
				}
			}
			checkGradient(t, m.Params, m.Grads, func() float64 {
				return m.Run(b, false).Total
			}, 1e-7, func(i int) bool { return state[i] })
		})
	}
}

// stateElements are the parameters that take no gradient.
func stateElements(c model.Config) map[int]bool {
	state := map[int]bool{}
	for _, tensor := range c.Tensors() {
		for i := range tensor.Size() {
			if tensor.Kind == model.State {
				state[tensor.Offset+i] = true
			}
		}
	}
	return state
}
