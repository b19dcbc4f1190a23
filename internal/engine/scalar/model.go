package scalar

import (
	"strconv"

	"github.com/mistura-project/mistura/internal/model"
)

// Model is a whole model with its gradients.
type Model[F Float] struct {
	Config model.Config
	Params []F // in model order
	Grads  []F // Run adds to them

	// HeadNorms, when not nil, are NormHead's divisors instead of the norms of the
	// head as it is: what "detached" means to finite differences.
	HeadNorms []F

	// Observe, when not nil, is given every intermediate tensor of a forward pass.
	Observe Observer[F]

	tensors map[string]model.Tensor
}

// Batch is what Run computes: Rows sequences of len(Tokens)/Rows tokens, each token
// but the last of a sequence predicting the next.
type Batch struct {
	Tokens []int32
	Rows   int

	// With Boundaries a token equal to EndToken is the last of its document: the
	// next one is at position 0 again and sees nothing before itself, and what
	// EndToken itself predicts does not count.
	Boundaries bool
	EndToken   int32

	Choices Choices // imposed unless nil

	Warmup *Warmup // nil: the routers see their logits as they are
}

// Warmup is the noise of a routing warm-up: a router sees alpha·logit + (1-alpha)·(mean
// + deviation·eps), mean and deviation those of the tensor router_stats or, where that
// holds no variance, of all of the sequence's logits. No gradient flows through them.
type Warmup struct {
	Alpha float64
	Eps   func(row, layer, token, expert int) float64
}

// Choices are expert choices by layer: TopK for each input, one behind the other.
// Dense layers have none.
type Choices [][]int32

// Result is what one batch came to.
type Result[F Float] struct {
	Loss    F   // cross-entropy, summed over target tokens
	Tokens  int // target tokens
	Balance F   // summed over sequences and MoE layers
	Z       F   // likewise
	Total   F   // what the gradient is of: Loss + Σ n·(BalanceCoef·Balance + ZCoef·Z), n a sequence's target tokens
	Choices Choices
}

// NewModel gives a model with copies of params.
func NewModel[F, G Float](c model.Config, params []G) *Model[F] {
	m := &Model[F]{Config: c, tensors: map[string]model.Tensor{}}
	for _, t := range c.Tensors() {
		m.tensors[t.Name] = t
	}
	m.Params, m.Grads = make([]F, len(params)), make([]F, len(params))
	for i, x := range params {
		m.Params[i] = F(x)
	}
	return m
}

// weight gives a tensor and its gradient.
func (m *Model[F]) weight(name string) (w, dW []F) {
	t, ok := m.tensors[name]
	if !ok {
		panic("scalar: no tensor " + name)
	}
	end := t.Offset + t.Size()
	return m.Params[t.Offset:end], m.Grads[t.Offset:end]
}

// Run computes the losses of a batch, and with backward set adds the gradient of
// Total to Grads.
func (m *Model[F]) Run(b Batch, backward bool) Result[F] {
	width := len(b.Tokens) / b.Rows
	r := Result[F]{Choices: make(Choices, m.Config.Layers)}
	for row := range b.Rows {
		s := &sequence[F]{m: m, batch: b, row: row, first: row * (width - 1), tokens: b.Tokens[row*width : (row+1)*width]}
		s.findDocuments()
		s.forward()
		if m.Observe != nil {
			s.observe(row, m.Observe)
		}
		if backward {
			s.backward()
		}
		r.add(m.Config, s)
	}
	return r
}

func (r *Result[F]) add(c model.Config, s *sequence[F]) {
	r.Tokens += s.targets
	r.Loss += s.loss
	r.Total += s.loss
	for l, tape := range s.layers {
		if c.Dense(l) {
			continue
		}
		for _, token := range tape.routed {
			for _, e := range token.Choice {
				r.Choices[l] = append(r.Choices[l], int32(e))
			}
		}
		balance, z, _, _ := RouterLosses(c, tape.routed)
		r.Balance += balance
		r.Z += z
		r.Total += F(s.targets) * (F(c.BalanceCoef)*balance + F(c.ZCoef)*z)
	}
}

// sequence is one sequence on its way through the model.
type sequence[F Float] struct {
	m      *Model[F]
	batch  Batch
	row    int // number in the batch
	first  int // number of its first input among those of the batch
	tokens []int32

	document []int  // of each input, counted from 0
	position []int  // of each input in its document
	counts   []bool // whether the loss of each input does
	targets  int    // how many do

	layers  []*layerTape[F]
	x       [][]F // output of the last layer
	final   [][]F
	head    []F // columns divided by norms when NormHead
	norms   []F
	loss    F
	dLogits [][]F
}

// findDocuments says of each input where in which document it is.
func (s *sequence[F]) findDocuments() {
	document, position := 0, 0
	for _, token := range s.tokens[:len(s.tokens)-1] {
		ends := s.batch.Boundaries && token == s.batch.EndToken
		s.document, s.position = append(s.document, document), append(s.position, position)
		s.counts = append(s.counts, !ends)
		position++
		if ends {
			document, position = document+1, 0
		} else {
			s.targets++
		}
	}
}

func (s *sequence[F]) forward() {
	c := s.m.Config
	embedding, _ := s.m.weight("embedding")
	for _, t := range s.tokens[:len(s.tokens)-1] {
		s.x = append(s.x, append([]F(nil), embedding[int(t)*c.Dim:(int(t)+1)*c.Dim]...))
	}
	for l := range c.Layers {
		tape := &layerTape[F]{s: s, layer: l, prefix: "layers." + strconv.Itoa(l) + "."}
		s.layers = append(s.layers, tape)
		s.x = tape.forward(s.x)
	}
	s.forwardHead()
}

// headName is the tensor that makes logits.
func (s *sequence[F]) headName() string {
	if s.m.Config.TiedEmbeddings {
		return "embedding"
	}
	return "head"
}

func (s *sequence[F]) forwardHead() {
	c := s.m.Config
	gain, _ := s.m.weight("norm")
	s.head, _ = s.m.weight(s.headName())
	if c.NormHead {
		s.norms = s.m.HeadNorms
		if s.norms == nil {
			s.norms = ColumnNorms(s.head, c.Dim)
		}
		s.head = NormHead(s.head, s.norms)
	}
	for t, x := range s.x {
		h := RMSNorm(gain, x, c.NormEps)
		loss, d := CrossEntropy(Linear(s.head, h, c.Vocab), int(s.tokens[t+1]))
		if !s.counts[t] {
			loss, d = 0, make([]F, c.Vocab)
		}
		s.final, s.dLogits = append(s.final, h), append(s.dLogits, d)
		s.loss += loss
	}
}

func (s *sequence[F]) backward() {
	c := s.m.Config
	gain, dGain := s.m.weight("norm")
	_, dHead := s.m.weight(s.headName())
	dScaled := make([]F, len(dHead))
	dX := make([][]F, len(s.x))
	for t := range s.x {
		dH := LinearBackward(dScaled, s.head, s.final[t], s.dLogits[t])
		dX[t] = RMSNormBackward(dGain, gain, s.x[t], c.NormEps, dH)
	}
	for i, g := range dScaled {
		if c.NormHead {
			g /= s.norms[i%c.Dim]
		}
		dHead[i] += g
	}
	for l := range s.layers {
		dX = s.layers[len(s.layers)-1-l].backward(dX)
	}
	_, dEmbedding := s.m.weight("embedding")
	for t, d := range dX {
		Add(dEmbedding[int(s.tokens[t])*c.Dim:][:c.Dim], d, 1)
	}
}
