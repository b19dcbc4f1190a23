package engine

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/engine/scalar"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
)

// normals fills x with normal numbers.
func normals(index uint64, x []float32) []float32 {
	stream := rng.New(5, rng.Test, index)
	for i := range x {
		x[i] = float32(stream.Normal())
	}
	return x
}

func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// near fails unless got is want within bound, relative in L2.
func near(t *testing.T, what string, got []float32, want []float64, bound float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d elements, want %d", what, len(got), len(want))
	}
	if r := relative(got, want); !(r <= bound) {
		t.Errorf("%s is off by %.2g:\n got %v\nwant %v", what, r, got, want)
	}
}

// opEngine is an engine whose buffers are cut for rows sequences of seq tokens.
func opEngine(t *testing.T, cfg model.Config, rows, seq int) *Engine {
	e := newEngine(t, cfg, Options{Threads: 1})
	e.reserve(shape{rows, seq})
	e.load(Batch{Tokens: make([]int32, rows*(seq+1)), Rows: rows}, 0)
	return e
}

func named(t *testing.T, name string) model.Config {
	t.Helper()
	for _, c := range enginetest.Configs() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no configuration is called %q", name)
	return model.Config{}
}

func TestNormAgreesWithTwin(t *testing.T) {
	e := opEngine(t, named(t, "plain"), 1, 1)
	dim, eps := e.cfg.Dim, e.cfg.NormEps
	x, gain, dY := normals(0, floats(dim)), normals(1, floats(dim)), normals(2, floats(dim))
	y, dX, inv := floats(dim), floats(dim), floats(1)
	e.norm(y, inv, x, gain, 0, 1)
	near(t, "norm", y, scalar.RMSNorm(widen(gain), widen(x), eps), 1e-6)

	base := normals(3, floats(dim))
	e.normBackward(e.pool.workers[0], dX, base, dY, x, gain, inv, 0, 1)
	dGain := make([]float64, dim)
	want := scalar.RMSNormBackward(dGain, widen(gain), widen(x), eps, widen(dY))
	scalar.Add(want, widen(base), 1)
	near(t, "gradient of norm", dX, want, 1e-6)

	got := floats(dim)
	e.gainGrad(got, dY, x, inv)
	e.run(0, nil)
	near(t, "gradient of gain", got, dGain, 1e-6)
}

func TestRopeAgreesWithTwin(t *testing.T) {
	cfg := named(t, "everything")
	d, r := cfg.HeadDim, newRope(cfg, 20)
	for _, position := range []int{0, 1, 19} {
		x := normals(4, floats(cfg.QueryWidth()+2*cfg.KVWidth()))
		turned, back := slices.Clone(x), slices.Clone(x)
		r.turn(turned, position)
		r.turnBack(back, position)
		for h := range cfg.Heads + 2*cfg.KVHeads {
			in := widen(x[h*d : (h+1)*d])
			forward, backward, scale := in, in, 1.0 // values stay
			if h < cfg.Heads+cfg.KVHeads {
				forward, backward = scalar.Rotate(in, cfg.Turned(), position, cfg.RopeTheta), scalar.RotateBackward(in, cfg.Turned(), position, cfg.RopeTheta)
			}
			if h < cfg.Heads {
				scale = 1 / math.Sqrt(float64(d))
			}
			for i := range d {
				if math.Abs(float64(turned[h*d+i])-scale*forward[i]) > 1e-6 || math.Abs(float64(back[h*d+i])-scale*backward[i]) > 1e-6 {
					t.Errorf("position %d, head %d, element %d: %v and %v, twin %v and %v", position, h, i,
						turned[h*d+i], back[h*d+i], scale*forward[i], scale*backward[i])
				}
			}
		}
	}
}

// headRows cuts one head out of rows of qkv or o.
func headRows(x []float32, width, at, d, first, seq int) [][]float64 {
	var rows [][]float64
	for t := first; t < first+seq; t++ {
		rows = append(rows, widen(x[t*width+at:t*width+at+d]))
	}
	return rows
}

// TestAttentionAgreesWithTwin runs both passes on sequences that end inside a
// block of queries. The engine's queries come scaled, the twin scales scores.
func TestAttentionAgreesWithTwin(t *testing.T) {
	cfg, rows, seq := named(t, "grouped queries, no shared expert"), 2, queryBlock+11
	e := opEngine(t, cfg, rows, seq)
	l, w, width, query, d := e.layers[0], e.pool.workers[0], e.qkvWidth(), cfg.QueryWidth(), cfg.HeadDim
	normals(5, l.acts.qkv)
	normals(6, e.dO)
	for i := range rows * cfg.Heads {
		l.attend(w, i)
	}
	for i := range rows * cfg.KVHeads {
		l.attendBackward(w, i)
	}
	scale := math.Sqrt(float64(d))
	zero := func() [][]float64 { return headRows(floats(seq*d), d, 0, d, 0, seq) }
	for row := range rows {
		compare := func(what string, x []float32, width, at int, want [][]float64) {
			var got []float32
			for t := row * seq; t < (row+1)*seq; t++ {
				got = append(got, x[t*width+at:t*width+at+d]...)
			}
			near(t, what, got, slices.Concat(want...), 1e-5)
		}
		cut := func(x []float32, width, at int) [][]float64 { return headRows(x, width, at, d, row*seq, seq) }
		for kv := range cfg.KVHeads {
			dK, dV := zero(), zero()
			group := cfg.Heads / cfg.KVHeads
			for h := kv * group; h < (kv+1)*group; h++ {
				at := e.heads(h)
				q, k, v := cut(l.acts.qkv, width, at.q), cut(l.acts.qkv, width, at.k), cut(l.acts.qkv, width, at.v)
				scaleRows(q, scale)
				compare("attention", l.acts.o, query, at.q, scalar.Attend(q, k, v, make([]int, seq)))
				dQ := scalar.AttendBackward(dK, dV, q, k, v, cut(e.dO, query, at.q), make([]int, seq))
				scaleRows(dQ, scale)
				compare("gradient of queries", e.dQKV, width, at.q, dQ)
			}
			at := e.heads(kv * group)
			compare("gradient of keys", e.dQKV, width, at.k, dK)
			compare("gradient of values", e.dQKV, width, at.v, dV)
		}
	}
}

