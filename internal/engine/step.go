package engine

import "fmt"

// BatchStats is what one call of Backward saw. Losses are means so that they
// can be read as they are; LossSum is a sum so that calls can be added.
type BatchStats struct {
	Tokens      int     // target tokens
	LossSum     float64 // cross-entropy in nats, summed over the tokens
	BalanceLoss float64 // B of the package comment, mean over sequences and MoE layers; 0 without MoE layers
	ZLoss       float64 // Z, likewise
	// ExpertTokens counts the choices of each expert, [layer*Experts + expert];
	// dense layers have zeros. It is the engine's own, valid until the next call.
	ExpertTokens []int64
}

// Backward computes the loss of rows sequences and adds its gradient, that of a
// sum over tokens, to Grads. tokens holds rows sequences of len(tokens)/rows =
// T+1 tokens; each of its first T predicts the next. It fails, before anything
// changed, when tokens cannot be cut so or hold a number outside the vocabulary.
func (e *Engine) Backward(tokens []int32, rows int) (BatchStats, error) {
	seq, err := e.check(tokens, rows)
	if err != nil {
		return BatchStats{}, err
	}
	s := BatchStats{Tokens: rows * seq, ExpertTokens: e.expertTokens}
	clear(e.expertTokens)
	e.eachPass(tokens, rows, seq, func() {
		e.forward()
		e.addStats(&s)
		e.backward()
	})
	if moe := e.cfg.Layers - e.cfg.DenseLayers; moe > 0 {
		s.BalanceLoss /= float64(rows * moe)
		s.ZLoss /= float64(rows * moe)
	}
	return s, nil
}

// Loss gives the cross-entropy in nats, summed over n target tokens, of
// sequences laid out as for Backward. Router losses are not part of it.
func (e *Engine) Loss(tokens []int32, rows int) (sum float64, n int, err error) {
	seq, err := e.check(tokens, rows)
	if err != nil {
		return 0, 0, err
	}
	e.eachPass(tokens, rows, seq, func() {
		e.forward()
		for _, x := range e.loss[:e.shape.tokens()] {
			sum += x
		}
	})
	return sum, rows * seq, nil
}

// check gives the number of tokens of each sequence that predict another.
func (e *Engine) check(tokens []int32, rows int) (seq int, err error) {
	if rows < 1 || len(tokens)%rows != 0 || len(tokens)/rows < 2 {
		return 0, fmt.Errorf("%d tokens cannot be cut into %d sequences of at least 2", len(tokens), rows)
	}
	for i, t := range tokens {
		if t < 0 || int(t) >= e.cfg.Vocab {
			return 0, fmt.Errorf("token %d at index %d is outside the vocabulary of %d", t, i, e.cfg.Vocab)
		}
	}
	return len(tokens)/rows - 1, nil
}

// eachPass loads as many sequences as a pass may hold, calls pass, and so on to
// the last sequence.
func (e *Engine) eachPass(tokens []int32, rows, seq int, pass func()) {
	most := max(1, groupTokens/seq)
	for len(tokens) > 0 {
		n := min(most, rows)
		e.reserve(shape{n, seq})
		e.load(tokens[:n*(seq+1)])
		if e.cfg.NormHead {
			e.columnNorms(e.colInv)
		}
		pass()
		tokens, rows = tokens[n*(seq+1):], rows-n
	}
}

// load splits sequences into inputs and targets.
func (e *Engine) load(tokens []int32) {
	e.tokens, e.labels = e.tokens[:0], e.labels[:0]
	for ; len(tokens) > 0; tokens = tokens[e.shape.seq+1:] {
		e.tokens = append(e.tokens, tokens[:e.shape.seq]...)
		e.labels = append(e.labels, tokens[1:e.shape.seq+1]...)
	}
}

func (e *Engine) forward() {
	for _, l := range e.layers {
		l.forward()
	}
	e.run(blocksOf(e.shape.tokens(), tokenBlock), e.tasks.lossForward)
}

func (e *Engine) backward() {
	n := e.shape.tokens()
	e.run(blocksOf(n, tokenBlock), e.tasks.lossBackward)
	e.weightGrad(e.g.head, e.logits, e.final, n, e.cfg.Vocab, e.cfg.Dim)
	e.gainGrad(e.g.norm, e.dH, e.x, e.finalInv)
	for i := range e.layers {
		e.layers[len(e.layers)-1-i].backward()
	}
	e.run(blocksOf(e.cfg.Dim, gainColumns), e.tasks.embedBackward)
}

// addStats adds what the forward pass saw.
func (e *Engine) addStats(s *BatchStats) {
	for _, x := range e.loss[:e.shape.tokens()] {
		s.LossSum += x
	}
	for _, l := range e.layers {
		if !l.moe() {
			continue
		}
		balance, z := l.routerLosses()
		s.BalanceLoss += balance
		s.ZLoss += z
		for i, c := range l.acts.routing.counts[:e.shape.rows*e.cfg.Experts] {
			e.expertTokens[l.index*e.cfg.Experts+i%e.cfg.Experts] += int64(c)
		}
	}
}
