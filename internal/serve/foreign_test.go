package serve_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// ownTensors are those of a model that this program does not know: a scalar, a name that
// is no identifier, a buffer, five dimensions.
func ownTensors() []attachtest.Tensor {
	return []attachtest.Tensor{
		{Name: "encoder.layers.0.weight", Shape: []int{6, 5}}, {Name: "scale", Shape: []int{}}, {Name: "größe: 1", Shape: []int{7}},
		{Name: "bn.running_mean", Shape: []int{4}, State: true}, {Name: "conv", Shape: []int{2, 3, 1, 2, 2}},
	}
}

// ownTokens is what the trainer of such a model trains in a step.
const ownTokens = 96

// own is a run of such a model whose first weights are with island a.
func own(t testing.TB, change func(*runfile.Run)) runfile.Run {
	t.Helper()
	run, err := runfile.Parse("run.yaml", []byte(`
model: {from: seed}
data: {own: true}
tokens: 9600
train: {batch_sequences: 96, sequence_tokens: 1, peak_rate: 0.05}
exchange: {fragments: 3, period_tokens: 960, max_wait_seconds: 1, stale_versions: 1000}
spike: {limit: 0}
limits: {stall_seconds: 60, heartbeat_seconds: 60}
islands:
  - {name: a, engine: external, seed: true, evaluate: true}
  - {name: b, engine: external}
`))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&run)
	}
	if run, err = run.Resolve(); err != nil {
		t.Fatal(err)
	}
	return run
}

// fleet is the trainers of a run's external islands, each of which lives as often as its
// island is started.
type fleet struct {
	c       *trial
	trainer func(island string, life int) (hellos []attach.Hello, before func(*attachtest.Trainer) func(uint64) error)
	first   func(island string, life int) attachtest.Weights // nil: like any other trainer's
	answer  func(island string) func(*attachtest.Rank) *attach.Gated

	wg    sync.WaitGroup
	mu    sync.Mutex
	lives map[string]int
	ends  []error
}

// trainFleet starts or resumes a run with its trainers.
func trainFleet(t testing.TB, dir string, run runfile.Run, resume bool, f *fleet, on func(*trial, ledger.Event), change ...func(*serve.Options)) *trial {
	f.lives = map[string]int{}
	f.c = begin(t, dir, run, resume, func(c *trial, e ledger.Event) {
		if note, ok := e.(ledger.Note); ok {
			if m := socketNote.FindStringSubmatch(note.Text); m != nil {
				f.wg.Go(func() { f.live(strings.TrimSuffix(filepath.Base(m[1]), ".sock"), m[1]) })
			}
		}
		if on != nil {
			on(c, e)
		}
	}, change...)
	t.Cleanup(f.wg.Wait)
	return f.c
}

func (f *fleet) live(island, socket string) {
	f.mu.Lock()
	f.lives[island]++
	life := f.lives[island]
	f.mu.Unlock()
	hellos, before := f.trainer(island, life)
	if hellos == nil {
		return
	}
	first := attachtest.Weights(attachtest.First)
	if f.first != nil {
		first = f.first(island, life)
	}
	trainer, err := attachtest.JoinWith(first, socket, patience, hellos...)
	if err == nil {
		trainer.Tokens, trainer.Validation = ownTokens, 1.25
		for _, r := range trainer.Ranks {
			if f.answer != nil {
				r.Answer = f.answer(island)
			}
		}
		defer trainer.Close()
		var each func(uint64) error
		if before != nil {
			each = before(trainer)
		}
		err = trainer.Run(each)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends = append(f.ends, err)
}

// orderly reports the trainers that did not end in order.
func (f *fleet) orderly(t testing.TB) {
	t.Helper()
	f.wg.Wait()
	for _, err := range f.ends {
		if err != nil {
			t.Error(err)
		}
	}
}

// ownHellos are those of a trainer with data of its own; the seed's is on two ranks.
func ownHellos(seed bool) []attach.Hello {
	world, layout := 1, attachtest.Layout(attachtest.Replicated)
	if seed {
		world, layout = 2, attachtest.Rows
	}
	hellos := attachtest.Hellos(ownTensors(), world, layout)
	for i := range hellos {
		hellos[i].OwnData, hellos[i].Seed, hellos[i].Evaluate = true, seed, seed
	}
	return hellos
}

// plainFleet is trainers of which none is so fast that nothing is left for the other.
func plainFleet() *fleet {
	started := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{})}
	once := map[string]*sync.Once{"a": {}, "b": {}}
	return &fleet{trainer: func(island string, _ int) ([]attach.Hello, func(*attachtest.Trainer) func(uint64) error) {
		return ownHellos(island == "a"), func(*attachtest.Trainer) func(uint64) error {
			return func(step uint64) error {
				if step == 3 {
					once[island].Do(func() { close(started[island]) })
					for _, other := range started {
						select {
						case <-other:
						case <-time.After(patience):
							return errors.New("the other island never came")
						}
					}
				}
				return nil
			}
		}
	}}
}

