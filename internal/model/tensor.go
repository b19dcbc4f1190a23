package model

// Kind groups tensors that are treated alike.
type Kind string

// The kinds of tensors.
const (
	Embedding Kind = "embedding"
	Norm      Kind = "norm"
	Attention Kind = "attention"
	Router    Kind = "router"
	State     Kind = "state" // no gradient reaches it: the router's bias and running statistics
	Expert    Kind = "expert"
	Shared    Kind = "shared"
	Dense     Kind = "dense"
	Head      Kind = "head"
	Foreign   Kind = "foreign" // of a model that this program does not know
)

// Tensor is one parameter tensor. Matrices are stored row-major as [out, in].
// All tensors of a model lie one behind the other in one flat vector.
type Tensor struct {
	Name   string // "layers.0.experts.3.gate"
	Shape  []int  // one or two extents
	Kind   Kind
	Layer  int  // -1 outside the layers
	Expert int  // -1 unless Kind is Expert
	Decay  bool // takes weight decay: matrices do; norms, embeddings and state do not
	Offset int  // of its first element in the flat vector
}

// Size is the number of elements.
func (t Tensor) Size() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}
