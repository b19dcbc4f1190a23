package engine

import (
	"math"

	"github.com/mistura-project/mistura/internal/model"
)

// routing is what one layer's router decided for a pass, and what its gradient
// needs of it.
type routing struct {
	logits []float32 // [N, E]; noisy in a routing warm-up
	scores []float32 // [N, E] softmax or sigmoid of the logits
	lse    []float32 // [N] log Σ exp of the logits
	choice []int32   // [N, K] chosen experts, the largest logit first
	weight []float32 // [N, K] their weights
	norm   []float32 // [N] what the weights were divided by; 1 unless NormTopK
	counts []int32   // [rows, E] choices of each sequence
	sums   []sums    // [rows] of the clean logits; only in a routing warm-up
	noise  []noise   // [rows] only in a routing warm-up

	// The chosen (token, slot) pairs grouped by expert, tokens rising in a group.
	start  []int32 // [E+1] first position of each group
	place  []int32 // [N, K] position of a pair
	source []int32 // [NK] pair token*K+slot at a position
	chunks []chunk // the groups cut into units of work; capacity is never exceeded
}

// chunk is a run of positions of one expert.
type chunk struct{ expert, from, to int32 }

// sigmoidFloor is added to the sum of chosen sigmoid scores before the division,
// so that weights of experts whose scores all underflow are 0 (DeepSeek-V3).
const sigmoidFloor = 1e-20

func newRouting(cfg model.Config, s shape) routing {
	n := s.tokens()
	slots := n * cfg.TopK
	return routing{
		logits: floats(n * cfg.Experts), scores: floats(n * cfg.Experts), lse: floats(n),
		choice: make([]int32, slots), weight: floats(slots), norm: floats(n),
		counts: make([]int32, s.rows*cfg.Experts),
		start:  make([]int32, cfg.Experts+1), place: make([]int32, slots), source: make([]int32, slots),
		chunks: make([]chunk, 0, slots/expertBlock+cfg.Experts),
	}
}

// routeToken turns the logits of token t into scores, choices and weights.
func (l *layer) routeToken(w *worker, t int) {
	cfg, r := &l.cfg, &l.acts.routing
	logits := r.logits[t*cfg.Experts : (t+1)*cfg.Experts]
	scores := r.scores[t*cfg.Experts : (t+1)*cfg.Experts]
	copy(scores, logits)
	top, sum := l.kernel.Softmax(scores)
	r.lse[t] = top + float32(math.Log(float64(sum)))
	if cfg.Router == model.Sigmoid {
		l.sigmoids(scores, logits)
	}
	choice := r.choice[t*cfg.TopK : (t+1)*cfg.TopK]
	if len(l.imposed) > 0 {
		copy(choice, l.imposed[l.index][t*cfg.TopK:])
	} else {
		l.choose(&w.scratch.chooser, choice, logits, scores)
	}
	r.norm[t] = l.weigh(r.weight[t*cfg.TopK:(t+1)*cfg.TopK], choice, scores)
}

// weigh fills in the weights of the chosen experts and gives the divisor.
func (l *layer) weigh(weight []float32, choice []int32, scores []float32) float32 {
	sum := float32(0)
	for k, e := range choice {
		weight[k] = scores[e]
		sum += scores[e]
	}
	switch {
	case !l.cfg.NormTopK:
		sum = 1
	case l.cfg.Router == model.Sigmoid:
		sum += sigmoidFloor
	}
	scale := l.routedScale()
	for k := range weight {
		weight[k] = scale * (weight[k] / sum)
	}
	return sum
}

// routedScale is what the weights of chosen experts are multiplied by.
func (l *layer) routedScale() float32 {
	if l.cfg.RoutedScale == 0 {
		return 1
	}
	return float32(l.cfg.RoutedScale)
}

// sigmoids is dst = 1/(1+exp(-x)).
func (l *layer) sigmoids(dst, x []float32) {
	for i, v := range x {
		dst[i] = -v
	}
	l.kernel.ExpSum(dst, dst, 0)
	for i, v := range dst {
		dst[i] = 1 / (1 + v)
	}
}

// group sorts the pairs of a pass by expert, stably, counts them by sequence and
// cuts the groups into chunks.
func (l *layer) group() {
	cfg, r := &l.cfg, &l.acts.routing
	n, k := l.shape.tokens(), cfg.TopK
	clear(r.counts)
	clear(r.start)
	perRow := l.shape.seq * k
	for i, e := range r.choice[:n*k] {
		r.counts[i/perRow*cfg.Experts+int(e)]++
		r.start[e+1]++
	}
	for e := range cfg.Experts {
		r.start[e+1] += r.start[e]
	}
	for i, e := range r.choice[:n*k] {
		r.place[i] = r.start[e]
		r.source[r.start[e]] = int32(i)
		r.start[e]++
	}
	copy(r.start[1:], r.start) // each was moved to its group's end
	r.start[0] = 0
	r.chunks = r.chunks[:0]
	for e := range cfg.Experts {
		for from, end := r.start[e], r.start[e+1]; from < end; from += expertBlock {
			r.chunks = append(r.chunks, chunk{int32(e), from, min(from+expertBlock, end)})
		}
	}
}

