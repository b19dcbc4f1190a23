package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/runfile"
)

// arm is one way to begin.
type arm struct {
	name string
	join func(l *learner, peer, checkpoint moments) // nil: nobody joins
}

// arms are what is compared; the first is what the others are compared with.
func arms() []arm {
	return []arm{
		{"zero, rate rises", func(l *learner, _, _ moments) { l.joined = 0 }},
		{"zero, full rate", func(*learner, moments, moments) {}},
		{"a peer's, as they are", func(l *learner, peer, _ moments) { l.give(peer) }},
		{"a peer's, of a checkpoint", func(l *learner, _, checkpoint moments) { l.give(checkpoint) }},
		{"nobody joins", nil},
	}
}

// row is one arm of one seed. Losses are validation losses of the fleet's weights in
// nats: behind so many steps of an island since the joining, and of the finished run.
type row struct {
	Seed    uint64          `json:"seed"`
	Arm     string          `json:"arm"`
	Before  float64         `json:"before"`
	After   map[int]float64 `json:"after_steps"`
	Final   float64         `json:"final"`
	Joiner  float64         `json:"joiner_train_loss"` // mean of its first 50 steps
	Held    int             `json:"held_steps"`        // by the spike rule, since the joining
	Seconds float64         `json:"seconds"`
}

// looks are the steps behind the joining at which the loss is measured.
var looks = []int{6, 12, 24, 48, 96}

const (
	lookSequences  = 64
	finalSequences = 256
	joinerSteps    = 50
)

// seed computes the arms that are not done; keep takes each row as it comes.
func (s setting) seed(seed uint64, text *corpus.Set, done []row, keep func(row) error) error {
	missing := slices.DeleteFunc(arms(), func(a arm) bool {
		return slices.ContainsFunc(done, func(r row) bool { return r.Seed == seed && r.Arm == a.name })
	})
	if len(missing) == 0 {
		return nil
	}
	r := runfile.Default()
	r.Seed, r.Tokens = seed, runfile.Count(s.tokens)
	r.Islands = slices.Repeat([]runfile.Island{{Pace: 1}}, s.islands+1)
	r, err := r.Resolve()
	if err != nil {
		return err
	}
	e, err := engine.New(r.Model.Config, engine.Options{Threads: s.threads})
	if err != nil {
		return err
	}
	defer e.Close()
	base := newFleet(r, e, corpus.NewOrder(seed, text.Train.Windows(r.Train.SequenceTokens)), s.islands, s.threads)
	checkpoint, err := s.approach(base, text)
	if err != nil {
		return err
	}
	for _, a := range missing {
		row, err := s.measure(a, base.clone(s.threads), checkpoint, text)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		row.Seed = seed
		fmt.Printf("seed %d, %s: %.4f before, %v after, %.4f at the end, %d steps held, %.0f s\n", seed, a.name, row.Before, row.After, row.Final, row.Held, row.Seconds)
		if err := keep(row); err != nil {
			return err
		}
	}
	return nil
}

// approach trains until the joining and keeps the moments that the last checkpoint
// before it holds of the first island.
func (s setting) approach(f *fleet, text *corpus.Set) (checkpoint moments, err error) {
	steps := int(s.joinAt / (int64(s.islands) * f.run.StepTokens()))
	for n := range steps {
		if n == steps-s.checkFrom {
			checkpoint = f.learners[0].moments()
		}
		if err := f.advance(text); err != nil {
			return checkpoint, err
		}
	}
	return checkpoint, nil
}

// measure lets the joiner join and the run end.
func (s setting) measure(a arm, f *fleet, checkpoint moments, text *corpus.Set) (row, error) {
	began := time.Now()
	out := row{Arm: a.name, After: map[int]float64{}}
	var err error
	if out.Before, err = f.evaluate(text, lookSequences); err != nil {
		return out, err
	}
	peer := f.learners[0].moments()
	if a.join != nil {
		l := newLearner(f.run, f, f.weights(), s.threads)
		a.join(l, peer, checkpoint)
		f.learners = append(f.learners, l)
	}
	held := f.held()
	for n := 1; f.tokens < s.tokens; n++ {
		if err := f.advance(text); err != nil {
			return out, err
		}
		if slices.Contains(looks, n) {
			if out.After[n], err = f.evaluate(text, lookSequences); err != nil {
				return out, err
			}
		}
	}
	if out.Final, err = f.evaluate(text, finalSequences); err != nil {
		return out, err
	}
	out.Held, out.Joiner = f.held()-held, mean(f.learners[len(f.learners)-1].losses, joinerSteps)
	out.Seconds = time.Since(began).Seconds()
	return out, nil
}

func (f *fleet) held() int {
	n := 0
	for _, l := range f.learners {
		n += l.held
	}
	return n
}
