package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/model"
)

// Generate continues prompt by o.Tokens tokens and hands each to emit as it is
// drawn. It stops early with the error of ctx or emit, with ErrNotFinite when the
// model's output is not finite, and before it starts when an option is out of
// range (*fault.Input), the prompt is empty or holds a number outside the
// vocabulary. It works on one token at a time with a key and value cache.
func (e *Engine) Generate(ctx context.Context, prompt []int32, o SampleOptions, emit func(token int32) error) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if len(prompt) == 0 {
		return errors.New("the prompt is empty; give at least one token")
	}
	for i, t := range prompt {
		if t < 0 || int(t) >= e.cfg.Vocab {
			return fmt.Errorf("token %d at index %d of the prompt is outside the vocabulary of %d", t, i, e.cfg.Vocab)
		}
	}
	length := len(prompt) + o.Tokens
	if o.Context > 0 {
		length = min(length, o.Context)
	}
	d, s := newDecoder(e, length), newSampler(o, e.cfg.Vocab)
	text, from := slices.Clone(prompt), 0 // the cache holds text[from:]
	for i := 0; i < len(prompt)+o.Tokens-1; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i-from == length {
			from = i - length/2
			for j := from; j < i; j++ {
				d.step(text[j], j-from)
			}
		}
		d.step(text[i], i-from)
		if i+1 < len(prompt) {
			continue
		}
		token, err := s.draw(d.logits(), i+1)
		if err != nil {
			return fmt.Errorf("token %d of the text: %w", i+1, err)
		}
		if err := emit(token); err != nil {
			return err
		}
		text = append(text, token)
	}
	return nil
}

// decoder runs the model forward one token at a time.
type decoder struct {
	*Engine
	length int
	rope   rope
	colInv []float32
	cache  []kvCache // per layer

	x, h, qkv, raw, o, weights []float32
	gateUp, act, out           []float32
	route                      []float32 // [2, E] logits above scores
	chooser                    chooser
	choice                     []int32
	weight                     []float32
	head                       []float32 // [V]
}

// kvCache holds the turned keys and the values of all positions so far.
type kvCache struct{ k, v []float32 } // [length, Gd]

func newDecoder(e *Engine, length int) *decoder {
	cfg := e.cfg
	width := max(cfg.ExpertFFN, maxWide(cfg))
	d := &decoder{
		Engine: e, length: length, rope: newRope(cfg, length), colInv: floats(cfg.Dim),
		x: floats(cfg.Dim), h: floats(cfg.Dim), qkv: floats(e.qkvWidth()), raw: floats(e.qkvWidth()),
		o: floats(cfg.QueryWidth()), weights: floats(length),
		gateUp: floats(2 * width), act: floats(width), out: floats(cfg.Dim),
		route: floats(2 * cfg.Experts), chooser: newChooser(cfg), choice: make([]int32, cfg.TopK), weight: floats(cfg.TopK),
		head: floats(cfg.Vocab),
	}
	for range cfg.Layers {
		d.cache = append(d.cache, kvCache{floats(length * cfg.KVWidth()), floats(length * cfg.KVWidth())})
	}
	if cfg.NormHead {
		e.columnNorms(d.colInv)
	}
	return d
}

// step runs token through all layers and leaves the residual stream in x.
func (d *decoder) step(token int32, position int) {
	dim := d.cfg.Dim
	copy(d.x, d.w.embedding[int(token)*dim:(int(token)+1)*dim])
	for _, l := range d.layers {
		d.attention(l, position)
		d.normRow(d.h, d.x, l.w.mlpNorm)
		d.mlp(&l.w.wide, 1)
		if l.moe() {
			d.experts(l)
		}
	}
}

// logits are those of the token after the last step's. They are valid until the
// next call.
func (d *decoder) logits() []float32 {
	d.normRow(d.h, d.x, d.Engine.w.norm)
	if d.cfg.NormHead {
		d.kernel.ScaleMul(d.h, d.h, d.colInv, 1)
	}
	d.apply(d.head, d.Engine.w.head, d.h)
	return d.head
}

// apply is y = matrix·x, matrix [len(y), len(x)].
func (d *decoder) apply(y, matrix, x []float32) {
	for i := range y {
		y[i] = d.kernel.Dot(matrix[i*len(x):(i+1)*len(x)], x)
	}
}

// attention adds the attention of layer l to x.
func (d *decoder) attention(l *layer, position int) {
	cfg, n := &d.cfg, d.cfg.HeadDim
	d.normRow(d.h, d.x, l.w.attnNorm)
	d.apply(d.qkv, l.w.qkv, d.h)
	if cfg.QKNorm {
		for h := range cfg.Heads + cfg.KVHeads {
			copy(d.raw[:n], d.qkv[h*n:(h+1)*n])
			d.normRow(d.qkv[h*n:(h+1)*n], d.raw[:n], l.w.gain(cfg, h))
		}
	}
	d.rope.turn(d.qkv, position)
	cache, kv, query := &d.cache[l.index], cfg.KVWidth(), cfg.QueryWidth()
	copy(cache.k[position*kv:], d.qkv[query:query+kv])
	copy(cache.v[position*kv:], d.qkv[query+kv:])
	clear(d.o)
	for h := range cfg.Heads {
		at := d.heads(h).k - query
		q, o, weights := d.qkv[h*n:(h+1)*n], d.o[h*n:(h+1)*n], d.weights[:position+1]
		for t := range weights {
			weights[t] = d.kernel.Dot(q, cache.k[t*kv+at:t*kv+at+n])
		}
		d.kernel.Softmax(weights)
		for t, w := range weights {
			d.kernel.Axpy(o, cache.v[t*kv+at:t*kv+at+n], w)
		}
	}
	d.apply(d.out, l.w.o, d.o)
	d.kernel.Add(d.x, d.out)
}

// mlp adds weight times the result of one MLP on h to x.
func (d *decoder) mlp(m *swiglu, weight float32) {
	if m.width == 0 {
		return
	}
	gateUp, act := d.gateUp[:2*m.width], d.act[:m.width]
	d.apply(gateUp, m.gateUp, d.h)
	d.kernel.SwiGLU(act, gateUp[:m.width], gateUp[m.width:])
	d.apply(d.out, m.down, act)
	d.kernel.Axpy(d.x, d.out, weight)
}

// experts adds the routed experts of layer l to x.
func (d *decoder) experts(l *layer) {
	logits, scores := d.route[:d.cfg.Experts], d.route[d.cfg.Experts:]
	d.apply(logits, l.w.router, d.h)
	if d.cfg.Router == model.Sigmoid {
		l.sigmoids(scores, logits)
	} else {
		copy(scores, logits)
		d.kernel.Softmax(scores)
	}
	l.choose(&d.chooser, d.choice, logits, scores)
	l.weigh(d.weight, d.choice, scores)
	for k, e := range d.choice {
		d.mlp(&l.w.experts[e], d.weight[k])
	}
}
