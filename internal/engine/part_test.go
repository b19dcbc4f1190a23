package engine

import (
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/model"
)

// The danger: a stretch of the step that is charged to nobody, or twice. The clock
// moves by one at every look, so that on one worker the parts add up to the looks but
// those at the ends of Waiting.
func TestSpentAddsUp(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	looks := time.Duration(0)
	e, err := New(cfg, Options{Threads: 1, Clock: func() time.Duration { looks++; return looks }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	InitParams(cfg, 1, e.Params())
	e.ZeroGrads()
	if _, err := e.Backward(Batch{Tokens: randomTokens(cfg, 0, 2, 9), Rows: 2}); err != nil {
		t.Fatal(err)
	}
	e.ScaleGrads(0.5)
	sum := e.pool.workers[0].watch.spent[Waiting]
	for part, spent := range e.Spent() {
		if spent <= 0 {
			t.Errorf("nothing was spent on %s", part)
		}
		sum += spent
	}
	if sum != looks {
		t.Errorf("%d ticks are in the parts, the clock is at %d", sum, looks)
	}
}

func TestSpentWithoutClock(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg, Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, _, err := e.Loss(Batch{Tokens: randomTokens(cfg, 0, 2, 9), Rows: 2}); err != nil {
		t.Fatal(err)
	}
	for part, spent := range e.Spent() {
		if spent != 0 {
			t.Errorf("%s: %v without a clock", part, spent)
		}
	}
}
