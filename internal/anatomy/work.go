package anatomy

// Operations that a token costs, a multiply-add being two. Only products count:
// norms, activations, softmax and the optimizer do not.
//
// Published figures differ in three ways, which is why step times and not utilisation
// are compared: attention over the whole square of a sequence (Narayanan et al.,
// arXiv 2104.04473, appendix; PaLM, arXiv 2204.02311, appendix B) or over the half
// that a causal mask leaves; recomputation counted (hardware) or not (model); the
// head counted or not.

// The parts of the work.
const (
	Projections = "attention projections"
	Scores      = "attention scores"
	Router      = "router"
	ExpertWork  = "experts"
	Shared      = "shared experts"
	DenseWork   = "dense MLP"
	Head        = "head"
	MTPWork     = "MTP modules"
)

// Convention says how work is counted.
type Convention struct {
	Sequence int  // tokens
	Full     bool // scores of all pairs, also those that the causal mask takes away
}

// Work is a part of what a token costs.
type Work struct {
	Name     string  `json:"name"`
	Forward  float64 `json:"forward"`
	Backward float64 `json:"backward"` // gradients of inputs and of weights
	Formula  string  `json:"formula"`  // of the forward pass
}

// Works are parts of what a token costs.
type Works []Work

// Forward is the sum of the forward pass.
func (w Works) Forward() float64 {
	n := 0.0
	for _, part := range w {
		n += part.Forward
	}
	return n
}

// Backward is the sum of the backward pass.
func (w Works) Backward() float64 {
	n := 0.0
	for _, part := range w {
		n += part.Backward
	}
	return n
}

// Of is the part of that name; nothing where there is none.
func (w Works) Of(name string) Work {
	for _, part := range w {
		if part.Name == name {
			return part
		}
	}
	return Work{Name: name}
}

// Work is what a token costs in the whole model, MTP modules included.
func (d Decoder) Work(c Convention) Works { return d.Whole().Work(c) }

// Work is what a token costs on one stage.
func (s Stage) Work(c Convention) Works {
	var w Works
	for _, r := range kinds(s.Held, true) {
		w = w.merge(r.Work(s.Hidden, r.Count, c))
	}
	if !s.Final {
		return w
	}
	head := product(x(s.Vocab, "tokens"), x(s.Hidden, "width"))
	w = w.merge(Works{}.matrices(Head, head))
	if s.MTP == 0 {
		return w
	}
	layer := s.Last().Work(s.Hidden, s.MTP, c)
	rest := total(product(x(2, "matrices"), x(s.Hidden, "width"), x(s.Hidden, "width")), head).times(x(s.MTP, "modules"))
	m := Works{}.matrices(MTPWork, rest)[0]
	m.Forward += layer.Forward()
	m.Backward += layer.Backward()
	m.Formula += ", and a layer each"
	return append(w, m)
}

// Work is what a token costs in equal layers.
func (l Layer) Work(hidden, count int, c Convention) Works {
	layers := x(count, "layers")
	w := Works{}.matrices(Projections, l.Attention.products(hidden).times(layers))
	w = append(w, l.Attention.scores(count, c))
	if l.Experts == nil {
		return w.matrices(DenseWork, l.MLP.products(hidden).times(layers))
	}
	e := l.Experts
	shared := total(e.Shared.products(hidden), product(x(hidden, "gate")).when(e.SharedGate))
	return w.matrices(Router, product(x(hidden, "width"), x(e.Count, "experts")).times(layers)).
		matrices(ExpertWork, e.Each.products(hidden).times(x(e.TopK, "chosen")).times(layers)).
		matrices(Shared, shared.times(layers))
}

// matrices adds the work of products with a number of weights.
func (w Works) matrices(name string, weights term) Works {
	if weights.n == 0 {
		return w
	}
	forward := 2 * float64(weights.n)
	return append(w, Work{Name: name, Forward: forward, Backward: 2 * forward, Formula: "2 × " + weights.text})
}

// merge adds parts of the same name.
func (w Works) merge(more Works) Works {
	for _, part := range more {
		w = w.add(part)
	}
	return w
}

func (w Works) add(part Work) Works {
	for i := range w {
		if w[i].Name == part.Name {
			w[i].Forward += part.Forward
			w[i].Backward += part.Backward
			w[i].Formula += " + " + part.Formula
			return w
		}
	}
	return append(w, part)
}

// products are the weights that a token is multiplied with.
func (a Attention) products(hidden int) term {
	a.InBias, a.OutBias, a.Sinks = false, false, false
	split, copied, _ := a.parameters(hidden)
	return total(split, copied)
}

func (m MLP) products(hidden int) term {
	m.Bias = false
	split, _ := m.parameters(hidden)
	return split
}

// scores are queries by keys and weights by values.
func (a Attention) scores(layers int, c Convention) Work {
	dims := product(x(2, ""), x(a.Heads, "heads"), x(a.QueryDim()+a.ValueDim(), "query and value")).times(x(layers, "layers"))
	seen := Seen(c.Sequence, a.Window, c.Full)
	forward := float64(dims.n) * seen
	return Work{Name: Scores, Forward: forward, Backward: 2 * forward, Formula: dims.text + " × " + Number(seen) + " keys"}
}

// Seen is the mean number of keys that a query of a sequence is multiplied with.
func Seen(sequence, window int, full bool) float64 {
	s, w := float64(sequence), float64(window)
	switch {
	case window == 0 || window >= sequence:
		if full {
			return s
		}
		return (s + 1) / 2
	case full:
		return w
	}
	return (w*(w+1)/2 + (s-w)*w) / s
}
