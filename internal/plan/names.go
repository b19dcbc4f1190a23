package plan

// String is the term in words.
func (t Term) String() string {
	return [Terms]string{"products", "experts' products", "attention", "head", "elementwise", "recomputed", "tensor-parallel traffic", "expert-parallel traffic",
		"context-parallel traffic", "stage to stage", "bubble", "gradients and weights", "optimizer", "overhead"}[t]
}

// String is the part in words.
func (p Part) String() string {
	return [Parts]string{"weights", "gradients", "master weights", "moments", "activations", "logits", "buffers", "framework"}[p]
}
