package runfile

import "github.com/mistura-project/mistura/internal/model"

// Foreign: the model is not ours. Only names and shapes of its tensors are known, and
// an island marked seed may still have to tell them.
func (m Model) Foreign() bool { return len(m.Tensors) > 0 || m.From == FromSeed }

// Table lists the tensors of the run's model, one behind the other in one flat vector.
// It is empty while the island that tells them has not come.
func (r Run) Table() []model.Tensor {
	if !r.Model.Foreign() {
		return r.Model.Config.Tensors()
	}
	out := make([]model.Tensor, len(r.Model.Tensors))
	at := 0
	for i, t := range r.Model.Tensors {
		out[i] = model.Tensor{Name: t.Name, Shape: t.Shape, Kind: model.Foreign, Layer: -1, Expert: -1, Decay: !t.State && len(t.Shape) > 1, Offset: at}
		if t.State {
			out[i].Kind = model.State
		}
		at += out[i].Size()
	}
	return out
}

// Size is the number of elements of the run's model.
func (r Run) Size() int {
	if !r.Model.Foreign() {
		return r.Model.Config.Size()
	}
	n := 0
	for _, t := range r.Table() {
		n += t.Size()
	}
	return n
}
