package serve

import (
	"math"
	"strings"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/wire"
)

// oneWeight is a bank of one fragment with the tensors a [1] and b [2].
func oneWeight(step outer.Step, a float32) *bank {
	f := fragment.Fragment{
		Tensors: []model.Tensor{{Name: "a", Shape: []int{1}}, {Name: "b", Shape: []int{2}, Offset: 1}},
		Sizes:   []int{1, 2}, Size: 3,
	}
	b := newBank([]fragment.Fragment{f}, step, 2)
	b.load([]float32{a, 0, 0}, make([]float32, 3))
	return b
}

func send(b *bank, incarnation uint64, tokens uint64, delta ...float32) string {
	c := &wire.Contribution{ToPosition: tokens / 2, Tokens: tokens, TensorTokens: []uint64{tokens, tokens}}
	return b.put(syncer.Key{Incarnation: incarnation, Sequence: 1}, c, wire.AppendF32(nil, delta))
}

func merge(b *bank, incarnations ...uint64) syncer.Merged {
	m := syncer.Merge{Share: 1}
	for _, i := range incarnations {
		m.Keys = append(m.Keys, syncer.Key{Incarnation: i, Sequence: 1})
	}
	return b.merge(m)
}

// B1 (CASES: updates of 3 islands for one weight: 0.2, NaN, 0.4): the NaN is refused
// with its tensor named, the mean of the others is 0.3.
func TestB1MeanWithoutTheRefused(t *testing.T) {
	b := oneWeight(outer.Step{Rate: 1}, 1)
	nan := float32(math.NaN())
	if why := send(b, 1, 100, 0.2, 0, 0); why != "" {
		t.Fatal(why)
	}
	if why := send(b, 2, 100, nan, 0, 0); !strings.Contains(why, "tensor a ") {
		t.Errorf("NaN in tensor a: %q", why)
	}
	if why := send(b, 3, 100, 0.4, 0, 0); why != "" {
		t.Fatal(why)
	}
	if m := merge(b, 1, 3); !m.Finite {
		t.Error("not finite")
	}
	if b.theta[0][0] != 1 {
		t.Error("the merge shows before it is committed")
	}
	b.install(syncer.Install{Version: 1, Stamp: 200})
	if got := float64(b.theta[0][0]); math.Abs(got-0.7) > 1e-6 {
		t.Errorf("weight %v, want 1 - 0.3", got)
	}
	if b.version[0] != 1 || b.stamp[0] != 200 {
		t.Errorf("version %d, stamp %d", b.version[0], b.stamp[0])
	}
}

// State takes the mean weighed by tokens and nothing else: no rate, no share, no
// momentum of an earlier merge.
func TestStateIsTheMean(t *testing.T) {
	b := oneWeight(outer.Step{Rate: 0.7, Momentum: 0.9}, 1)
	b.fragments[0].Tensors[1].Kind = model.State
	for round := range 2 {
		send(b, 1, 300, 0.2, 0.4, -1)
		send(b, 2, 100, 0.2, 0.8, 3)
		b.merge(syncer.Merge{Share: 0.25, Keys: []syncer.Key{{Incarnation: 1, Sequence: 1}, {Incarnation: 2, Sequence: 1}}})
		b.install(syncer.Install{Version: uint64(round + 1)})
		want := []float64{-0.5 * float64(round+1), 0}
		for i, got := range b.theta[0][1:] {
			if math.Abs(float64(got)-want[i]) > 1e-6 {
				t.Errorf("merge %d: state %d is %v, want %v", round+1, i, got, want[i])
			}
		}
	}
	if moved := 1 - float64(b.theta[0][0]); moved < 0.05 || moved > 0.3 {
		t.Errorf("the weight moved by %v: the outer step is not that of a share", moved)
	}
}

// B13 through the bank: pseudo-gradient 0.2 at weight 1; rate 1 without momentum gives
// 0.8, rate 0.7 with momentum 0.9 gives 0.734.
func TestB13OuterStep(t *testing.T) {
	for want, step := range map[float64]outer.Step{0.8: {Rate: 1}, 0.734: {Rate: 0.7, Momentum: 0.9}} {
		b := oneWeight(step, 1)
		send(b, 1, 10, 0.2, 0, 0)
		merge(b, 1)
		b.install(syncer.Install{Version: 1})
		if got := float64(b.theta[0][0]); math.Abs(got-want) > 1e-6 {
			t.Errorf("weight %v, want %v", got, want)
		}
	}
}

// A2: pseudo-gradients of zero leave weights and momentum as they are, to the bit.
func TestA2ZeroPseudoGradients(t *testing.T) {
	b := oneWeight(outer.Step{Rate: 0.7, Momentum: 0.5}, 0.1)
	_, before := digests(b.theta[0], b.momentum[0])
	for inc := range uint64(3) {
		send(b, inc+1, 10, 0, 0, 0)
	}
	if m := merge(b, 1, 2, 3); m.Digest != before || m.Norm != 0 {
		t.Errorf("%+v, the digest was %s", m, before)
	}
}

