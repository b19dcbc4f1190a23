package engine

import (
	"context"
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
)

// The logits that are handed out are those that the loss is computed from.
func TestLogitsAgreeWithTheLoss(t *testing.T) {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg, Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	InitParams(cfg, 3, e.Params())
	tokens := []int32{5, 200, 17, 17, 90, 3, 255, 0}
	sum, i := 0.0, 0
	err = e.Logits(context.Background(), tokens[:len(tokens)-1], func(logits []float32) error {
		i++
		total := 0.0
		for _, x := range logits {
			total += math.Exp(float64(x))
		}
		sum += math.Log(total) - float64(logits[tokens[i]])
		return nil
	})
	want, n, lossErr := e.Loss(Batch{Tokens: tokens, Rows: 1})
	if err != nil || lossErr != nil || n != i || math.Abs(sum-want) > 1e-5*want {
		t.Errorf("%d logits make %v, the loss of %d is %v (%v, %v)", i, sum, n, want, err, lossErr)
	}
	if err := e.Logits(context.Background(), []int32{256}, nil); err == nil {
		t.Error("a token outside the vocabulary is taken")
	}
	if err := e.Logits(context.Background(), nil, nil); err == nil {
		t.Error("no tokens are taken")
	}
}
