package gate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Verdict is what came out at the gate, and how near it was.
type Verdict struct {
	Passed   bool    `json:"passed"`
	Declared string  `json:"number_format"` // of the learner
	Reason   string  `json:"reason"`        // one sentence
	Loss     Compare `json:"loss"`
	// Worst is the tensor whose gradient uses most of its bound; First and Last are the
	// first and the last one outside in model order, of Outside. A gradient comes down from
	// the loss: what is wrong in a layer spoils those before it, and the one nearest to
	// the loss is where to look.
	Worst   Compare  `json:"worst"`
	First   *Compare `json:"first_outside,omitempty"`
	Last    *Compare `json:"last_outside,omitempty"`
	Outside int      `json:"outside"`
	// OtherChoices is the share of experts that the learner would have chosen otherwise;
	// nil: unknown. It decides nothing.
	OtherChoices *float64 `json:"other_choices,omitempty"`
}

// Compare is one comparison: relative errors. The gradient's Error is an estimate;
// AtLeast is what it is at the least, and that is held against Bound.
type Compare struct {
	Name    string  `json:"name"`
	Error   float64 `json:"error"`
	AtLeast float64 `json:"at_least"`
	Bound   float64 `json:"bound"`

	givers string // of the answer's gradient, in words
}

// Ratio is how much of the bound is used; above 1 it is outside, as is everything when the
// error or the bound is no number.
func (c Compare) Ratio() float64 {
	if r := c.AtLeast / c.Bound; !math.IsNaN(r) {
		return r
	}
	return math.Inf(1)
}

// Judge compares an answer with the record that it answers. An answer to something else
// is an error. Own is what the answer's number format costs a trusted engine on this
// probe; nil: nobody knows, and fixed bounds stand in.
func Judge(reference, answer Record, own *Own) (Verdict, error) {
	if err := reference.matches(answer); err != nil {
		return Verdict{}, err
	}
	v := Verdict{Passed: true, Declared: answer.Number, OtherChoices: otherChoices(reference, answer)}
	v.Loss = Compare{Name: "loss", Error: relative(math.Abs(answer.Loss-reference.Loss), math.Abs(reference.Loss)), Bound: lossBound(reference.Number, answer.Number, own)}
	v.Loss.AtLeast = v.Loss.Error
	whole := 0.0
	for _, t := range reference.Tensors {
		whole += t.Squares
	}
	floor, sure := gradientFloor*math.Sqrt(whole), certainty(len(reference.Tensors))
	for i, t := range reference.Tensors {
		c := compare(t.Sketch(), answer.Tensors[i].Sketch(), floor, sure)
		c.Name, c.Bound, c.givers = t.Name, gradientBound(reference.Number, answer.Number, own, i), answer.Tensors[i].givers()
		if i == 0 || c.Ratio() > v.Worst.Ratio() {
			v.Worst = c
		}
		if c.Ratio() > 1 {
			if v.First == nil {
				v.First = &c
			}
			v.Last = &c
			v.Outside++
		}
	}
	v.Passed = v.Outside == 0 && v.Loss.Ratio() <= 1
	v.Reason = v.reason(len(reference.Tensors))
	return v, nil
}

// Asks says whether an answer is to the record's probe.
func (r Record) Asks(answer Record) bool {
	p, a := r.Probe, answer.Probe
	return answer.Seed == r.Seed && answer.Weights == r.Weights && a.Rows == p.Rows && a.Boundaries == p.Boundaries && a.EndToken == p.EndToken && slices.Equal(a.Tokens, p.Tokens)
}

// matches says why an answer is not one to this record.
func (r Record) matches(answer Record) error {
	if !r.Asks(answer) {
		return errors.New("the answer is to another probe")
	}
	if len(answer.Tensors) != len(r.Tensors) {
		return fmt.Errorf("the answer has gradients of %d tensors, the model has %d", len(answer.Tensors), len(r.Tensors))
	}
	for i, t := range r.Tensors {
		if answer.Tensors[i].Name != t.Name {
			return fmt.Errorf("the answer has a gradient of %q where the model has %q", answer.Tensors[i].Name, t.Name)
		}
	}
	return nil
}

// compare estimates the relative error of a gradient. Its length alone bounds the error
// from below, with certainty: ‖a − b‖ ≥ |‖a‖ − ‖b‖|. The projections of the
// difference estimate its length, and do so too high by more than the factor sure only
// as rarely as FalseAlarms says. What is below the floor is rounding.
func compare(want, got Sketch, floor, sure float64) Compare {
	var squares float64
	for j, p := range want.Along {
		d := got.Along[j] - p
		squares += d * d
	}
	estimate, gap := math.Sqrt(squares/Projections), math.Abs(got.Norm()-want.Norm())
	scale := max(want.Norm(), floor/exactGradient)
	return Compare{Error: relative(max(estimate, gap), scale), AtLeast: relative(max(estimate/sure, gap), scale)}
}

// relative is a/b, and 0 where both are.
func relative(a, b float64) float64 {
	if a == 0 {
		return 0
	}
	return min(a/b, math.MaxFloat64)
}

// otherChoices is the share of the record's choices that the answer's own do not hold
// for the same input.
func otherChoices(r, answer Record) *float64 {
	inputs, all, other := r.Probe.Inputs(), 0, 0
	if len(answer.Choices) != len(r.Choices) {
		return nil
	}
	for l, list := range r.Choices {
		own := answer.Choices[l]
		if len(own) != len(list) {
			return nil
		}
		k := len(list) / inputs
		for i, c := range list {
			if at := i / k * k; !slices.Contains(own[at:at+k], c) {
				other++
			}
		}
		all += len(list)
	}
	if all == 0 {
		return nil
	}
	share := float64(other) / float64(all)
	return &share
}

// reason is the verdict in one sentence.
func (v Verdict) reason(tensors int) string {
	switch {
	case v.Passed:
		return fmt.Sprintf("computes the same model in %s: its loss is off by %s where %s is allowed, the gradient nearest to its bound, of %s, by %s where %s is",
			v.Declared, percent(v.Loss.Error), percent(v.Loss.Bound), v.Worst.Name, percent(v.Worst.Error), percent(v.Worst.Bound))
	case v.First == nil:
		return fmt.Sprintf("does not compute the same model: the loss is off by %s, %s allows %s; every gradient is within its bound",
			percent(v.Loss.Error), v.Declared, percent(v.Loss.Bound))
	}
	f := v.First
	s := fmt.Sprintf("does not compute the same model: the gradient of tensor %s%s is off by about %s (at least %s, %s times what %s allows)",
		f.Name, f.givers, percent(f.Error), percent(f.AtLeast), twoDigits(f.Ratio()), v.Declared)
	if v.Outside > 1 {
		s += fmt.Sprintf(", and %d of %d tensors are outside, the one nearest to the loss being %s", v.Outside, tensors, v.Last.Name)
	}
	if v.Loss.Ratio() > 1 {
		s += fmt.Sprintf("; the loss is off by %s, where %s is allowed", percent(v.Loss.Error), percent(v.Loss.Bound))
	}
	if v.Declared == FP32 && 2*v.Outside > tensors && v.Worst.Error < likeRounding {
		s += "; all of it looks like rounding: an island that computes in another number format has to say in which"
	}
	return s
}

// likeRounding is an error that a format of few bits may make on every tensor.
const likeRounding = 0.3

// percent reads "0.1 %".
func percent(x float64) string { return twoDigits(100*x) + " %" }

// twoDigits is a number to two digits, and to all in front of the point.
func twoDigits(x float64) string {
	if x >= 100 && x < 1e6 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 2, 64)
}