func scaleRows(rows [][]float64, factor float64) {
	for _, x := range rows {
		scalar.Add(x, x, factor-1)
	}
}

func TestRouterAgreesWithTwin(t *testing.T) {
	const tokens = 9
	for _, router := range []string{model.Softmax, model.Sigmoid} {
		for _, norm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s norm %v", router, norm), func(t *testing.T) {
				cfg := named(t, "plain")
				cfg.Experts, cfg.TopK, cfg.Router, cfg.NormTopK = 5, 2, router, norm
				e := opEngine(t, cfg, 1, tokens)
				checkRouter(t, e.layers[0], tokens)
			})
		}
	}
}

func checkRouter(t *testing.T, l *layer, tokens int) {
	cfg, r := l.cfg, &l.acts.routing
	normals(7, r.logits)
	normals(8, l.dWeight)
	var twins []scalar.Routed[float64]
	for i := range tokens {
		l.routeToken(l.pool.workers[0], i)
		twin := scalar.Route(cfg, widen(r.logits[i*cfg.Experts:(i+1)*cfg.Experts]), nil, nil)
		twins = append(twins, twin)
		near(t, "weights", r.weight[i*cfg.TopK:(i+1)*cfg.TopK], twin.Weight, 1e-6)
		for k, e := range twin.Choice {
			if int(r.choice[i*cfg.TopK+k]) != e {
				t.Fatalf("token %d chose %v, twin %v", i, r.choice[i*cfg.TopK:(i+1)*cfg.TopK], twin.Choice)
			}
		}
	}
	l.group()
	balance, z, dShare, dLogSum := scalar.RouterLosses(cfg, twins)
	near(t, "router losses", pair32(l.routerLosses()), []float64{balance, z}, 1e-6)
	scalar.Add(dShare, dShare, float64(tokens)*cfg.BalanceCoef-1)
	for i, twin := range twins {
		l.routeTokenBackward(l.pool.workers[0], i)
		want := scalar.RouteBackward(cfg, twin, widen(l.dWeight[i*cfg.TopK:(i+1)*cfg.TopK]), dShare, float64(tokens)*cfg.ZCoef*dLogSum[i])
		near(t, "gradient of logits", l.dRouter[i*cfg.Experts:(i+1)*cfg.Experts], want, 1e-5)
	}
}

func pair32(a, b float64) []float32 { return []float32{float32(a), float32(b)} }

// TestGroup checks the grouping against its definition, for experts without
// tokens and with more than a block of them too.
func TestGroup(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := named(t, "plain")
		rows, seq := rapid.IntRange(1, 3).Draw(rt, "rows"), rapid.IntRange(1, 2*expertBlock).Draw(rt, "seq")
		n, s := rows*seq, shape{rows, seq}
		l := &layer{Engine: &Engine{cfg: cfg, shape: s}, acts: activations{routing: newRouting(cfg, s)}}
		r := &l.acts.routing
		favourite := rapid.Int32Range(0, int32(cfg.Experts-1)).Draw(rt, "favourite")
		for t := range n {
			other := (favourite + 1 + int32(t)%int32(cfg.Experts-1)) % int32(cfg.Experts)
			r.choice[t*cfg.TopK], r.choice[t*cfg.TopK+1] = favourite, other
		}
		l.group()
		covered := int32(0)
		for _, c := range r.chunks {
			if c.from != covered || c.to <= c.from || c.to-c.from > expertBlock {
				rt.Fatalf("chunks %v do not cover the positions in order", r.chunks)
			}
			covered = c.to
			for at := c.from; at < c.to; at++ {
				pair := r.source[at]
				if r.choice[pair] != c.expert || r.place[pair] != at {
					rt.Fatalf("position %d holds pair %d of expert %d, want %d", at, pair, r.choice[pair], c.expert)
				}
				if at > r.start[c.expert] && r.source[at-1] >= pair {
					rt.Fatalf("pairs %d and %d of expert %d are out of order", r.source[at-1], pair, c.expert)
				}
			}
		}
		if int(covered) != n*cfg.TopK {
			rt.Fatalf("%d of %d pairs are grouped: a token was dropped", covered, n*cfg.TopK)
		}
	})
}

func TestColumnNormsAgreeWithTwin(t *testing.T) {
	e := opEngine(t, named(t, "norm head, untied"), 1, 1)
	e.columnNorms(e.colInv)
	want := scalar.ColumnNorms(widen(e.w.head), e.cfg.Dim)
	for i := range want {
		want[i] = 1 / want[i]
	}
	near(t, "inverse column norms", e.colInv, want, 1e-6)
}
