package serve

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// evalRows is how many sequences are computed at a time.
const evalRows = 8

// evaluator measures the loss of the global parameters on held-out text, in a
// goroutine of its own; a measurement that is not done when the next is due
// makes that one wait for a later occasion. A nil one measures nothing.
type evaluator struct {
	op     *opened
	engine *engine.Engine
	every  int64 // tokens; 0: only at the end
	next   int64 // tokens
	busy   sync.Mutex
	wg     sync.WaitGroup
}

// newEvaluator gives nil where only an island can measure: the model is not ours, or the
// text is not here.
func newEvaluator(op *opened) (*evaluator, error) {
	if !measurable(op.run) {
		return nil, nil
	}
	eng, err := engine.New(op.run.Model.Config, engine.Options{Threads: machine.CPUs(), Kernel: op.kernel})
	if err != nil {
		return nil, fmt.Errorf("making the engine for validation: %w", err)
	}
	e := &evaluator{op: op, engine: eng, every: int64(op.run.Eval.EveryTokens)}
	if e.every > 0 {
		e.next = (op.consumed()/e.every + 1) * e.every
	}
	return e, nil
}

// due starts a measurement when enough tokens have come in since the last.
func (e *evaluator) due(h *host, tokens int64) {
	if e == nil || e.every <= 0 || tokens < e.next {
		return
	}
	e.next = (tokens/e.every + 1) * e.every
	h.syncFX.push(func() {
		if !e.busy.TryLock() {
			return
		}
		params := h.bank.flat(h.bank.theta)
		e.wg.Go(func() {
			defer e.busy.Unlock()
			loss, err := e.loss(params, e.op.run.Eval.Sequences)
			if err != nil {
				h.log.Error("not_evaluated", "err", err)
				return
			}
			h.emit(ledger.Evaluated{At: time.Now(), Tokens: tokens, Loss: loss})
		})
	})
}

// final measures the finished model.
func (e *evaluator) final(params []float32) (float64, error) {
	if e == nil {
		return math.NaN(), nil
	}
	e.busy.Lock()
	defer e.busy.Unlock()
	return e.loss(params, e.op.run.Eval.FinalSequences)
}

// loss is the mean loss of a target token in nats over held-out sequences spread evenly
// over the text; at most as many as there are.
func (e *evaluator) loss(params []float32, sequences int) (float64, error) {
	copy(e.engine.Params(), params)
	seq := e.op.run.Train.SequenceTokens
	windows := e.op.corpus.Valid.Windows(seq)
	count := min(int64(sequences), windows)
	var sum float64
	var tokens int
	for first := int64(0); first < count; first += evalRows {
		rows := int(min(evalRows, count-first))
		batch := make([]int32, rows*(seq+1))
		for r := range rows {
			window := (first + int64(r)) * windows / count
			if err := e.op.corpus.Valid.Window(window, batch[r*(seq+1):(r+1)*(seq+1)]); err != nil {
				return 0, err
			}
		}
		s, n, err := e.engine.Loss(engine.Batch{
			Tokens: batch, Rows: rows,
			Boundaries: e.op.run.Train.DocumentBoundaries, EndToken: corpus.EndOfDocument,
		})
		if err != nil {
			return 0, err
		}
		sum, tokens = sum+s, tokens+n
	}
	if tokens == 0 {
		return math.NaN(), nil
	}
	return sum / float64(tokens), nil
}

// lend gives the engine to somebody else, when no measurement needs it.
func (e *evaluator) lend(use func(*engine.Engine) error) error {
	e.busy.Lock()
	defer e.busy.Unlock()
	return use(e.engine)
}

func (e *evaluator) close() {
	if e == nil {
		return
	}
	e.wg.Wait()
	e.engine.Close()
}

// wait waits for a measurement under way.
func (e *evaluator) wait() {
	if e != nil {
		e.wg.Wait()
	}
}

// asker has the island marked evaluate measure the validation loss, where this process
// cannot. In the middle of a run it measures the weights that it has then, at the end the
// finished model.
type asker struct {
	island string // empty: nobody measures
	every  int64  // tokens; 0: only at the end
	next   int64  // tokens
	silent bool   // it has been said that the island measures nothing
}

func newAsker(op *opened) asker {
	a := asker{island: evaluatorOf(op.run), every: int64(op.run.Eval.EveryTokens)}
	if a.every > 0 {
		a.next = (op.consumed()/a.every + 1) * a.every
	}
	return a
}

// evaluatorOf is the island that measures the validation loss; empty: none does.
func evaluatorOf(run runfile.Run) string {
	if measurable(run) {
		return ""
	}
	for _, i := range run.Islands {
		if i.Evaluate {
			return i.Name
		}
	}
	return ""
}

// due asks the island when enough tokens have come in since the last time, and it is there.
func (a *asker) due(h *host, tokens int64) {
	if a.island == "" || a.every <= 0 || tokens < a.next {
		return
	}
	a.next = (tokens/a.every + 1) * a.every
	if inc := h.crew.incarnation(a.island); inc != 0 {
		h.send(inc, evaluateMessage(tokens, false))
	}
}

func evaluateMessage(tokens int64, last bool) transport.Down {
	return transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Evaluate{Evaluate: &wire.Evaluate{Tokens: uint64(tokens), Last: last}}}}
}

// evaluateLast sends an idle island the finished model and asks for its loss.
func (h *host) evaluateLast(incarnation uint64) {
	tokens := h.tokens
	h.syncFX.push(func() {
		h.seed(incarnation)
		h.send(incarnation, evaluateMessage(tokens, true))
	})
}

// evaluated tells a validation loss that an island has measured.
func (h *host) evaluated(inc uint64, e *wire.Evaluation) {
	island := h.crew.island(inc)
	if island != h.asker.island {
		h.log.Warn("ignored", "island", island, "reason", "it does not measure the validation loss of this run")
		return
	}
	if e.Tokens > 0 {
		h.emit(ledger.Evaluated{At: time.Now(), Tokens: h.tokens, Loss: e.Loss, Island: island, Final: e.Last})
	} else if !h.asker.silent {
		h.asker.silent = true
		h.emit(ledger.Note{At: time.Now(), Text: fmt.Sprintf("island %s measures no validation loss (evaluate= of its mistura.join): it stays as it is", island)})
	}
	if e.Last {
		h.decide(coord.Evaluated{Incarnation: inc})
	}
}

// measurable: this process can measure the validation loss.
func measurable(run runfile.Run) bool { return !run.Model.Foreign() && !run.Data.Own }
