package island

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

// outsiders are the ranks of an external island that joins a script.
type outsiders struct {
	hellos func([]attach.Hello) // changes what they say; nil: nothing
	setup  func(*attachtest.Trainer)
	before func(step uint64) error // each step

	trainer *attachtest.Trainer
	ended   chan error
}

// playOutside is play with two ranks that share the tensors out by rows.
func playOutside(t *testing.T, o *outsiders, change func(*runfile.Run)) *script {
	t.Helper()
	dir, err := os.MkdirTemp("", "i")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	o.ended = make(chan error, 1)
	run, _, _ := tiny(t, change)
	hellos := attachtest.Hellos(namedTensors(run), 2, attachtest.Rows)
	if o.hellos != nil {
		o.hellos(hellos)
	}
	s := start(t, change, func(lost func(error)) *attach.Crew {
		crew, err := attach.Listen(attach.Options{Path: path, Version: "test", Logger: slog.New(slog.NewTextHandler(logTo{t}, nil)), Lost: lost})
		if err != nil {
			t.Fatal(err)
		}
		go o.train(path, run, hellos)
		return crew
	})
	return s
}

func namedTensors(run runfile.Run) (out []attachtest.Tensor) {
	for _, t := range run.Table() {
		out = append(out, attachtest.Tensor{Name: t.Name, Shape: t.Shape, State: t.Kind == model.State})
	}
	return out
}

func (o *outsiders) train(path string, run runfile.Run, hellos []attach.Hello) {
	trainer, err := attachtest.Join(path, patience, hellos...)
	if err == nil {
		defer trainer.Close()
		trainer.Tokens = int64(run.Train.SequenceTokens)
		if o.setup != nil {
			o.setup(trainer)
		}
		err = trainer.Run(o.before)
	}
	o.ended <- err
}

// refused is what the trainer hears in place of an answer.
func (o *outsiders) refused(t *testing.T) attach.Fault {
	t.Helper()
	err := <-o.ended
	var r *attachtest.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("the trainer ended with %v", err)
	}
	return r.Fault
}

// ownData makes the samples of a run the trainer's: tokens, 64 of a usual step.
func ownData(r *runfile.Run) {
	r.Data.Own, r.Data.Paths, r.Gate = true, nil, runfile.GateOff
	r.Islands = []runfile.Island{{Name: "x", Pace: 1, Engine: runfile.External}, {Name: "y", Pace: 1, Engine: runfile.External}}
	r.Exchange.Fragments = 2
}

// leased makes the islands of a run external ones on the run's samples.
func leased(r *runfile.Run) {
	paths := r.Data.Paths
	ownData(r)
	r.Data.Own, r.Data.Paths = false, paths
}