// A run of a model that this program does not know: version 0 comes from the island marked
// seed, both islands train data of their own, one measures the validation loss, and the
// checkpoint holds the tensors under their names.
func TestOwnModelFromSeed(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	f := plainFleet()
	c := trainFleet(t, dir, own(t, nil), false, f, nil)
	sum, err := c.wait()
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != ledger.RunFinished || sum.Tracked || sum.Params != 6*5+1+7+4+24 || sum.ActiveParams != nil {
		t.Errorf("%+v", sum)
	}
	if loss, ok := sum.ValidLoss.Get(); !ok || loss != 1.25 || !sum.ValidFinal || sum.ValidIsland == nil || *sum.ValidIsland != "a" {
		t.Errorf("validation loss %v, final %v, by %v", sum.ValidLoss, sum.ValidFinal, sum.ValidIsland)
	}
	for _, i := range sum.Islands {
		if i.Steps == 0 {
			t.Errorf("%s made no step", i.Name)
		}
	}
	audited(t, dir, -1)
	if meta := newestMeta(t, dir); meta.Model != nil || len(meta.Tensors) != 5 || meta.Tensors[2].Name != "größe: 1" || !meta.Tensors[3].State {
		t.Errorf("%+v", meta.Tensors)
	}
	f.orderly(t)
}

// The danger: a run waits for ever for the loss of its finished model, of a trainer that measures
// none, for its loop has not come to it, or it was joined without.
func TestNobodyMeasures(t *testing.T) {
	t.Parallel()
	for _, says := range []bool{true, false} {
		f := plainFleet()
		all := f.trainer
		f.trainer = func(island string, life int) ([]attach.Hello, func(*attachtest.Trainer) func(uint64) error) {
			hellos, before := all(island, life)
			for i := range hellos {
				hellos[i].Evaluate = says && island == "a"
			}
			return hellos, func(t *attachtest.Trainer) func(uint64) error {
				t.Validation = math.NaN()
				return before(t)
			}
		}
		told := 0
		c := trainFleet(t, folder(t), own(t, nil), false, f, func(_ *trial, e ledger.Event) {
			if note, ok := e.(ledger.Note); ok && strings.Contains(note.Text, "island a measures no validation loss") {
				told++
			}
		})
		sum, err := c.wait()
		if err != nil || sum.Outcome != ledger.RunFinished || sum.ValidIsland != nil || sum.ValidFinal {
			t.Errorf("says %v: %v, %+v", says, err, sum)
		}
		if _, known := sum.ValidLoss.Get(); known || told != 1 {
			t.Errorf("says %v: a loss of %v, and %d words about it", says, sum.ValidLoss, told)
		}
		f.orderly(t)
	}
}

// lone is plainFleet for a run of one island; check sees the trainer before its first step.
func lone(check func(*attachtest.Trainer) error, seed bool) *fleet {
	return &fleet{trainer: func(string, int) ([]attach.Hello, func(*attachtest.Trainer) func(uint64) error) {
		return ownHellos(seed), func(t *attachtest.Trainer) func(uint64) error {
			return func(step uint64) error {
				if step == 1 && check != nil {
					return check(t)
				}
				return nil
			}
		}
	}}
}

// only leaves the first island.
func only(run *runfile.Run) { run.Islands = run.Islands[:1] }

