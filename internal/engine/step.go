package engine

// BatchStats is what one call of Backward saw. Losses are means so that they
// can be read as they are; LossSum is a sum so that calls can be added.
type BatchStats struct {
	Sequences   int     // rows of the batch
	Tokens      int     // target tokens: inputs whose loss counts
	LossSum     float64 // cross-entropy in nats, summed over the tokens
	BalanceLoss float64 // B of the package comment, mean over sequences and MoE layers; 0 without MoE layers
	ZLoss       float64 // Z, likewise
	// ExpertTokens counts the choices of each expert, [layer*Experts + expert];
	// dense layers have zeros. It is the engine's own, valid until the next call.
	ExpertTokens []int64
}

// Add makes of s the stats of both batches together. Losses of tokens add up and are
// divided once, by all target tokens: a mean of means would depend on how the tokens
// were cut into batches (case A9). Router losses are means over sequences.
func (s *BatchStats) Add(o BatchStats) {
	if all := float64(s.Sequences + o.Sequences); all > 0 {
		share := float64(o.Sequences) / all
		s.BalanceLoss += float64(share * (o.BalanceLoss - s.BalanceLoss))
		s.ZLoss += float64(share * (o.ZLoss - s.ZLoss))
	}
	s.Sequences += o.Sequences
	s.Tokens += o.Tokens
	s.LossSum += o.LossSum
	if s.ExpertTokens == nil {
		s.ExpertTokens = make([]int64, len(o.ExpertTokens))
	}
	for i, n := range o.ExpertTokens {
		s.ExpertTokens[i] += n
	}
}

// Loss is the mean over target tokens in nats; NaN where there are none.
func (s BatchStats) Loss() float64 { return s.LossSum / float64(s.Tokens) }

// Backward computes the losses of a batch and adds their gradient, that of a sum
// over target tokens, to Grads. It fails, before anything changed, when the tokens
// cannot be cut into the rows, a token or an imposed choice does not exist.
func (e *Engine) Backward(b Batch) (BatchStats, error) {
	seq, err := e.check(b)
	if err != nil {
		return BatchStats{}, err
	}
	s := BatchStats{Sequences: b.Rows, ExpertTokens: e.expertTokens}
	clear(e.expertTokens)
	e.training = true
	defer func() { e.training = false }()
	e.eachPass(b, seq, func() {
		e.forward()
		e.addStats(&s)
		e.backward()
	})
	if moe := e.cfg.Layers - e.cfg.DenseLayers; moe > 0 {
		s.BalanceLoss /= float64(b.Rows * moe)
		s.ZLoss /= float64(b.Rows * moe)
	}
	return s, nil
}

// Loss gives the cross-entropy in nats, summed over the n target tokens of a batch.
// Router losses are not part of it.
func (e *Engine) Loss(b Batch) (sum float64, n int, err error) {
	seq, err := e.check(b)
	if err != nil {
		return 0, 0, err
	}
	e.eachPass(b, seq, func() {
		e.forward()
		n += e.targetTokens()
		for _, x := range e.loss[:e.shape.tokens()] {
			sum += x
		}
	})
	return sum, n, nil
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
	e.queueing = HeadBackward
	e.weightGrad(e.headLinear(), e.g.head, e.logits, e.final, n, e.cfg.Vocab, e.cfg.Dim)
	e.gainGrad(e.g.norm, e.dH, e.x, e.finalInv)
	for i := range e.layers {
		e.layers[len(e.layers)-1-i].backward()
	}
	e.run(blocksOf(e.cfg.Dim, gainColumns), e.tasks.embedBackward)
}

// addStats adds what the forward pass saw.
func (e *Engine) addStats(s *BatchStats) {
	s.Tokens += e.targetTokens()
	for _, x := range e.loss[:e.shape.tokens()] {
		s.LossSum += x
	}
	for _, l := range e.layers {
		if !l.moe() {
			continue
		}
		if l.warm() {
			for _, sequence := range l.acts.routing.sums {
				e.step[l.index].logits.add(sequence)
			}
		}
		balance, z := l.routerLosses()
		s.BalanceLoss += balance
		s.ZLoss += z
		for i, c := range l.acts.routing.counts[:e.shape.rows*e.cfg.Experts] {
			e.expertTokens[l.index*e.cfg.Experts+i%e.cfg.Experts] += int64(c)
			e.step[l.index].counts[i%e.cfg.Experts] += int64(c)
		}
	}
}