// The whole life of an external island: install, train, contribute, adopt, flush, stop.
func TestLifeOfAnExternalIsland(t *testing.T) {
	o := &outsiders{}
	s := playOutside(t, o, leased)
	expect(s, (*wire.FromLearner).GetReady)
	s.lease(0, 0, 20)
	s.step(5)
	s.call(1)
	c := s.contribution()
	if m := c.GetContribution(); m.Fragment != 1 || m.Sequence != 1 || m.ToPosition != 20 || m.Tokens != 320 || m.Flush {
		t.Errorf("%v", m)
	}
	s.rule(c, wire.Ruling_MERGED)
	s.noMore()
	for flushed := 0; flushed < 2; {
		c := s.contribution()
		if !c.GetContribution().Flush {
			t.Error("it does not say that it flushes")
		}
		flushed++
		s.rule(c, wire.Ruling_MERGED)
		if flushed == 1 && c.GetContribution().Fragment == 0 {
			break // fragment 1 has nothing new
		}
	}
	if idle := expect(s, (*wire.FromLearner).GetIdle); idle.Position != 20 {
		t.Errorf("idle at %d", idle.Position)
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if err := <-o.ended; err != nil {
		t.Error(err)
	}
}

// Own data counts as far as the lease reaches; what the last batch had more is counted
// when the lease grows.
func TestOwnDataPosition(t *testing.T) {
	o := &outsiders{
		hellos: func(hs []attach.Hello) { hs[0].OwnData, hs[1].OwnData = true, true },
		setup:  func(t *attachtest.Trainer) { t.Tokens = 50 }, // of a step
	}
	s := playOutside(t, o, ownData)
	if !s.firstHello.OwnData || s.firstHello.Engine != runfile.External {
		t.Errorf("%v", s.firstHello)
	}
	expect(s, (*wire.FromLearner).GetReady)
	s.lease(0, 0, 120)
	if p := s.step(3); p.Position != 120 || p.Tokens != 120 {
		t.Errorf("after 150 tokens with 120 leased: %v", p)
	}
	s.lease(120, 120, 200)
	if p := s.step(4); p.Position != 200 || p.Tokens != 200 { // 150 trained before, 50 more
		t.Errorf("after 200 tokens with 200 leased: %v", p)
	}
	s.call(0)
	if c := s.contribution().GetContribution(); c.ToPosition != 200 || c.Tokens != 200 {
		t.Errorf("%v", c)
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// Danger: a trainer that does not tell which experts its tokens went to, as an ordinary loop
// does not, gives its experts no weight beside islands that tell, and their training is lost.
func TestExpertsOfATrainerThatDoesNotTell(t *testing.T) {
	s := playOutside(t, &outsiders{}, leased)
	expect(s, (*wire.FromLearner).GetReady)
	s.lease(0, 0, 8)
	s.step(2)
	s.call(0)
	s.call(1)
	mean, experts := uint64(2*64*s.run.Model.TopK/s.run.Model.Experts), 0
	for range 2 {
		m := s.contribution().GetContribution()
		for i, n := range m.TensorTokens {
			want := m.Tokens
			if s.fragments[m.Fragment].Tensors[i].Kind == model.Expert {
				want, experts = mean, experts+1
			}
			if n != want {
				t.Errorf("tensor %s counts %d tokens, want %d", s.fragments[m.Fragment].Tensors[i].Name, n, want)
			}
		}
	}
	if experts == 0 || mean == 0 {
		t.Errorf("%d experts count %d tokens each", experts, mean)
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// Danger: a NaN of the trainer's becomes 0 on its way. Its loss stays NaN; without a
// judge the step was applied, so that the contribution shows it, is refused, and the
// trainer goes on from the syncer's weights.
func TestB1ExternalNaN(t *testing.T) {
	o := &outsiders{setup: func(t *attachtest.Trainer) {
		t.Loss = func(step uint64, loss float64) float64 {
			if step == 2 {
				for _, r := range t.Ranks {
					r.Weights[0][0] = float32(math.NaN())
				}
				return math.NaN()
			}
			return loss
		}
	}}
	s := playOutside(t, o, leased)
	expect(s, (*wire.FromLearner).GetReady)
	s.lease(0, 0, 8)
	if p := s.step(2); !math.IsNaN(p.Loss) || p.Tokens != 128 {
		t.Errorf("%v", p)
	}
	at := slices.IndexFunc(s.fragments, func(f fragment.Fragment) bool { return f.Tensors[0].Offset == 0 })
	s.call(uint32(at))
	c := s.contribution()
	if !slices.ContainsFunc(s.delta(c), func(x float32) bool { return x != x }) {
		t.Error("the contribution is finite")
	}
	s.rule(c, wire.Ruling_REFUSED)
	s.seed()
	s.lease(8, 8, 12)
	if p := s.step(3); math.IsNaN(p.Loss) {
		t.Errorf("after it was seeded anew: %v", p)
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// A step that the trainer asks about is withheld when its loss is a spike, and the
// coordinator hears of it; when its samples spike again it is applied at half the rate.
func TestExternalSpike(t *testing.T) {
	o := &outsiders{setup: func(t *attachtest.Trainer) {
		t.Judged = true
		t.Loss = func(step uint64, _ float64) float64 {
			if step == 6 || step == 7 {
				return 50
			}
			return 2 + float64(step)/100
		}
	}}
	s := playOutside(t, o, func(r *runfile.Run) {
		leased(r)
		r.Spike.Window = 4
	})
	expect(s, (*wire.FromLearner).GetReady)
	s.lease(0, 0, 24)
	spike := expect(s, (*wire.FromLearner).GetSpike)
	if spike.Step != 6 || spike.Position != 20 || spike.Samples != 4 || spike.Verdict != wire.Spiked_WITHHELD || spike.Loss != 50 {
		t.Errorf("%v", spike)
	}
	before := s.step(6)
	if before.Tokens != 5*64 || before.Position != 24 || before.SkippedSteps != 1 {
		t.Errorf("%v", before)
	}
	s.say(&wire.ToLearner{Body: &wire.ToLearner_Lease{Lease: &wire.Lease{More: true, Position: 24, Ranges: []*wire.Range{{From: 20, To: 24, Retry: true}}}}}, nil)
	spike = expect(s, (*wire.FromLearner).GetSpike)
	after := s.step(7)
	if spike.Verdict != wire.Spiked_HALF_RATE || !spike.Retry || after.Tokens != 6*64 || after.Rate >= before.Rate*0.7 {
		t.Errorf("%v, %v", spike, after)
	}
	s.stop()
	if err := s.end(); err != nil {
		t.Error(err)
	}
}

// What the trainer says wrong comes back to it in words that name it.
func TestExternalSaysWrong(t *testing.T) {
	for name, c := range map[string]struct {
		hellos func([]attach.Hello)
		setup  func(*attachtest.Trainer)
		before func(*attachtest.Trainer) error
		want   attach.Fault
	}{
		"tokens of one rank": {
			setup: func(t *attachtest.Trainer) { t.Tokens = 8 },
			want:  attach.Fault{Where: "island.step, tokens", Value: "32", Problem: "the samples of this step have 64: 4 of 16 tokens"},
		},
		"no tokens": {
			setup: func(t *attachtest.Trainer) { t.Tokens = 0 },
			want:  attach.Fault{Where: "island.step, tokens", Value: "0", Problem: "a step trains at least one token"},
		},
		"boundary out of turn": {
			before: func(t *attachtest.Trainer) error {
				_, err := t.Ranks[0].Ask(&attach.Boundary{Step: 7, Applied: true, Tokens: 64})
				return err
			},
			want: attach.Fault{Where: "local protocol", Problem: "boundary of step 7 after 0 steps"},
		},
		"control's word of another rank": {
			before: func(t *attachtest.Trainer) error {
				_, err := t.Ranks[1].Ask(&attach.Again{})
				return err
			},
			want: attach.Fault{Where: "local protocol", Problem: "rank 1 says *attach.Again, which only the control rank says"},
		},
		"adopted what was not there": {
			before: func(t *attachtest.Trainer) error {
				_, err := t.Ranks[1].Ask(&attach.Adopted{Fragment: 1, Version: 9})
				return err
			},
			want: attach.Fault{Where: "local protocol", Problem: "adopted fragment 1 at version 9, which was not there to adopt"},
		},
		"fetch of nothing": {
			before: func(t *attachtest.Trainer) error {
				_, err := t.Ranks[1].Ask(&attach.Fetch{Fragment: 5, Version: 9, Op: attach.Adopt})
				return err
			},
			want: attach.Fault{Where: "local protocol", Problem: "fragment 5 of 2 was asked for"},
		},
		"gathered unasked": {
			before: func(t *attachtest.Trainer) error {
				_, err := t.Ranks[1].Ask(&attach.Gathered{Fragment: 0, Sequence: 4})
				return err
			},
			want: attach.Fault{Where: "local protocol", Problem: "gathered fragment 0 for contribution 4, which was not asked for"},
		},
		"a tensor too many": {
			hellos: func(hs []attach.Hello) {
				hs[0].Tensors = append(hs[0].Tensors, attach.Tensor{Name: "extra.weight", Shape: []int{4}})
			},
			want: attach.Fault{Where: "parameter", Value: "extra.weight"},
		},
		"a layout with a gap": {
			hellos: func(hs []attach.Hello) { hs[1].Pieces = hs[1].Pieces[1:] },
			want:   attach.Fault{Where: "tensor ", Problem: "is in no piece"},
		},
		"own data in a run of samples": {
			hellos: func(hs []attach.Hello) { hs[0].OwnData, hs[1].OwnData = true, true },
			want:   attach.Fault{Where: "own_data", Value: "true"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outsiders{hellos: c.hellos}
			var trainer *attachtest.Trainer
			o.setup = func(t *attachtest.Trainer) {
				if trainer = t; c.setup != nil {
					c.setup(t)
				}
			}
			if c.before != nil {
				o.before = func(uint64) error { return c.before(trainer) }
			}
			s := playOutside(t, o, leased)
			s.lease(0, 0, 20)
			got := o.refused(t)
			if !strings.HasPrefix(got.Where, c.want.Where) || got.Value != c.want.Value || !strings.Contains(got.Problem, c.want.Problem) {
				t.Errorf("the trainer hears %+v", got)
			}
			if err := s.end(); err == nil || !strings.Contains(err.Error(), got.Problem) {
				t.Errorf("the island ends with %v", err)
			}
		})
	}
}

// Danger: the coordinator is gone, and the trainer trains on for nobody.
func TestCoordinatorOfAnExternalIslandIsGone(t *testing.T) {
	o := &outsiders{}
	s := playOutside(t, o, leased)
	s.lease(0, 0, 4000)
	s.step(2)
	s.mu.Lock()
	s.peer.Close("the machine goes down")
	s.mu.Unlock()
	if got := o.refused(t); !strings.Contains(got.Problem, "the machine goes down") {
		t.Errorf("the trainer hears %+v", got)
	}
	if err := s.end(); !errors.Is(err, ErrExpelled) {
		t.Errorf("%v", err)
	}
}

// Danger: a run has closed an island while it was cut off, and its trainer, which has the
// weights, trains on, or hears nothing of what to do.
func TestExternalIslandIsCalledBack(t *testing.T) {
	o := &outsiders{}
	s := playOutside(t, o, leased)
	s.lease(0, 0, 4000)
	s.step(2)
	s.mu.Lock()
	s.peer.Reject("this incarnation is closed: no sign of life for 10s", true)
	s.mu.Unlock()
	got := o.refused(t)
	if got.Problem != "asked to join again: this incarnation is closed: no sign of life for 10s" || !got.Again ||
		!strings.HasPrefix(got.Next, "start the trainer again: it goes on as the next incarnation of island ") { // what to do is said once
		t.Errorf("the trainer hears %+v", got)
	}
	if err := s.end(); err == nil || err.Error() != got.Problem {
		t.Errorf("the island ends with %v", err)
	}
}

// A trainer that says bye hands over what it has trained before it is let go.
func TestExternalLeaves(t *testing.T) {
	o := &outsiders{}
	o.setup = func(tr *attachtest.Trainer) { o.trainer = tr }
	o.before = func(step uint64) error {
		if step == 3 {
			return o.trainer.Ranks[0].Say(&attach.Bye{Reason: "enough"})
		}
		return nil
	}
	s := playOutside(t, o, leased)
	s.lease(0, 0, 4000)
	for range 2 {
		c := s.contribution()
		if m := c.GetContribution(); !m.Flush || m.Tokens == 0 {
			t.Errorf("%v", m)
		}
		s.rule(c, wire.Ruling_MERGED)
	}
	expect(s, (*wire.FromLearner).GetLeaving)
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if err := <-o.ended; err != nil {
		t.Error(err)
	}
}
