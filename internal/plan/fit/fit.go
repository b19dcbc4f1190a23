package fit

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/mistura-project/mistura/internal/plan"
)

// Free is a constant that is fitted. Fitting works on logarithms: Loose is by how
// much one may leave its first value before that counts like a typical error of a run.
type Free struct {
	Name      string
	First     float64
	Loose     float64
	Low, High float64
}

// Observation is something measured that the model predicts too.
type Observation interface {
	off(k plan.Constants) float64 // logarithm of predicted over measured time
}

const (
	typical = 0.08 // error of a run, as a logarithm
	robust  = 2.0  // typical errors beyond which a run pulls no harder
	rounds  = 200
)

// Fit moves the free constants so that the samples are met: Gauss-Newton with damping
// on Huber's loss (Huber, 1964), each constant held to its first value by a prior.
func Fit(samples []Observation, k plan.Constants, free []Free) plan.Constants {
	at := make([]float64, len(free))
	for i, f := range free {
		at[i] = math.Log(f.First)
	}
	return fitFrom(samples, k, free, at, rounds)
}

func fitFrom(samples []Observation, k plan.Constants, free []Free, at []float64, rounds int) plan.Constants {
	damping := 1e-3
	now := apply(k, free, at)
	loss := total(samples, now, free, at)
	for range rounds {
		step := direction(samples, k, free, at, damping)
		next := make([]float64, len(at))
		for i, f := range free {
			next[i] = min(max(at[i]+step[i], math.Log(f.Low)), math.Log(f.High))
		}
		tried := apply(k, free, next)
		l := total(samples, tried, free, next)
		if l >= loss {
			if damping *= 8; damping > 1e6 {
				break
			}
			continue
		}
		done := loss-l < 1e-5*loss
		at, now, loss, damping = next, tried, l, damping/4
		if done {
			break
		}
	}
	return now
}

func apply(k plan.Constants, free []Free, at []float64) plan.Constants {
	var some []plan.Constant
	for i, f := range free {
		some = append(some, plan.Constant{Name: f.Name, Value: math.Exp(at[i])})
	}
	return k.With(some...)
}

// total is the loss.
func total(samples []Observation, k plan.Constants, free []Free, at []float64) float64 {
	sum := 0.0
	for _, s := range samples {
		if e := math.Abs(s.off(k)) / typical; e > robust {
			sum += robust * (2*e - robust)
		} else {
			sum += e * e
		}
	}
	for i, f := range free {
		e := (at[i] - math.Log(f.First)) / f.Loose
		sum += e * e
	}
	return sum
}

// direction solves for a step.
func direction(samples []Observation, k plan.Constants, free []Free, at []float64, damping float64) []float64 {
	n := len(free)
	base := apply(k, free, at)
	residual := make([]float64, len(samples))
	for i, s := range samples {
		residual[i] = s.off(base)
	}
	slopes := make([][]float64, n)
	const nudge = 1e-3
	for j := range free {
		moved := append([]float64(nil), at...)
		moved[j] += nudge
		shifted := apply(k, free, moved)
		slopes[j] = make([]float64, len(samples))
		for i, s := range samples {
			slopes[j][i] = (s.off(shifted) - residual[i]) / nudge
		}
	}
	normal, right := mat.NewSymDense(n, nil), mat.NewVecDense(n, nil)
	for j := range free {
		for l := j; l < n; l++ {
			sum := 0.0
			for i := range samples {
				sum += pull(residual[i]) * slopes[j][i] * slopes[l][i]
			}
			normal.SetSym(j, l, sum/(typical*typical))
		}
		sum := 0.0
		for i := range samples {
			sum -= pull(residual[i]) * slopes[j][i] * residual[i]
		}
		prior := 1 / (free[j].Loose * free[j].Loose)
		right.SetVec(j, sum/(typical*typical)-prior*(at[j]-math.Log(free[j].First)))
		normal.SetSym(j, j, (normal.At(j, j)+prior)*(1+damping))
	}
	for j, f := range free {
		if out := right.AtVec(j); at[j] >= math.Log(f.High) && out > 0 || at[j] <= math.Log(f.Low) && out < 0 {
			hold(normal, right, j)
		}
	}
	var factor mat.Cholesky
	step := mat.NewVecDense(n, nil)
	if !factor.Factorize(normal) || factor.SolveVecTo(step, right) != nil {
		return step.RawVector().Data
	}
	return step.RawVector().Data
}

// hold leaves a constant where it is: at its bound, which it would pass.
func hold(normal *mat.SymDense, right *mat.VecDense, j int) {
	for l := range right.Len() {
		normal.SetSym(j, l, 0)
	}
	normal.SetSym(j, j, 1)
	right.SetVec(j, 0)
}

// pull is the weight of a run by its error.
func pull(residual float64) float64 {
	if e := math.Abs(residual) / typical; e > robust {
		return robust / e
	}
	return 1
}
