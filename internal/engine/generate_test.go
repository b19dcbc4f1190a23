package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/enginetest"
	"github.com/mistura-project/mistura/internal/fault"
)

// generate collects what Generate emits.
func generate(t *testing.T, e *Engine, prompt []int32, o SampleOptions) []int32 {
	t.Helper()
	var text []int32
	err := e.Generate(context.Background(), prompt, o, func(token int32) error {
		text = append(text, token)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestDecoderAgreesWithForward feeds a text through the cache and compares the
// likelihood of each token with the training forward pass.
func TestDecoderAgreesWithForward(t *testing.T) {
	for _, cfg := range enginetest.Configs() {
		t.Run(cfg.Name, func(t *testing.T) {
			e := newEngine(t, cfg, Options{Threads: 1})
			tokens := randomTokens(cfg, 60, 1, 40)
			if _, _, err := e.Loss(Batch{Tokens: tokens, Rows: 1}); err != nil {
				t.Fatal(err)
			}
			want, d := slices.Clone(e.loss), newDecoder(e, 40)
			for i := range 40 {
				d.step(tokens[i], i)
				logits := slices.Clone(d.logits())
				target := logits[tokens[i+1]]
				top, sum := e.kernel.Softmax(logits)
				got := float64(top-target) + math.Log(float64(sum))
				if math.Abs(got-want[i]) > 2e-4 {
					t.Fatalf("token %d costs %v nats, in the forward pass %v", i, got, want[i])
				}
			}
		})
	}
}

func TestGenerate(t *testing.T) {
	e := newEngine(t, named(t, "everything"), Options{Threads: 1})
	prompt := []int32{1, 2, 3}
	greedy := generate(t, e, prompt, SampleOptions{Tokens: 12, TopP: 1})
	if len(greedy) != 12 {
		t.Fatalf("%d tokens were written, want 12", len(greedy))
	}
	if again := generate(t, e, append(slices.Clone(prompt), greedy[:5]...), SampleOptions{Tokens: 7, TopP: 1}); !slices.Equal(again, greedy[5:]) {
		t.Errorf("continued from its own text it writes %v, want %v", again, greedy[5:])
	}
	if tiny := generate(t, e, prompt, SampleOptions{Tokens: 12, Temperature: 1, TopP: 1e-9, Seed: 1}); !slices.Equal(tiny, greedy) {
		t.Errorf("top p near 0 writes %v, greedy %v", tiny, greedy)
	}
	o := SampleOptions{Tokens: 40, Temperature: 1, TopP: 0.95, Seed: 3}
	drawn := generate(t, e, prompt, o)
	if !slices.Equal(drawn, generate(t, e, prompt, o)) {
		t.Error("the same seed writes other text")
	}
	o.Seed = 4
	if slices.Equal(drawn, generate(t, e, prompt, o)) {
		t.Error("another seed writes the same text")
	}
	if len(generate(t, e, prompt, SampleOptions{TopP: 1})) != 0 {
		t.Error("0 tokens were asked for and some were written")
	}
}

// With a full context the older half is forgotten: the text is that of a prompt
// which begins there.
func TestGenerateForgetsBeyondItsContext(t *testing.T) {
	e := newEngine(t, named(t, "everything"), Options{Threads: 1})
	prompt := []int32{3, 1, 4, 1, 5, 0, 2, 6, 5, 3}
	const context, tokens = 4, 15
	text := slices.Clone(prompt)
	for from := 0; len(text) < len(prompt)+tokens; {
		last := len(text) - 1 // position of the token that is read last
		for last-from >= context {
			from += context - context/2
		}
		text = append(text, generate(t, e, text[from:], SampleOptions{Tokens: 1, TopP: 1})...)
	}
	got := generate(t, e, prompt, SampleOptions{Tokens: tokens, TopP: 1, Context: context})
	if !slices.Equal(got, text[len(prompt):]) {
		t.Errorf("with a context of %d: %v, want %v", context, got, text[len(prompt):])
	}
}

func TestGenerateStops(t *testing.T) {
	e := newEngine(t, named(t, "plain"), Options{Threads: 1})
	o := SampleOptions{Tokens: 5, TopP: 1}
	stop := errors.New("stop")
	if err := e.Generate(context.Background(), []int32{1}, o, func(int32) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("emit's error comes back as %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	count := 0
	err := e.Generate(ctx, []int32{1}, o, func(int32) error { count++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || count != 1 {
		t.Errorf("cancelled after one token: %v, %d tokens", err, count)
	}
	e.Params()[0] = float32(math.NaN())
	if err := e.Generate(context.Background(), []int32{0}, o, func(int32) error { return nil }); !errors.Is(err, ErrNotFinite) {
		t.Errorf("a NaN weight gives %v", err)
	}
}

func TestGenerateRefuses(t *testing.T) {
	e := newEngine(t, named(t, "plain"), Options{Threads: 1})
	emit := func(int32) error { t.Error("something was written"); return nil }
	for field, o := range map[string]SampleOptions{
		"context":     {TopP: 1, Context: -1},
		"tokens":      {Tokens: -1, TopP: 1},
		"temperature": {Tokens: 1, TopP: 1, Temperature: math.NaN()},
		"top_p":       {Tokens: 1, Temperature: 1},
	} {
		var input *fault.Input
		if err := e.Generate(context.Background(), []int32{1}, o, emit); !errors.As(err, &input) || input.Where != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, prompt := range [][]int32{nil, {-1}, {7}} {
		if e.Generate(context.Background(), prompt, SampleOptions{Tokens: 1, TopP: 1}, emit) == nil {
			t.Errorf("prompt %v was taken", prompt)
		}
	}
}

// TestSamplerFollowsProbabilities counts draws of a known distribution.
func TestSamplerFollowsProbabilities(t *testing.T) {
	logits := []float32{float32(math.Log(0.1)), float32(math.Log(0.6)), float32(math.Log(0.3))}
	for _, c := range []struct {
		temperature, topP float64
		want              []float64
	}{
		{1, 1, []float64{0.1, 0.6, 0.3}},
		{1, 0.9, []float64{0, 2. / 3, 1. / 3}},
		{1, 0.5, []float64{0, 1, 0}},
		{0.5, 1, []float64{0.01 / 0.46, 0.36 / 0.46, 0.09 / 0.46}},
	} {
		s := newSampler(SampleOptions{Temperature: c.temperature, TopP: c.topP, Seed: 9}, 3)
		const n = 20_000
		counts := make([]float64, 3)
		for i := range n {
			token, err := s.draw(logits, i)
			if err != nil {
				t.Fatal(err)
			}
			counts[token]++
		}
		for i, want := range c.want {
			if math.Abs(counts[i]/n-want) > 0.015 {
				t.Errorf("temperature %v, top p %v: token %d was drawn with frequency %v, want %v", c.temperature, c.topP, i, counts[i]/n, want)
			}
		}
	}
}
