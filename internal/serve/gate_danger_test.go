package serve_test

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// Danger: whoever is at the gate is killed there, and everybody waits for its answer, or half a
// record stays. The trainer's rank, the island's process: the next life answers, and the run ends
// with the plain loop's weights.
func TestKilledAtTheGate(t *testing.T) {
	for _, who := range []string{"rank", "process"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			run, weights := strangers(t)
			began := make(chan *trial, 1)
			lives := 0
			o := &outside{run: run, world: 1, layout: attachtest.Replicated, probe: true, answer: func(r *attachtest.Rank) *attach.Gated {
				if lives++; lives > 1 {
					return attachtest.Honest(r)
				}
				if c := <-began; who == "process" {
					c.signal("only", 1, unix.SIGKILL)
					<-c.dead("only", 1)
				} else {
					r.Close()
				}
				return nil
			}}
			c := trainOutside(t, folder(t), o)
			began <- c
			c.finish()
			within(t, "the end of the trainer", o.done)
			records := gates(t, c.dir)
			if len(records) != 1 || records[0].Outcome != coord.GateRecorded || records[0].Incarnation != 2 || o.ends[0] == nil {
				t.Errorf("%+v, the trainers ended with %v", records, o.ends)
			}
			if gone := recorded[ledger.IslandGone](c); len(gone) == 0 || gone[0].Kind != ledger.Died || gone[0].Reason == "" {
				t.Errorf("%+v", gone)
			}
			sameBits(t, "final weights", saved(t, c.dir, "model.safetensors", run), plainFrom(run, weights).weights)
		})
	}
}

// Danger: the coordinator is killed while its first island is at the gate, and what it leaves is
// taken for a record, or for a run that can go on. It leaves nothing: the trainer hears that it
// is over, a resume is refused in words, and the run begins anew.
func TestCoordinatorIsKilledAtTheFirstGate(t *testing.T) {
	run, weights := strangers(t)
	dir, atGate, over := folder(t), make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(over) })
	defer release()
	o := &outside{run: run, world: 1, layout: attachtest.Replicated, probe: true, answer: func(r *attachtest.Rank) *attach.Gated {
		close(atGate)
		<-over
		return attachtest.Honest(r)
	}}
	c := trainOutside(t, dir, o)
	within(t, "the question", atGate)
	c.stop()
	if _, err := c.wait(); err == nil {
		t.Error("it has ended in order")
	}
	release()
	within(t, "the end of the trainer", o.done)
	if len(o.ends) != 1 || o.ends[0] == nil {
		t.Errorf("the trainer ended with %v", o.ends)
	}
	if _, err := os.Stat(filepath.Join(dir, "gate", "record.json")); !errors.Is(err, fs.ErrNotExist) || len(gates(t, dir)) != 0 {
		t.Errorf("there is a record: %v, %+v", err, gates(t, dir))
	}
	if _, err := begin(t, dir, run, true, nil).wait(); !errors.Is(err, store.ErrNoCheckpoint) {
		t.Errorf("it goes on: %v", err)
	}
	o = &outside{run: run, world: 1, layout: attachtest.Replicated, probe: true}
	c = trainOutside(t, folder(t), o)
	c.finish()
	o.ended(t)
	if records := gates(t, c.dir); len(records) != 1 || records[0].Outcome != coord.GateRecorded {
		t.Errorf("%+v", records)
	}
	sameBits(t, "final weights", saved(t, c.dir, "model.safetensors", run), plainFrom(run, weights).weights)
}

// Danger: a trainer that never answers holds up its island for ever, or says nothing of why. It
// is bounded by limits.first_step_seconds, and the words name the gate.
func TestTrainerThatNeverAnswersAtTheGate(t *testing.T) {
	run, _ := strangers(t)
	run.Limits.FirstStepSeconds, run.Limits.StallSeconds, run.Limits.HeartbeatSeconds = 4, 4, 4
	asked := 0
	o := &outside{run: run, world: 1, layout: attachtest.Replicated, probe: true, answer: func(r *attachtest.Rank) *attach.Gated {
		if asked++; asked > 1 {
			return attachtest.Honest(r)
		}
		return nil
	}}
	c := trainOutside(t, folder(t), o)
	c.finish()
	within(t, "the end of the trainer", o.done)
	want := "no answer at the gate 4s after its start"
	if gone := recorded[ledger.IslandGone](c); len(gone) == 0 || !strings.Contains(gone[0].Reason, want) {
		t.Errorf("it is said: %+v", gone)
	}
	var refusal *attachtest.Refusal
	if len(o.ends) == 0 || !errors.As(o.ends[0], &refusal) || !strings.Contains(refusal.Error(), want) {
		t.Errorf("the trainer hears %v", o.ends)
	}
}

// Danger: an answer that is none makes the record, or a gate that passes. Each is refused with
// what is wrong with it, by the tensor's name where it is one, and the trainer hears it; three
// times, and the island is not let in again.
func TestAnswersThatAreNone(t *testing.T) {
	spoilt := func(r *attachtest.Rank, tensor string, x float32) {
		attachtest.Honest(r)
		for i, p := range r.Hello.Pieces {
			if p.Name == tensor {
				r.Out(i)[0] = x
			}
		}
	}
	for says, answer := range map[string]func(r *attachtest.Rank) *attach.Gated{
		"the loss is NaN": func(r *attachtest.Rank) *attach.Gated { return &attach.Gated{Loss: attach.Number(math.NaN())} },
		`the gradient of tensor "layers.1.attention.k" is not finite`: func(r *attachtest.Rank) *attach.Gated {
			spoilt(r, "layers.1.attention.k", float32(math.Inf(1)))
			return &attach.Gated{Loss: 1, NumberFormat: "fp32"}
		},
		"the probe failed: RuntimeError": func(r *attachtest.Rank) *attach.Gated {
			return &attach.Gated{Loss: attach.Number(math.NaN()), Problem: "the probe failed: RuntimeError"}
		},
		"1 choices in layer 0 for": func(r *attachtest.Rank) *attach.Gated {
			said := attachtest.Honest(r)
			said.Choices = [][]int32{{1}}
			return said
		},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			run, _ := strangers(t)
			o := &outside{run: run, world: 1, layout: attachtest.Replicated, probe: true, answer: answer}
			c := trainOutside(t, folder(t), o)
			if sum, err := c.wait(); !errors.Is(err, serve.ErrRunFailed) || sum.Merges != 0 {
				t.Fatal(err)
			}
			within(t, "the end of the trainer", o.done)
			records := gates(t, c.dir)
			if len(records) != coord.GateTries || slices.ContainsFunc(records, func(r coord.GateRecord) bool {
				return r.Outcome != coord.GateRefused || !strings.Contains(r.Why, says)
			}) {
				t.Errorf("%+v", records)
			}
			var refusal *attachtest.Refusal
			if len(o.ends) == 0 || !errors.As(o.ends[0], &refusal) || !strings.Contains(refusal.Error(), says) {
				t.Errorf("the trainer hears %v", o.ends)
			}
		})
	}
}
