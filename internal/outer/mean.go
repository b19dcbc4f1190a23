package outer

// Part is one learner's contribution to a merge of a fragment.
type Part struct {
	Delta  []float32 // pseudo-gradient, tensors of the fragment one behind the other
	Tokens []int64   // by tensor, not negative: tokens that reached it, for an expert those routed to it
}

// overall is the number of tokens the part stands for: what reached its busiest tensor.
func (p Part) overall() int64 {
	var n int64
	for _, t := range p.Tokens {
		n = max(n, t)
	}
	return n
}

// Mean sets dst to the token-weighted mean of the parts, tensor by tensor, added in
// the order given. sizes are the elements of each tensor of the fragment. dst must
// not overlap a part.
//
//   - A part without tokens for a tensor is left out of it. An expert that one
//     learner never used is not pulled back towards its anchor.
//   - Where no part has tokens for a tensor (it still moves, by weight decay and by
//     moments) the parts' overall tokens weigh; where those of several parts are
//     zero too, nothing was trained and dst is zero.
//   - A part that stands alone in a tensor is copied bit for bit, and so is an only
//     part, even one of no tokens: it closes the gap that rounding left.
func Mean(dst []float32, sizes []int, parts []Part) {
	for _, p := range parts {
		mustMatch(len(dst), len(p.Delta))
		mustMatch(len(sizes), len(p.Tokens))
	}
	weights := make([]float32, len(parts))
	from := 0
	for tensor, size := range sizes {
		weigh(weights, parts, tensor)
		meanOf(dst[from:from+size], parts, weights, from)
		from += size
	}
	mustMatch(from, len(dst))
}

// weigh gives each part its weight in a tensor; the weights' sum is 1 or 0.
func weigh(weights []float32, parts []Part, tensor int) {
	tokens := func(p Part) int64 { return p.Tokens[tensor] }
	total := sum(parts, tokens)
	if total == 0 {
		tokens = Part.overall
		total = sum(parts, tokens)
	}
	for i, p := range parts {
		weights[i] = 0
		switch {
		case len(parts) == 1:
			weights[i] = 1
		case total > 0:
			weights[i] = float32(float64(tokens(p)) / float64(total))
		}
	}
}

func sum(parts []Part, tokens func(Part) int64) int64 {
	var n int64
	for _, p := range parts {
		n += tokens(p)
	}
	return n
}

// meanOf is one tensor's weighted sum; it starts at element from of each part.
func meanOf(dst []float32, parts []Part, weights []float32, from int) {
	first := true
	for i, p := range parts {
		w := weights[i]
		if w == 0 {
			continue
		}
		delta := p.Delta[from : from+len(dst)]
		if first {
			for k, d := range delta {
				dst[k] = w * d
			}
			first = false
			continue
		}
		for k, d := range delta {
			dst[k] += float32(w * d)
		}
	}
	if first {
		clear(dst)
	}
}
