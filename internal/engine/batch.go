package engine

import "fmt"

// Batch is what one call of Backward or Loss computes: Rows sequences of T+1 tokens
// each, the first T of which predict the next.
type Batch struct {
	Tokens []int32 // [Rows, T+1]
	Rows   int

	// With Boundaries a token equal to EndToken ends its document: behind it
	// positions begin at 0 again, attention does not reach back across it, and its
	// own loss does not count, because its target begins another document. A
	// sequence begins with a part of a document, at position 0.
	Boundaries bool
	EndToken   int32 // unused without Boundaries

	// Choices are experts to impose in place of the router's own choice: nil, or
	// what Choices gives, by layer K experts for each of the Rows·T inputs.
	Choices [][]int32

	// Warmup is nil where the routers are to see their logits as they are: in
	// evaluation, and when the model has no routing warm-up or is past it.
	Warmup *RoutingWarmup
}

// masked marks an input whose loss does not count among the labels.
const masked = -1

// batchParts are a pass's part of a batch.
type batchParts struct {
	tokens  []int32   // inputs, [N]
	labels  []int32   // targets, [N]; masked where the loss does not count
	begin   []int32   // [N] index in its sequence of the first token of the input's document
	targets []int     // [rows] inputs of each sequence whose loss counts
	imposed [][]int32 // [layers][N*K]; empty: the router chooses
	samples []uint64  // [rows] sample numbers; empty without routing warm-up
}

// check gives the number of tokens of each sequence that predict another.
func (e *Engine) check(b Batch) (seq int, err error) {
	if b.Rows < 1 || len(b.Tokens)%b.Rows != 0 || len(b.Tokens)/b.Rows < 2 {
		return 0, fmt.Errorf("%d tokens cannot be cut into %d sequences of at least 2", len(b.Tokens), b.Rows)
	}
	for i, t := range b.Tokens {
		if t < 0 || int(t) >= e.cfg.Vocab {
			return 0, fmt.Errorf("token %d at index %d is outside the vocabulary of %d", t, i, e.cfg.Vocab)
		}
	}
	seq = len(b.Tokens)/b.Rows - 1
	if err := e.checkWarmup(b); err != nil {
		return 0, err
	}
	if b.Choices == nil {
		return seq, nil
	}
	return seq, e.checkChoices(b.Choices, b.Rows*seq)
}

func (e *Engine) checkChoices(choices [][]int32, inputs int) error {
	if len(choices) != e.cfg.Layers {
		return fmt.Errorf("choices are imposed on %d layers of %d", len(choices), e.cfg.Layers)
	}
	k := e.cfg.TopK
	for l, list := range choices {
		want := inputs * k
		if e.cfg.Dense(l) {
			want = 0
		}
		if len(list) != want {
			return fmt.Errorf("%d choices are imposed on layer %d, which makes %d", len(list), l, want)
		}
		for i, c := range list {
			if c < 0 || int(c) >= e.cfg.Experts {
				return fmt.Errorf("layer %d: expert %d is imposed on input %d, there are %d", l, c, i/k, e.cfg.Experts)
			}
			if contains(list[i/k*k:i], c) {
				return fmt.Errorf("layer %d: expert %d is imposed on input %d twice", l, c, i/k)
			}
		}
	}
	return nil
}

// eachPass loads as many sequences as a pass may hold, calls pass, and so on to
// the last sequence.
func (e *Engine) eachPass(b Batch, seq int, pass func()) {
	for l := range e.chosen {
		e.chosen[l] = e.chosen[l][:0]
	}
	e.setWarmup(b.Warmup)
	most := max(1, groupTokens/seq)
	for first := 0; first < b.Rows; first += most {
		e.reserve(shape{min(most, b.Rows-first), seq})
		e.load(b, first)
		if e.cfg.NormHead {
			e.columnNorms(e.colInv)
		}
		pass()
		for i, l := range e.layers {
			if l.moe() {
				e.chosen[i] = append(e.chosen[i], l.acts.routing.choice[:e.shape.tokens()*e.cfg.TopK]...)
			}
		}
	}
}

// load splits the sequences from row first on, as many as the pass holds, into
// inputs and targets.
func (e *Engine) load(b Batch, first int) {
	seq := e.shape.seq
	p := &e.batchParts
	p.tokens, p.labels, p.begin, p.targets = p.tokens[:0], p.labels[:0], p.begin[:0], p.targets[:0]
	for row := first; row < first+e.shape.rows; row++ {
		tokens := b.Tokens[row*(seq+1) : (row+1)*(seq+1)]
		p.tokens = append(p.tokens, tokens[:seq]...)
		p.labels = append(p.labels, tokens[1:]...)
		p.addDocuments(tokens[:seq], b)
	}
	p.samples = p.samples[:0]
	if b.Warmup != nil {
		p.samples = append(p.samples, b.Warmup.Samples[first:first+e.shape.rows]...)
	}
	p.imposed = p.imposed[:0]
	for _, list := range b.Choices {
		from, to := first*seq*e.cfg.TopK, (first+e.shape.rows)*seq*e.cfg.TopK
		p.imposed = append(p.imposed, list[min(from, len(list)):min(to, len(list))])
	}
}

// addDocuments fills in where the documents of the sequence added last begin, and
// masks the loss of their ends.
func (p *batchParts) addDocuments(inputs []int32, b Batch) {
	begin, targets := int32(0), len(inputs)
	labels := p.labels[len(p.labels)-len(inputs):]
	for t, token := range inputs {
		p.begin = append(p.begin, begin)
		if b.Boundaries && token == b.EndToken {
			begin = int32(t + 1)
			labels[t] = masked
			targets--
		}
	}
	p.targets = append(p.targets, targets)
}

// position is the place of input t in its document.
func (e *Engine) position(t int) int { return t%e.shape.seq - int(e.begin[t]) }

// targetTokens is the number of inputs of the pass whose loss counts.
func (e *Engine) targetTokens() int {
	n := 0
	for _, t := range e.targets {
		n += t
	}
	return n
}

// Choices are the experts that the inputs of the last call of Backward or Loss
// visited, by layer: K for each input, the best first. Dense layers have none. The
// slices are the engine's own, valid until the next call.
func (e *Engine) Choices() [][]int32 { return e.chosen }
