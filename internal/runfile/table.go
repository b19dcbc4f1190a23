package runfile

import (
	"strings"

	"github.com/mistura-project/mistura/internal/model"
)

// Foreign: the model is not ours. Only names and shapes of its tensors are known, and
// the island marked seed, or the file of the first weights, may still have to tell them.
func (m Model) Foreign() bool {
	return len(m.Tensors) > 0 || m.From == FromSeed || m.FromFile() && m.plain()
}

// FromFile: the first weights are those of a safetensors file.
func (m Model) FromFile() bool { return strings.HasSuffix(m.From, tensorSuffix) }

// tensorSuffix ends the name of a file of tensors.
const tensorSuffix = ".safetensors"

// plain: nothing is said of one of our models.
func (m Model) plain() bool {
	m.Config.Name = "" // for people
	return m.Config == model.Config{}
}

// WithTensors is the run of a model that is not ours and of these tensors.
func (r Run) WithTensors(tensors []Tensor) Run {
	r.Model = Model{From: r.Model.From, Config: model.Config{Name: r.Model.Name}, Tensors: tensors}
	return r
}

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
