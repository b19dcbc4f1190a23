package serve_test

import (
	"errors"
	"fmt"
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
	"github.com/mistura-project/mistura/internal/wire"
)

// Danger: whoever is at the gate is killed there, and everybody waits for its answer, or half a
// record stays. The trainer's rank, the island's process: the next life answers, and the run ends
// with the plain loop's weights.
func TestKilledAtTheGate(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
	want := "no answer at the gate 4s after the last bytes to or from it (limits.first_step_seconds)"
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
	t.Parallel()
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

// Danger: an island of several hosts and ranks is refused, and nobody knows which of them it is
// about. What is wrong with an answer is said with host and rank, on the tape and to every rank.
func TestRefusalNamesHostAndRank(t *testing.T) {
	problem := func(r *attachtest.Rank) *attach.Gated {
		said := attachtest.Honest(r)
		said.Problem = "the probe failed: RuntimeError"
		return said
	}
	infinite := func(r *attachtest.Rank) *attach.Gated {
		said := attachtest.Honest(r)
		r.Out(0)[0] = float32(math.Inf(1))
		return said
	}
	for says, spoil := range map[string]struct {
		rank   int
		answer func(*attachtest.Rank) *attach.Gated
	}{
		"host 0: it cannot answer: rank 1: the probe failed: RuntimeError":                   {1, problem},
		"host 1: it cannot answer: rank 2: the probe failed: RuntimeError":                   {2, problem},
		`host 1: it cannot answer: rank 2: the gradient of tensor "embedding" is not finite`: {2, infinite},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			run, _ := strangers(t)
			c, paths := sockets(t, run)
			for life := range uint64(coord.GateTries) {
				err := twoHosts(t, c, run, attachtest.Rows, <-paths, life+1, func(trainer *attachtest.Trainer) func(uint64) error {
					trainer.Ranks[spoil.rank].Answer = spoil.answer
					return nil
				})
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("the trainer hears %v", err)
				}
			}
			if _, err := c.wait(); !errors.Is(err, serve.ErrRunFailed) {
				t.Error(err)
			}
			for _, r := range gates(t, c.dir) {
				if r.Outcome != coord.GateRefused || !strings.Contains(r.Why, says) {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// Danger: what one host of an island is asked comes damaged, and the island passes without it, or its
// ranks wait for weights that never come. It is refused with that reason; the next life answers.
func TestQuestionIsDamagedAtOneHost(t *testing.T) {
	for _, host := range []int{0, 1} {
		for what, says := range map[string]string{
			"record":  fmt.Sprintf("host %d: it cannot answer: the gate record came damaged", host),
			"weights": fmt.Sprintf("host %d: it cannot answer: fragment 0 of", host),
		} {
			t.Run(fmt.Sprintf("%s, host %d", what, host), func(t *testing.T) {
				t.Parallel()
				run, weights := strangers(t)
				piece := []byte(`{"gate_record":1`)
				if what == "weights" {
					piece = wire.Bytes(weights[:4])
				}
				first, second := spoilt(host, 1, piece)
				c, paths := socketsIn(t, folder(t), run, false, first)
				if err := twoHosts(t, c, run, attachtest.Rows, <-paths, 1, nil, second(t)); err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("the trainer hears %v", err)
				}
				if err := twoHosts(t, c, run, attachtest.Rows, <-paths, 2, nil); err != nil {
					t.Fatal(err)
				}
				c.finish()
				records := gates(t, c.dir)
				if len(records) != 2 || records[0].Outcome != coord.GateRefused || !strings.Contains(records[0].Why, says) || records[1].Outcome != coord.GateRecorded {
					t.Errorf("%+v", records)
				}
			})
		}
	}
}

// The same in the middle of training, where the island is asked for a checkpoint's record: the
// checkpoint goes without it, with that reason, and training goes on to the same weights.
func TestCheckpointsQuestionIsDamagedAtOneHost(t *testing.T) {
	for _, host := range []int{0, 1} {
		t.Run(fmt.Sprint("host ", host), func(t *testing.T) {
			t.Parallel()
			run, weights := strangers(t)
			run.Checkpoint.EveryTokens = stepTokens * 20
			first, second := spoilt(host, 2, []byte(`{"gate_record":1`))
			c, paths := socketsIn(t, folder(t), run, false, first)
			if err := twoHosts(t, c, run, attachtest.Rows, <-paths, 1, nil, second(t)); err != nil {
				t.Fatal(err)
			}
			c.finish()
			if says := fmt.Sprintf("checkpoint 1 has no gate record, islands that join are compared with the one before: island only: host %d: it cannot answer: the gate record came damaged", host); !strings.Contains(notes(c), says) {
				t.Errorf("it is said:\n%s", notes(c))
			}
			got := newCurve()
			got.add(t, c)
			got.weights = saved(t, c.dir, "model.safetensors", run)
			got.equal(t, plainFrom(run, weights))
		})
	}
}

// spoilt has the nth of such pieces come damaged at one of two hosts, in the island's first life.
func spoilt(host, nth int, piece []byte) (first func(*serve.Options), second func(*testing.T) func(*wire.Join)) {
	act := fmt.Sprintf("%d-%x", nth, piece)
	first, second = func(*serve.Options) {}, func(*testing.T) func(*wire.Join) { return func(*wire.Join) {} }
	if host == 0 {
		return faking("only-1=" + actSpoil + act), second
	}
	return first, func(t *testing.T) func(*wire.Join) {
		return func(j *wire.Join) {
			var err error
			if j.Address, err = spoilingWay(j.Address, act); err != nil {
				t.Fatal(err)
			}
		}
	}
}
