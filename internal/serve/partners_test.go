package serve_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/wire"
)

// Ranks 0 and 1 are on the first host, rank 2 on the second.
const ranksOfTwoHosts = 3

func hostOf(rank int) int { return rank / 2 }

// stages leave every other tensor to one rank alone, as a pipeline does; the rest is rows.
func stages(rank, world int, t attachtest.Tensor) (offset, extent []int, replica int) {
	if n := len(t.Name) + t.Shape[0]; n%2 == 0 {
		if offset, extent, _ = attachtest.Replicated(0, 1, t); n/2%world != rank {
			return nil, nil, 0
		}
		return offset, extent, 0
	}
	return attachtest.Rows(rank, world, t)
}

// hellosOfTwoHosts are what the ranks say, those of the second host but for the incarnation.
func hellosOfTwoHosts(run runfile.Run, layout attachtest.Layout) []attach.Hello {
	hellos := attachtest.Hellos(tensorsOf(run), ranksOfTwoHosts, layout)
	for rank := range hellos {
		h := &hellos[rank]
		h.Part, h.Parts, h.HostRank, h.HostWorld = hostOf(rank), 2, rank%2, 2-hostOf(rank)
		var held []attach.Piece
		for _, p := range h.Pieces {
			if p.Extent != nil {
				held = append(held, p)
			}
		}
		h.Pieces, h.Probe = held, run.Gate == runfile.GateRequired
	}
	return hellos
}

// twoHosts trains an island on two hosts, of which the second is in this process.
func twoHosts(t *testing.T, c *trial, run runfile.Run, layout attachtest.Layout, path string, incarnation uint64, before func(*attachtest.Trainer) func(uint64) error, change ...func(*wire.Join)) error {
	hellos := attachtest.Keeping(hellosOfTwoHosts(run, layout))
	trainer, err := attachtest.Join(path, patience, hellos[:2]...)
	if err != nil {
		return err
	}
	defer trainer.Close()
	join, err := wire.ParseJoin(c.process(run.Islands[len(run.Islands)-1].Name, incarnation).Join)
	if err != nil {
		return err
	}
	join.Incarnation = 0 // it is told by the ranks
	for _, change := range change {
		change(&join)
	}
	second := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancelCause(context.Background())
	crew, err := attach.Listen(attach.Options{Path: second, Version: "test", Logger: slog.New(slog.DiscardHandler), Lost: cancel})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- island.Run(ctx, island.Options{Join: join, Version: "test", Crew: crew, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	}()
	hellos[2].Incarnation = trainer.Ranks[0].Welcome.Incarnation
	rest, err := attachtest.Join(second, patience, hellos[2])
	if err != nil {
		cancel(err)
		return errors.Join(err, <-ended)
	}
	trainer.Ranks = append(trainer.Ranks, rest.Ranks...)
	trainer.Tokens = int64(run.Train.SequenceTokens)
	var each func(uint64) error
	if before != nil {
		each = before(trainer)
	}
	if err = trainer.Run(each); err == nil {
		err = rest.Ranks[0].Say(&attach.Bye{Reason: "the run is over"})
	}
	trainer.Close()
	rest.Close()
	if err != nil {
		cancel(err)
	}
	return errors.Join(err, <-ended)
}

// sockets begins a run and gives the sockets of its island's lives.
func sockets(t testing.TB, run runfile.Run) (*trial, chan string) {
	return socketsIn(t, folder(t), run, false)
}

func socketsIn(t testing.TB, dir string, run runfile.Run, resume bool, change ...func(*serve.Options)) (*trial, chan string) {
	paths := make(chan string, 16)
	return begin(t, dir, run, resume, func(_ *trial, e ledger.Event) {
		if note, ok := e.(ledger.Note); ok {
			if m := socketNote.FindStringSubmatch(note.Text); m != nil {
				paths <- m[1]
			}
		}
	}, change...), paths
}

// The danger: a host whose ranks hold only replicas of what others send gives its part when
// the merge has been made without it; its verdict is lost, and the island stands still.
func TestReplicasThatAreGivenAfterTheMerge(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens = stepTokens * 60 }))
	c, paths := sockets(t, run)
	merged := func() int { return len(recorded[ledger.Merged](c)) }
	err := twoHosts(t, c, run, attachtest.Replicated, <-paths, 1, func(trainer *attachtest.Trainer) func(uint64) error {
		before, last := 0, trainer.Ranks[2]
		trainer.Ranks[0].Giving = func(attach.Action) { before = merged() }
		last.Giving = func(attach.Action) {
			for deadline := time.Now().Add(patience); merged() == before && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(5 * time.Millisecond) // the verdict is on its way; without the sleep the test could only see less
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.finish()
}

// D5 for an island on two hosts: whatever lies where, it makes the same losses, rates and weights,
// to the bit, as the same loop without mistura.
func TestD5ExternalIslandOnTwoHosts(t *testing.T) {
	t.Parallel()
	for name, layout := range map[string]attachtest.Layout{
		"replicated": attachtest.Replicated, "rows": attachtest.Rows, "stages": stages,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := alone(t, outsider(func(run *runfile.Run) { run.Tokens = stepTokens * 60 }))
			c, paths := sockets(t, run)
			if err := twoHosts(t, c, run, layout, <-paths, 1, nil); err != nil {
				t.Fatal(err)
			}
			c.finish()
			got := newCurve()
			got.add(t, c)
			got.weights = saved(t, c.dir, "model.safetensors", run)
			got.equal(t, plainOutside(run))
		})
	}
}

