package scalar_test

import (
	"testing"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/engine/scalar"
)

// TestModelBackward checks every parameter's gradient of whole models against
// finite differences, with choices and head norms held, for the first is a step
// function and the second has no gradient by definition.
func TestModelBackward(t *testing.T) {
	for _, c := range enginetest.Configs() {
		t.Run(c.Name, func(t *testing.T) {
			params := normals(30, c.Size())
			for i := range params {
				params[i] *= 0.4
			}
			m := scalar.NewModel[float64](c, params)
			// The second sequence ends a document and has less to learn than the first.
			b := scalar.Batch{Tokens: []int32{1, 4, 2, 4, 3, 5, 1, 1}, Rows: 2, Boundaries: true, EndToken: 5}
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
			checkGradient(t, m.Params, m.Grads, func() float64 {
				return m.Run(b, false).Total
			}, 1e-7)
		})
	}
}