// weightsFile writes the tensors in three number formats and gives the path.
func weightsFile(t testing.TB, change func([]store.Stream) []store.Stream) string {
	t.Helper()
	streams := []store.Stream{}
	for i, tensor := range ownTensors() {
		n := 1
		for _, d := range tensor.Shape {
			n *= d
		}
		dtype := []string{"BF16", "F32", "F16", "F32", "BF16"}[i]
		streams = append(streams, store.Stream{Name: tensor.Name, Dtype: dtype, Shape: tensor.Shape, Write: func(w io.Writer) error {
			for range n {
				one := map[string][]byte{"F32": {0, 0, 0xc0, 0x3f}, "BF16": {0xc0, 0x3f}, "F16": {0x00, 0x3e}}[dtype] // 1.5
				if _, err := w.Write(one); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	if change != nil {
		streams = change(streams)
	}
	path := filepath.Join(t.TempDir(), "weights.safetensors")
	f, err := os.Create(path)
	if err == nil {
		err = store.WriteStreams(f, streams, map[string]string{store.StateKey: `["bn.running_mean"]`})
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// D16: narrow weights of a file are widened without a change of value, with a line for each
// kind of cast that stays on the tape; the file tells the model.
func TestD16OwnModelFromFile(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	run := own(t, func(run *runfile.Run) {
		only(run)
		run.Model.From, run.Islands[0].Seed = weightsFile(t, nil), false
	})
	f := lone(func(trainer *attachtest.Trainer) error {
		for i, w := range trainer.Ranks[0].Weights {
			for _, x := range w {
				if x != 1.5 {
					return fmt.Errorf("%s begins with %v", trainer.Ranks[0].Hello.Pieces[i].Name, x)
				}
			}
		}
		return nil
	}, false)
	c := trainFleet(t, dir, run, false, f, nil)
	if sum, err := c.wait(); err != nil || sum.Outcome != ledger.RunFinished {
		t.Fatal(sum.Reason, err)
	}
	f.orderly(t)
	var said []string
	for _, n := range recorded[ledger.Note](c) {
		said = append(said, n.Text)
	}
	first := string(tapes(t, dir)[0].Coordinator[0])
	for _, line := range []string{"cast BF16 to F32: 2 tensors, 54 elements; no value changes", "cast F16 to F32: 1 tensors, 7 elements; no value changes"} {
		if !slices.Contains(said, line) || !strings.Contains(first, line) {
			t.Errorf("%q is not said, or not on the tape:\n%s\n%s", line, strings.Join(said, "\n"), first)
		}
	}
	if !strings.Contains(first, `"own_data":true`) {
		t.Errorf("the tape does not say whose data it is: %s", first)
	}
}

// Bad files of weights are refused before anything is made, with the tensor's name.
func TestOwnModelFromBadFile(t *testing.T) {
	narrow := func(s []store.Stream) []store.Stream {
		s[1] = store.Stream{Name: s[1].Name, Dtype: "F64", Shape: s[1].Shape, Write: func(w io.Writer) error { _, err := w.Write(make([]byte, 8)); return err }}
		return s
	}
	listed := own(t, func(run *runfile.Run) { run.Model.From, run.Islands[0].Seed = "x.safetensors", false })
	for _, tensor := range ownTensors() {
		listed.Model.Tensors = append(listed.Model.Tensors, runfile.Tensor{Name: tensor.Name, Shape: tensor.Shape, State: tensor.State})
	}
	for says, change := range map[string]func([]store.Stream) []store.Stream{
		`"scale": this tensor has type F64`:      narrow,
		`"conv": this tensor is missing`:         func(s []store.Stream) []store.Stream { return s[:4] },
		`"extra": this tensor does not belong`:   func(s []store.Stream) []store.Stream { x := s[1]; x.Name = "extra"; return append(s, x) },
		`"scale": this tensor has shape [1], []`: func(s []store.Stream) []store.Stream { s[1].Shape = []int{1}; return s },
	} {
		run := listed
		run.Model.From = weightsFile(t, change)
		dir := folder(t)
		_, err := begin(t, dir, run, false, nil).wait()
		var in *fault.Input
		if !errors.As(err, &in) || !strings.Contains(err.Error(), says) || in.Where != run.Model.From {
			t.Errorf("got %v, want %s", err, says)
		}
		if _, err := os.Stat(filepath.Join(dir, "run.yaml")); err == nil {
			t.Errorf("%s: a run has begun", says)
		}
	}
	run := own(t, func(run *runfile.Run) {
		run.Model.From, run.Model.Tensors, run.Islands[0].Seed = "", listed.Model.Tensors, false
	})
	if _, err := begin(t, folder(t), run, false, nil).wait(); err == nil || !strings.Contains(err.Error(), "only you know how the weights") {
		t.Errorf("%v", err)
	}
}

// The danger: version 0 holds a NaN, or is from somebody else. The first upload is refused
// by the tensor's name and the island comes again; one that is not marked is refused.
func TestSeedIsChecked(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	f := lone(nil, true)
	f.first = func(_ string, life int) attachtest.Weights {
		return func(tensor string, key uint64) float32 {
			if life == 1 && tensor == "conv" {
				return float32(math.NaN())
			}
			return attachtest.First(tensor, key)
		}
	}
	c := trainFleet(t, dir, own(t, only), false, f, nil)
	if sum, err := c.wait(); err != nil || sum.Outcome != ledger.RunFinished {
		t.Fatal(sum.Reason, err)
	}
	f.wg.Wait()
	var refused *attachtest.Refusal
	if len(f.ends) != 2 || !errors.As(f.ends[0], &refused) || !strings.Contains(refused.Problem, "tensor conv: element 0") || f.ends[1] != nil {
		t.Errorf("the trainers ended with %v", f.ends)
	}
}

// An island that is not marked seed cannot decide what the run begins with, one of another
// model is refused by the parameter's name, and the run goes on without either.
func TestOwnModelRefusals(t *testing.T) {
	t.Parallel()
	for says, spoil := range map[string]func([]attach.Hello) []attach.Hello{
		"the first weights are with island a": func(h []attach.Hello) []attach.Hello { h[0].Seed = true; return h },
		"has shape [9] here and [7] in the run's model": func(h []attach.Hello) []attach.Hello {
			h[0].Tensors[2].Shape, h[0].Pieces[2].Extent = []int{9}, []int{9}
			return h
		},
		"is tied to encoder.layers.0.weight": func(h []attach.Hello) []attach.Hello {
			h[0].Tensors[0].Tied = []string{"conv"}
			h[0].Tensors, h[0].Pieces = h[0].Tensors[:4], h[0].Pieces[:4]
			return h
		},
	} {
		refused := make(chan struct{})
		var once sync.Once
		f := &fleet{trainer: func(island string, life int) ([]attach.Hello, func(*attachtest.Trainer) func(uint64) error) {
			if island == "b" {
				if life > 1 {
					once.Do(func() { close(refused) })
					return nil, nil // it is not tried for ever
				}
				return spoil(ownHellos(false)), nil
			}
			return ownHellos(true), func(*attachtest.Trainer) func(uint64) error {
				return func(step uint64) error {
					if step >= 3 { // which number its boundaries show depends on when it is asked
						<-refused
					}
					return nil
				}
			}
		}}
		run := own(t, func(run *runfile.Run) { run.Limits.Restarts = 1000 })
		sum, err := trainFleet(t, folder(t), run, false, f, nil).wait()
		if err != nil || sum.Outcome != ledger.RunFinished {
			t.Errorf("%s: %v", sum.Reason, err)
		}
		f.wg.Wait()
		var problem *attachtest.Refusal
		if len(f.ends) == 0 || !errors.As(f.ends[0], &problem) || !strings.Contains(problem.Error(), says) {
			t.Errorf("the trainers ended with %v, want %s", f.ends, says)
		}
	}
}

// The danger: a coordinator that is killed while it waits for the first weights leaves
// something behind from which nothing begins any more.
func TestKilledBeforeTheFirstWeights(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	nobody := &fleet{trainer: func(string, int) ([]attach.Hello, func(*attachtest.Trainer) func(uint64) error) { return nil, nil }}
	waiting := make(chan struct{})
	var once sync.Once
	c := trainFleet(t, dir, own(t, only), false, nobody, func(_ *trial, e ledger.Event) {
		if socketNote.MatchString(e.String()) {
			once.Do(func() { close(waiting) })
		}
	})
	within(t, "the wait for the first weights", waiting)
	c.stop()
	if _, err := c.wait(); err == nil {
		t.Fatal("it has begun without weights")
	}
	given, err := serve.Ask(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "seed.safetensors"), []byte("half an upl"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := lone(nil, true)
	if sum, err := trainFleet(t, dir, own(t, only), false, f, nil).wait(); err != nil || sum.Outcome != ledger.RunFinished {
		t.Fatal(sum.Reason, err)
	} else if sum.RunID != given.RunID {
		t.Errorf("a join string of before is for run %s, and the run is %s", given.RunID, sum.RunID)
	}
	f.orderly(t)
}

// A run of one's own model goes on from its checkpoint, after an interrupt and after the
// coordinator was killed: the same tensors, more of them trained, and no first weights asked for.
func TestOwnModelResumes(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	run := own(t, func(run *runfile.Run) { run.Checkpoint.EveryTokens = 1920 })
	saved := make(chan struct{})
	var once sync.Once
	c := trainFleet(t, dir, run, false, plainFleet(), func(_ *trial, e ledger.Event) {
		if _, ok := e.(ledger.CheckpointSaved); ok {
			once.Do(func() { close(saved) })
		}
	})
	within(t, "the first checkpoint", saved)
	c.kill()
	resumed := resumedRun(t, dir)
	if len(resumed.Model.Tensors) != 5 || resumed.Size() != 66 {
		t.Fatalf("the run file has %d tensors of %d elements", len(resumed.Model.Tensors), resumed.Size())
	}
	f := &fleet{trainer: func(island string, _ int) ([]attach.Hello, func(*attachtest.Trainer) func(uint64) error) {
		return ownHellos(island == "a"), nil // nobody waits for the other: what is left may be a step or two
	}}
	sum, err := trainFleet(t, dir, resumed, true, f, nil).wait()
	if err != nil || sum.Outcome != ledger.RunFinished || sum.Era != 2 || sum.Tokens != sum.GoalTokens {
		t.Fatalf("%+v, %v", sum, err)
	}
	f.orderly(t)
	audited(t, dir, -1)
	other := resumed
	other.Model.Tensors = slices.Clone(resumed.Model.Tensors)
	other.Model.Tensors[0].Shape = []int{5, 6}
	if _, err := begin(t, dir, other, true, nil).wait(); err == nil || !strings.Contains(err.Error(), "model is not the run file's") {
		t.Errorf("another model goes on: %v", err)
	}
}