// Danger: the second host's ranks are killed, and the first host trains half a model on. The
// whole incarnation ends with a reason; the next one brings the run to its end.
func TestSecondHostIsLost(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens = stepTokens * 60 }))
	c, paths := sockets(t, run)
	err := twoHosts(t, c, run, attachtest.Rows, <-paths, 1, func(trainer *attachtest.Trainer) func(uint64) error {
		return func(step uint64) error {
			if step == 25 {
				trainer.Ranks[2].Close()
				trainer.Ranks = trainer.Ranks[:2]
			}
			return nil
		}
	})
	if err == nil {
		t.Fatal("the first life ended in order")
	}
	select {
	case path := <-paths:
		if err := twoHosts(t, c, run, attachtest.Rows, path, 2, nil); err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("there is no second life")
	}
	c.finish()
	gone := recorded[ledger.IslandGone](c)
	if len(gone) == 0 || !strings.Contains(gone[0].Reason, "its host 1 is gone") {
		t.Errorf("the coordinator hears %+v", gone)
	}
}

// A value that is not finite on the second host is refused with its tensor's name, the island is
// seeded anew on both hosts, and the run comes to its end without it.
func TestSecondHostIsRefused(t *testing.T) {
	t.Parallel()
	run := alone(t, outsider(func(run *runfile.Run) { run.Tokens, run.Spike.Factor = stepTokens*60, 0 }))
	c, paths := sockets(t, run)
	err := twoHosts(t, c, run, attachtest.Rows, <-paths, 1, func(trainer *attachtest.Trainer) func(uint64) error {
		trainer.Loss = func(uint64, float64) float64 { return 1 } // nobody notices
		return func(step uint64) error {
			if step == 25 {
				trainer.Ranks[2].Weights[0][0] = float32(math.NaN())
			}
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c.finish()
	ruled := recorded[ledger.Ruled](c)
	if len(ruled) == 0 || !strings.Contains(ruled[0].Reason, "tensor "+run.Table()[0].Name+" holds a value that is not finite") {
		t.Errorf("ruled: %+v", ruled)
	}
	for _, v := range saved(t, c.dir, "model.safetensors", run) {
		if math.IsNaN(float64(v)) {
			t.Fatal("the model holds a NaN")
		}
	}
}

// An island on two hosts beside a native one: both contribute, every sample counts once.
func TestTwoHostsBesideNative(t *testing.T) {
	t.Parallel()
	run := tiny(t, outsider(nil))
	c, paths := sockets(t, run)
	name := run.Islands[len(run.Islands)-1].Name
	if err := twoHosts(t, c, run, stages, <-paths, uint64(len(run.Islands)), func(*attachtest.Trainer) func(uint64) error {
		return func(uint64) error { time.Sleep(time.Millisecond); return nil } // it leaves something to its neighbour
	}); err != nil {
		t.Fatal(err)
	}
	for _, i := range c.finish().Islands {
		if i.Steps == 0 {
			t.Errorf("%s of %s: %+v", i.Name, name, i)
		}
	}
}
