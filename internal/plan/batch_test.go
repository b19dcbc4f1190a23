package plan

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/chip"
)

// A model for another batch is the one prepared for it.
func TestForIsAsPrepared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task, l := drawnTask(t)
		c, err := chip.Builtin().Find("a100-80g-sxm")
		if err != nil {
			t.Fatal(err)
		}
		h, err := HardwareOf(c)
		if err != nil {
			t.Fatal(err)
		}
		prepared := func(batch int) *Model {
			task.Batch = batch
			m, err := Prepare(task, h, BuiltinConstants())
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		batch := l.DP * l.MicroBatch * rapid.IntRange(1, 9).Draw(t, "micro-batches")
		if got, want := prepared(1).For(batch).Step(l), prepared(batch).Step(l); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}
