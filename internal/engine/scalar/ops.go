package scalar

import (
	"math"
	"slices"
)

// Float is what a twin computes in.
type Float interface{ ~float32 | ~float64 }

func exp[F Float](x F) F  { return F(math.Exp(float64(x))) }
func log[F Float](x F) F  { return F(math.Log(float64(x))) }
func sqrt[F Float](x F) F { return F(math.Sqrt(float64(x))) }

// Dot is the inner product.
func Dot[F Float](a, b []F) F {
	sum := F(0)
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// Add is y += scale·x.
func Add[F Float](y, x []F, scale F) {
	for i := range x {
		y[i] += scale * x[i]
	}
}

// Linear is y = W·x for W [len(y), len(x)].
func Linear[F Float](w, x []F, out int) []F {
	y := make([]F, out)
	for i := range y {
		y[i] = Dot(w[i*len(x):(i+1)*len(x)], x)
	}
	return y
}

// LinearBackward is the gradient of Linear.
func LinearBackward[F Float](dW, w, x, dY []F) (dX []F) {
	dX = make([]F, len(x))
	for i, g := range dY {
		for j := range x {
			dW[i*len(x)+j] += g * x[j]
			dX[j] += g * w[i*len(x)+j]
		}
	}
	return dX
}

// RMSNorm is y = gain·x/√(mean x² + eps).
func RMSNorm[F Float](gain, x []F, eps float64) []F {
	root := rootMeanSquare(x, eps)
	y := make([]F, len(x))
	for i := range x {
		y[i] = gain[i] * x[i] / root
	}
	return y
}

func rootMeanSquare[F Float](x []F, eps float64) F { return sqrt(Dot(x, x)/F(len(x)) + F(eps)) }

// RMSNormBackward is the gradient of RMSNorm.
func RMSNormBackward[F Float](dGain, gain, x []F, eps float64, dY []F) (dX []F) {
	root := rootMeanSquare(x, eps)
	sum := F(0)
	for i := range x {
		dGain[i] += dY[i] * x[i] / root
		sum += dY[i] * gain[i] * x[i]
	}
	dX = make([]F, len(x))
	for i := range x {
		dX[i] = dY[i]*gain[i]/root - x[i]*sum/(root*root*root*F(len(x)))
	}
	return dX
}

// Rotate turns the pairs (i, i+turned/2) of one head's first elements by
// position·theta^(-2i/turned).
func Rotate[F Float](x []F, turned, position int, theta float64) []F {
	half := turned / 2
	y := append([]F(nil), x...)
	for i := range half {
		angle := float64(position) * math.Pow(theta, -2*float64(i)/float64(turned))
		c, s := F(math.Cos(angle)), F(math.Sin(angle))
		y[i], y[i+half] = x[i]*c-x[i+half]*s, x[i+half]*c+x[i]*s
	}
	return y
}

// RotateBackward is the gradient of Rotate: a turn the other way.
func RotateBackward[F Float](dY []F, turned, position int, theta float64) []F {
	return Rotate(dY, turned, -position, theta)
}

// Softmax is exp(x)/Σ exp(x), and the log of the denominator.
func Softmax[F Float](x []F) (p []F, logSum F) {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	p, sum := make([]F, len(x)), F(0)
	for i, v := range x {
		p[i] = exp(v - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p, top + log(sum)
}

// SoftmaxBackward is the gradient of Softmax, p being its output.
func SoftmaxBackward[F Float](p, dP []F) (dX []F) {
	shift := Dot(p, dP)
	dX = make([]F, len(p))
	for i := range p {
		dX[i] = p[i] * (dP[i] - shift)
	}
	return dX
}

// Sigmoid is 1/(1+exp(-x)).
func Sigmoid[F Float](x F) F { return 1 / (1 + exp(-x)) }

// SwiGLU is silu(gate)·up.
func SwiGLU[F Float](gate, up []F) []F {
	y := make([]F, len(gate))
	for i, g := range gate {
		y[i] = g * Sigmoid(g) * up[i]
	}
	return y
}

// SwiGLUBackward is the gradient of SwiGLU.
func SwiGLUBackward[F Float](gate, up, dY []F) (dGate, dUp []F) {
	dGate, dUp = make([]F, len(gate)), make([]F, len(up))
	for i, g := range gate {
		s := Sigmoid(g)
		dGate[i] = dY[i] * up[i] * (s + g*s*(1-s))
		dUp[i] = dY[i] * g * s
	}
	return dGate, dUp
}

// CrossEntropy is -log softmax(logits)[target] and its gradient.
func CrossEntropy[F Float](logits []F, target int) (loss F, dLogits []F) {
	p, logSum := Softmax(logits)
	loss = logSum - logits[target]
	p[target]--
	return loss, p
}

// Attend is causal attention of one head within documents: o[t] = Σ softmax(q·k/√d)·v[s]
// over the s ≤ t of the same document.
func Attend[F Float](q, k, v [][]F, document []int) [][]F {
	o := make([][]F, len(q))
	for t := range q {
		o[t] = make([]F, len(v[t]))
		from := slices.Index(document, document[t])
		for s, p := range attentionWeights(q[t], k[from:t+1]) {
			Add(o[t], v[from+s], p)
		}
	}
	return o
}

func attentionWeights[F Float](q []F, k [][]F) []F {
	scores := make([]F, len(k))
	for s := range k {
		scores[s] = Dot(q, k[s]) / sqrt(F(len(q)))
	}
	p, _ := Softmax(scores)
	return p
}

// AttendBackward is the gradient of Attend. It adds to dK and dV, which heads may
// share.
func AttendBackward[F Float](dK, dV, q, k, v, dO [][]F, document []int) (dQ [][]F) {
	dQ = make([][]F, len(q))
	for t := range q {
		from := slices.Index(document, document[t])
		p := attentionWeights(q[t], k[from:t+1])
		dP := make([]F, len(p))
		for s := range p {
			dP[s] = Dot(dO[t], v[from+s])
			Add(dV[from+s], dO[t], p[s])
		}
		dQ[t] = make([]F, len(q[t]))
		for s, d := range SoftmaxBackward(p, dP) {
			d /= sqrt(F(len(q[t])))
			Add(dQ[t], k[from+s], d)
			Add(dK[from+s], q[t], d)
		}
	}
	return dQ
}

// normHeadEps is added to column norms.
const normHeadEps = 1e-7

// ColumnNorms is the L2 norm of each column of the head [vocab, dim] plus 1e-7.
func ColumnNorms[F Float](head []F, dim int) []F {
	norms := make([]F, dim)
	for d := range norms {
		sum := F(0)
		for i := d; i < len(head); i += dim {
			sum += head[i] * head[i]
		}
		norms[d] = sqrt(sum) + normHeadEps
	}
	return norms
}

// NormHead is a copy of the head with each column divided by its norm. The norm
// is detached: the gradient of the head is that of the copy over the norms.
func NormHead[F Float](head, norms []F) []F {
	scaled := make([]F, len(head))
	for i, x := range head {
		scaled[i] = x / norms[i%len(norms)]
	}
	return scaled
}
