package fragment

import (
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/wire"
)

// TableDigest is [wire.TableDigest] of a model's tensors.
func TableDigest(tensors []model.Tensor) []byte {
	shapes := make([]wire.TensorShape, len(tensors))
	for i, t := range tensors {
		shapes[i] = wire.TensorShape{Name: t.Name, Shape: t.Shape}
	}
	return wire.TableDigest(shapes)
}
