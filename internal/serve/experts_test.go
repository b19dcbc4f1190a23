package serve_test

import (
	"crypto/sha256"
	"fmt"
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

// D8 (CASES: 4 experts a layer saved by 2 ranks under the same names, so that one rank's
// experts survive): a checkpoint holds 4 distinct experts a layer, and the model that is
// read from it has one evaluation loss, whether 1, 2 or 4 workers work off the experts.
func TestD8ExpertsOfACheckpoint(t *testing.T) {
	t.Parallel()
	run := alone(t, func(run *runfile.Run) { run.Tokens = stepTokens * 20 })
	_, dir := straight(t, run)
	params := saved(t, dir, "model.safetensors", run)
	if run.Model.Experts != 4 {
		t.Fatalf("%d experts a layer", run.Model.Experts)
	}
	experts := map[string]string{} // by digest
	for _, tensor := range run.Table() {
		if tensor.Kind != model.Expert {
			continue
		}
		raw := wire.AppendF32(nil, params[tensor.Offset:tensor.Offset+tensor.Size()])
		digest := fmt.Sprintf("%x", sha256.Sum256(raw))
		if other, again := experts[digest]; again {
			t.Errorf("%s and %s are the same", other, tensor.Name)
		}
		experts[digest] = tensor.Name
	}
	if want := run.Model.Layers * 4 * 3; len(experts) != want {
		t.Errorf("%d matrices of experts differ, want %d", len(experts), want)
	}

	batch := engine.Batch{Rows: 8, Tokens: make([]int32, 8*65)}
	for i := range batch.Tokens {
		batch.Tokens[i] = int32(i * i % 251)
	}
	var want uint64
	for _, workers := range []int{1, 2, 4} {
		e, err := engine.New(run.Model.Config, engine.Options{Threads: workers})
		if err != nil {
			t.Fatal(err)
		}
		copy(e.Params(), params)
		sum, _, err := e.Loss(batch)
		e.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := math.Float64bits(sum); want != 0 && got != want {
			t.Errorf("%d workers: loss %v, one worker %v", workers, sum, math.Float64frombits(want))
		} else {
			want = got
		}
	}
}
