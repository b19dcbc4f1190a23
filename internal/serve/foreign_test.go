package serve_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
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

	wg    sync.WaitGroup
	mu    sync.Mutex
	lives map[string]int
	ends  []error
}

// trainFleet starts or resumes a run with its trainers.
func trainFleet(t testing.TB, dir string, run runfile.Run, resume bool, f *fleet, on func(*trial, ledger.Event)) *trial {
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
	})
	t.Cleanup(f.wg.Wait)
	return f.c
}

func (f *fleet) live(island, socket string) {
	f.mu.Lock()
	f.lives[island]++
	life := f.lives[island]
	f.mu.Unlock()
	hellos, before := f.trainer(island, life)
	trainer, err := attachtest.Join(socket, patience, hellos...)
	if err == nil {
		trainer.Tokens, trainer.Validation = ownTokens, 1.25
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
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	ck, _, err := store.Newest(context.Background(), st)
	if err != nil {
		t.Fatal(err)
	}
	var meta serve.Meta
	if err := ck.Meta(&meta); err != nil || meta.Model != nil || len(meta.Tensors) != 5 || meta.Tensors[2].Name != "größe: 1" || !meta.Tensors[3].State {
		t.Errorf("%+v, %v", meta.Tensors, err)
	}
	for _, err := range f.ends {
		if err != nil {
			t.Error(err)
		}
	}
}