// routerLosses gives B and Z of the package comment, summed over the sequences.
func (l *layer) routerLosses() (balance, z float64) {
	cfg, r := &l.cfg, &l.acts.routing
	mean := l.sums[:cfg.Experts]
	for row := range l.shape.rows {
		clear(mean)
		squares := 0.0
		for t := row * l.shape.seq; t < (row+1)*l.shape.seq; t++ {
			scores := r.scores[t*cfg.Experts : (t+1)*cfg.Experts]
			scale := 1 / float64(l.scoreSum(scores))
			for e, s := range scores {
				mean[e] += float64(float64(s) * scale)
			}
			squares += float64(float64(r.lse[t]) * float64(r.lse[t]))
		}
		dot := 0.0
		for e, c := range r.counts[row*cfg.Experts : (row+1)*cfg.Experts] {
			dot += float64(float64(c) * mean[e])
		}
		seq := float64(l.shape.seq)
		balance += float64(cfg.Experts) * dot / (seq * float64(cfg.TopK)) / seq
		z += squares / seq
	}
	return balance, z
}

// scoreSum is what a token's scores are divided by in the balance loss.
func (l *layer) scoreSum(scores []float32) float32 {
	if l.cfg.Router == model.Softmax {
		return 1 // they already sum to 1
	}
	sum := float32(sigmoidFloor)
	for _, s := range scores {
		sum += s
	}
	return sum
}

// routeTokenBackward turns the gradient of token t's weights, and both router
// losses, into the gradient of its logits.
func (l *layer) routeTokenBackward(w *worker, t int) {
	cfg, r := &l.cfg, &l.acts.routing
	span := func(x []float32) []float32 { return x[t*cfg.Experts : (t+1)*cfg.Experts] }
	d, scores := span(l.dRouter), span(r.scores)
	row := t / l.shape.seq
	counted := float64(l.targets[row]) / float64(l.shape.seq) * float64(l.lossFactor)
	l.balanceBackward(d, scores, r.counts[row*cfg.Experts:], counted)
	l.weighBackward(d, t)
	softmax := scores
	if cfg.Router == model.Softmax {
		l.kernel.MulSub(d, scores, d, l.kernel.Dot(scores, d))
	} else {
		for e, s := range scores {
			d[e] *= float32(s * (1 - s))
		}
		softmax = w.scratch.experts
		l.kernel.ExpSum(softmax, span(r.logits), r.lse[t])
	}
	l.kernel.Axpy(d, softmax, float32(counted)*2*float32(cfg.ZCoef)*r.lse[t])
	if l.warm() {
		l.kernel.Scale(d, float32(l.alpha))
	}
}

// balanceBackward sets d to the gradient of the balance loss with respect to the
// scores of one token; counted is the share of its sequence's inputs that are
// target tokens, times the loss factor. The fractions f_e are counts and have none.
func (l *layer) balanceBackward(d, scores []float32, counts []int32, counted float64) {
	cfg := &l.cfg
	if cfg.BalanceCoef == 0 {
		clear(d)
		return
	}
	unit := counted * cfg.BalanceCoef * float64(cfg.Experts) / float64(l.shape.seq*cfg.TopK)
	for e := range d {
		d[e] = float32(unit * float64(counts[e]))
	}
	if cfg.Router == model.Sigmoid {
		sum := l.scoreSum(scores)
		shift := l.kernel.Dot(d, scores) / sum
		for e := range d {
			d[e] = (d[e] - shift) / sum
		}
	}
}

// weighBackward adds to d what reaches the scores of token t through its weights.
func (l *layer) weighBackward(d []float32, t int) {
	k, r, scale := l.cfg.TopK, &l.acts.routing, l.routedScale()
	grads, weights := l.dWeight[t*k:(t+1)*k], r.weight[t*k:(t+1)*k]
	shift := float32(0)
	if l.cfg.NormTopK {
		for i, g := range grads {
			shift += float32(g * weights[i])
		}
	}
	for i, e := range r.choice[t*k : (t+1)*k] {
		d[e] += (float32(scale*grads[i]) - shift) / r.norm[t]
	}
}
