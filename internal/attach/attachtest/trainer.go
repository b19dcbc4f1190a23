package attachtest

import (
	"errors"
	"math"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
)

// Trainer is the ranks of an island in one process, the control rank first.
type Trainer struct {
	Ranks  []*Rank
	Tokens int64 // of a sample; with own data: of a step
	Judged bool  // it asks before it applies a step
	// Validation is the loss that it measures when it is asked; NaN: it measures none.
	Validation float64
	// Loss overrides the loss of a step; nil: nobody does.
	Loss func(step uint64, loss float64) float64

	steps uint64
}

// Join lets all ranks say hello at once and waits for their welcome.
func Join(path string, limit time.Duration, hellos ...attach.Hello) (*Trainer, error) {
	return JoinWith(First, path, limit, hellos...)
}

// JoinWith is Join for a trainer that begins with other weights where it is asked for them.
func JoinWith(first Weights, path string, limit time.Duration, hellos ...attach.Hello) (*Trainer, error) {
	t := &Trainer{Ranks: make([]*Rank, len(hellos))}
	problems := make([]error, len(hellos))
	var wg sync.WaitGroup
	for i, h := range hellos {
		wg.Go(func() {
			conn, err := Open(path, limit)
			if err == nil {
				t.Ranks[i], err = begin(conn, h, first)
			}
			problems[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(problems...); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Close ends all ranks.
func (t *Trainer) Close() {
	for _, r := range t.Ranks {
		if r != nil {
			r.Close()
		}
	}
}

// ErrEnough ends Run from within a step.
var ErrEnough = errors.New("enough")

// Run trains until it is told to stop. Before each step comes is called with its number.
func (t *Trainer) Run(before func(step uint64) error) error {
	b := &attach.Boundary{Applied: true, Loss: attach.Number(math.NaN())}
	var question any = b
	for {
		m, err := t.Ranks[0].Ask(question)
		if err != nil {
			return err
		}
		act, ok := m.(*attach.Act)
		if !ok {
			return errors.New("no act")
		}
		for _, a := range act.Actions {
			if a.Do == attach.Evaluate && math.IsNaN(t.Validation) {
				continue
			}
			if a.Do == attach.Evaluate {
				v := &attach.Validation{Loss: attach.Number(t.Validation), Tokens: 1000, Step: t.steps}
				if err := t.Ranks[0].Say(v); err != nil {
					return err
				}
				continue
			}
			for _, r := range t.Ranks {
				if r.memory == nil {
					continue // it was closed: whoever is left hears of it
				}
				if err := r.do(a, t.steps); err != nil {
					return err
				}
			}
		}
		switch act.Then {
		case attach.Stop:
			return nil
		case attach.Wait:
			question = &attach.Again{}
			continue
		}
		if before != nil {
			if err := before(t.steps + 1); err != nil {
				return err
			}
		}
		if question, err = t.step(act); err != nil {
			return err
		}
	}
}

// step is one step of the model: θ ← θ − rate (θ − target).
func (t *Trainer) step(act *attach.Act) (*attach.Boundary, error) {
	t.steps++
	var loss float64
	var tokens int64
	rate := act.Rate.Or(0)
	for _, s := range act.Samples {
		tokens += int64(s.To - s.From)
	}
	first := uint64(0)
	if len(act.Samples) > 0 {
		first = act.Samples[0].From
	}
	for _, r := range t.Ranks {
		for i, p := range r.Hello.Pieces {
			if p.Replica == 0 {
				loss += Loss(p, r.Weights[i], first)
			}
		}
	}
	if t.Loss != nil {
		loss = t.Loss(t.steps, loss)
	}
	if tokens = tokens * t.Tokens; len(act.Samples) == 0 {
		tokens = t.Tokens
	}
	b := &attach.Boundary{Step: t.steps, Applied: true, Loss: attach.Number(loss), Tokens: tokens, GradientNorm: attach.NumberOf(1)}
	if t.Judged {
		m, err := t.Ranks[0].Ask(&attach.Judge{Loss: b.Loss, GradientNorm: b.GradientNorm})
		if err != nil {
			return nil, err
		}
		v := m.(*attach.Verdict)
		b.Applied, rate = v.Apply, rate*float64(v.Factor)
	}
	b.Rate = attach.NumberOf(rate)
	if !b.Applied {
		return b, nil
	}
	for _, r := range t.Ranks {
		r.State.Steps++
		for i, p := range r.Hello.Pieces {
			Step(p, r.Weights[i], first, rate)
			r.learn(i)
		}
	}
	return b, nil
}
