package anatomy

// Context is what attention sends for each token when cp ranks share a sequence: every
// query meets all keys and values before it, so that each rank's go to all others, and
// forward again in the backward pass, in which their gradients come home. Around a ring
// they go in cp - 1 steps while attention works (Liu et al., arXiv 2310.01889, section
// 3); or they are gathered before it and gradients scattered after (Llama 3, arXiv
// 2407.21783, section 3.3.2). Both send as much. Of latent attention what its heads
// multiply is sent, as Megatron does, and not the narrower latent vector.
func (a Attention) Context(l Layout, cp int, s Sending, gathered bool) []Message {
	if cp < 2 {
		return nil
	}
	heads := a.KVHeads
	if a.Latent != nil {
		heads = a.Heads
	}
	t := product(x(s.Element, "bytes"), x(heads, "key/value heads"), x(a.QueryDim()+a.ValueDim(), "key and value"))
	k := Keeping{Layout: l}.split("keys and values", t)
	keys := Message{Name: k.Name, Group: "cp", Collective: Send, Ranks: cp, Forward: cp - 1, Backward: cp - 1, Bytes: k.Bytes, Formula: k.Formula}
	gradients := keys
	gradients.Name, gradients.Forward = "gradients of keys and values", 0
	if gathered {
		// A token's part of the whole: each rank has a cp-th of it.
		whole := x(cp, "ranks")
		keys.Collective, keys.Forward, keys.Backward, keys.Bytes, keys.Formula = AllGather, 1, 1, float64(cp)*k.Bytes, whole.String()+" × "+k.Formula
		gradients.Collective, gradients.Backward, gradients.Bytes, gradients.Formula = ReduceScatter, 1, keys.Bytes, keys.Formula
	}
	return []Message{keys, gradients}
}