func TestContributionsOfAnotherShape(t *testing.T) {
	good := func() *wire.Contribution {
		return &wire.Contribution{FromPosition: 5, ToPosition: 10, Tokens: 10, TensorTokens: []uint64{10, 0}}
	}
	payload := make([]byte, 12)
	for name, bad := range map[string]struct {
		key     syncer.Key
		change  func(*wire.Contribution)
		payload []byte
		why     string
	}{
		"no such fragment":    {syncer.Key{Fragment: 1}, nil, payload, "does not exist"},
		"negative fragment":   {syncer.Key{Fragment: -1}, nil, payload, "does not exist"},
		"payload too short":   {syncer.Key{}, nil, payload[:8], ""},
		"payload too long":    {syncer.Key{}, nil, append(payload, 0, 0, 0, 0), ""},
		"payload missing":     {syncer.Key{}, nil, nil, ""},
		"counts missing":      {syncer.Key{}, func(c *wire.Contribution) { c.TensorTokens = nil }, payload, "token counts of 0 tensors"},
		"more than it has":    {syncer.Key{}, func(c *wire.Contribution) { c.TensorTokens[1] = 11 }, payload, "claims 11 tokens of 10"},
		"more than can be":    {syncer.Key{}, func(c *wire.Contribution) { c.TensorTokens[1] = math.MaxUint64 }, payload, "claims"},
		"not what it trained": {syncer.Key{}, func(c *wire.Contribution) { c.Tokens = 12 }, payload, "12 tokens are claimed for sample positions 5 to 10"},
		"backwards":           {syncer.Key{}, func(c *wire.Contribution) { c.ToPosition, c.Tokens = 4, math.MaxUint64-1 }, payload, "claimed"},
	} {
		b := oneWeight(outer.Step{Rate: 1}, 0)
		c := good()
		if bad.change != nil {
			bad.change(c)
		}
		if why := b.put(bad.key, c, bad.payload); why == "" || !strings.Contains(why, bad.why) {
			t.Errorf("%s: %q, want %q", name, why, bad.why)
		}
		if len(b.parts) != 0 {
			t.Errorf("%s: it was kept", name)
		}
	}
}

// A contribution that is sent again is the same one; the first payload stays.
func TestContributionSentAgain(t *testing.T) {
	b := oneWeight(outer.Step{Rate: 1}, 1)
	send(b, 1, 10, 0.5, 0, 0)
	send(b, 1, 10, 99, 0, 0)
	merge(b, 1)
	b.install(syncer.Install{Version: 1})
	if b.theta[0][0] != 0.5 {
		t.Errorf("weight %v", b.theta[0][0])
	}
	b.discard(syncer.Key{Incarnation: 1, Sequence: 1})
	if len(b.parts) != 0 {
		t.Error("a payload was kept after its verdict")
	}
}

// S3: a merge that overflows is not finite and does not touch what is there.
func TestOverflowingMerge(t *testing.T) {
	b := oneWeight(outer.Step{Rate: 1}, -math.MaxFloat32)
	send(b, 1, 10, math.MaxFloat32, 0, 0)
	if m := merge(b, 1); m.Finite {
		t.Error("an overflow counts as finite")
	}
	if b.theta[0][0] != -math.MaxFloat32 {
		t.Error("the weight moved")
	}
}

// Danger: memory of a contribution that is done with takes what comes next while the bank still reads it,
// as when the contribution was sent twice, or is given away twice, so that two contributions share it.
// Whatever comes, comes again, is merged and discarded in whatever order: each piece of memory has one
// owner, and merges are those of a slow twin that keeps the first of what was sent and copies it.
func TestMemoryOfContributionsIsReused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := oneWeight(outer.Step{Rate: 1}, 0)
		var free [][]byte // given back, and not used again
		b.reuse = func(payload []byte) {
			for i := range payload {
				payload[i] = 0xff // NaN: whoever still reads it shows it
			}
			for _, other := range free {
				if unsafe.SliceData(other) == unsafe.SliceData(payload) {
					t.Fatal("it is given back twice")
				}
			}
			free = append(free, payload)
		}
		kept := map[syncer.Key]float32{} // the twin
		weight := float64(b.theta[0][0])
		keys := rapid.Custom(func(t *rapid.T) syncer.Key {
			return syncer.Key{Incarnation: rapid.Uint64Range(1, 2).Draw(t, "incarnation"), Sequence: rapid.Uint64Range(1, 3).Draw(t, "sequence")}
		})
		put := func(t *rapid.T) {
			key, value := keys.Draw(t, "key"), float32(rapid.IntRange(-8, 8).Draw(t, "value"))
			payload := wire.AppendF32(nil, []float32{value, 0, 0})
			if len(free) > 0 && rapid.Bool().Draw(t, "in memory that was given back") {
				copy(free[0], payload)
				payload, free = free[0], free[1:]
			}
			if why := b.put(key, &wire.Contribution{ToPosition: 5, Tokens: 10, TensorTokens: []uint64{10, 10}}, payload); why != "" {
				t.Fatal(why)
			}
			if _, there := kept[key]; !there {
				kept[key] = value
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"sent": put, "sent again": put,
			"discarded": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				given := len(free)
				_, there := kept[key]
				b.discard(key)
				delete(kept, key)
				if (len(free) > given) != there {
					t.Fatalf("there: %v, %d pieces are free of %d before", there, len(free), given)
				}
			},
			"merged": func(t *rapid.T) {
				m, sum := syncer.Merge{Share: 1}, 0.0
				for key, value := range kept {
					m.Keys, sum = append(m.Keys, key), sum+float64(value)
				}
				if len(m.Keys) == 0 {
					t.Skip("nothing is there")
				}
				if got := b.merge(m); !got.Finite {
					t.Fatal("the merge is of memory that was given back")
				}
				b.install(syncer.Install{})
				weight -= sum / float64(len(m.Keys))
				if got := float64(b.theta[0][0]); math.Abs(got-weight) > 1e-4 {
					t.Fatalf("weight %v, want %v", got, weight)
				}
				weight = float64(b.theta[0][0])
			},
			"": func(t *rapid.T) {
				if len(b.parts) != len(kept) {
					t.Fatalf("%d contributions are kept, %d are to be", len(b.parts), len(kept))
				}
			},
		})
	})
}
