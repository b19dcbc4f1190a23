package serve

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// A run that begins with trained weights asks about those, as they are and not sharpened, the
// same for everybody; a checkpoint's record takes their place.
func TestGateAsksAboutGivenWeights(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	dir, given := saved(t, cfg)
	set, err := kernel.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	run, err := runfile.Default().WithConfig(cfg, dir).Resolve()
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(&opened{run: run, kernel: set, store: st}, nil)
	moved := slices.Clone(given)
	moved[0]++
	for incarnation, weights := range [][]float32{given, moved} {
		q, err := d.ask(t.Context(), uint64(incarnation+1), 1, func(context.Context) ([]float32, error) { return weights, nil })
		if err != nil {
			t.Fatal(err)
		}
		if q.record.Weights != gate.Sent || !slices.Equal(q.weights, given) || q.checkpoint != 0 {
			t.Errorf("asked about %s weights, the given ones: %v", q.record.Weights, slices.Equal(q.weights, given))
		}
	}
	want, err := d.made(func(p []float32) { copy(p, given) }, gate.Sent)
	if err != nil || d.now.record.Loss != want.Loss {
		t.Errorf("the record has loss %v, that of the given weights is %v (%v)", d.now.record.Loss, want.Loss, err)
	}
	drawn := make([]float32, cfg.Size())
	engine.InitParams(cfg, run.Seed, drawn)
	later, err := d.ofCheckpoint(drawn)
	if err == nil {
		err = d.saveAs(later, 7)
	}
	if err != nil || d.now.weights != nil || d.now.checkpoint != 7 {
		t.Errorf("behind a checkpoint %v weights of %d are kept: %v", d.now.weights != nil, d.now.checkpoint, err)
	}
}

// Danger: bytes that are no record, or one of another model or probe, are compared, or make the
// record. Each is an error that says what it is; a second answer was not asked for.
func TestDoorRefusesAnswersOfOtherKinds(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	set, err := kernel.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	run, err := runfile.Default().WithConfig(cfg, "").Resolve()
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(&opened{run: run, kernel: set, store: st}, nil)
	for says, change := range map[string]func(r *gate.Record){
		"gate record: ":                         nil,
		"the answer is to another probe":        func(r *gate.Record) { r.Seed++ },
		`"other" where the model has "embeddin`: func(r *gate.Record) { r.Tensors = slices.Clone(r.Tensors); r.Tensors[0].Name = "other" },
		"gradients of 1 tensors, the model has": func(r *gate.Record) { r.Tensors = r.Tensors[:1] },
		`number format "fp7"`:                   func(r *gate.Record) { r.Number = "fp7" },
	} {
		q, err := d.ask(t.Context(), 1, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer := []byte("{]")
		if change != nil {
			r := q.record
			change(&r)
			if answer, err = r.Encode(); err != nil {
				t.Fatal(err)
			}
		}
		m := transport.Up{FromLearner: &wire.FromLearner{}, Payload: answer}
		if v, _, err := d.judge(t.Context(), 1, 0, m); err == nil || v.Passed || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v", says, v, err)
		}
		if _, _, err := d.judge(t.Context(), 1, 0, m); err == nil || err.Error() != "it answers and was not asked" {
			t.Errorf("a second answer: %v", err)
		}
	}
}
