package island

import (
	"math"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/wire"
)

// measuring is what an island waits for that measures a validation loss: it may take
// longer than any step, and is none.
const measuring = "its validation loss"

// evaluate has the trainer measure the validation loss, if that was asked for. Weights
// that came before the question are in place first.
func (r *runner) evaluate() {
	ask := r.evaluateAsked
	x, outside := r.learner.trainer.(*external)
	if ask == nil || !outside {
		return
	}
	r.evaluateAsked = nil
	if !r.crew.ranks[0].Hello.Evaluate { // it does not measure
		r.sayLoss(&attach.Validation{Loss: attach.Number(math.NaN()), Step: r.learner.step}, ask.Last)
		return
	}
	r.aside(measuring)
	x.measure(ask.Last)
}

// measure asks the trainer for its validation loss.
func (x *external) measure(last bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.orders = append(x.orders, attach.Action{Do: attach.Evaluate})
	x.asks.order(last)
}

// measured is a validation loss, and what it answers.
type measured struct {
	*attach.Validation
	last bool // it is of the finished model
	left int  // questions that wait for another
}

// validated passes on a validation loss that the trainer has measured.
func (r *runner) validated(m measured) {
	if m.left == 0 {
		r.aside("")
	}
	r.sayLoss(m.Validation, m.last)
}

// unmeasured: a trainer that waits has done what it was told and has not measured; nor will
// it, for it cannot be asked again before it trains. Nobody waits for it any longer.
func (r *runner) unmeasured() {
	r.validated(measured{&attach.Validation{Loss: attach.Number(math.NaN()), Step: r.learner.step}, true, 0})
}

func (r *runner) sayLoss(v *attach.Validation, last bool) {
	r.link.send(&wire.FromLearner{Body: &wire.FromLearner_Evaluation{Evaluation: &wire.Evaluation{
		Step: v.Step, Loss: finiteOr(float64(v.Loss)), Tokens: uint64(max(0, v.Tokens)), StampTokens: uint64(r.learner.clock.stamp), Last: last,
	}}}, nil)
}
