package island

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/wire"
)

// twin follows one fragment by the words of the design, element by element.
type twin struct {
	theta, anchor, sent []float32
	version             uint64
	under               bool
	from, at, sentAt    int64 // positions: start of the next contribution, now, when it was sent
	stamp, stampAt      int64 // the clock in tokens
}

func (w *twin) send() (delta []float32) {
	for i := range w.theta {
		d := w.anchor[i] - w.theta[i]
		w.sent[i] = w.anchor[i] - d
		delta = append(delta, d)
	}
	w.under, w.from, w.sentAt = true, w.at, w.at
	return delta
}

func (w *twin) adopt(version uint64, stamp int64, value []float32) {
	for i := range w.theta {
		if value[i] != w.sent[i] {
			w.theta[i] += value[i] - w.sent[i]
		}
	}
	copy(w.anchor, value)
	w.version, w.under = version, false
	w.stamp, w.stampAt = stamp, w.sentAt
}

func (w *twin) seed(version uint64, stamp int64, value []float32) {
	copy(w.theta, value)
	copy(w.anchor, value)
	w.version, w.from = version, w.at
	if w.under {
		copy(w.sent, value)
	}
	if stamp >= w.tokens() {
		w.stamp, w.stampAt = stamp, w.at
	}
}

func (w *twin) tokens() int64 { return w.stamp + (w.at-w.stampAt)*sampleTokens }

const sampleTokens = 16

// Contributions, verdicts of all kinds and seeds in any order leave learner and twin
// with the same bits and counters.
func TestExchangeAgainstTheTwin(t *testing.T) {
	run, data, _ := tiny(t, nil)
	base := seeded(t, run, data)
	rapid.Check(t, func(t *rapid.T) {
		const size = 5
		f := &exchange{
			Fragment: fragment.Fragment{Tensors: []model.Tensor{{Name: "x", Shape: []int{size}, Offset: 3}}, Sizes: []int{size}, Size: size},
			anchor:   make([]float32, size), sentExperts: make([]int64, len(base.expert)),
		}
		l := &Learner{run: run, trainer: base.trainer, fragments: []*exchange{f}, expert: make([]int64, len(base.expert))}
		own := base.Params()[3 : 3+size]
		clear(own)
		w := &twin{theta: make([]float32, size), anchor: make([]float32, size), sent: make([]float32, size)}
		value := func(t *rapid.T) []float32 {
			return rapid.SliceOfN(rapid.Float32Range(-100, 100), size, size).Draw(t, "value")
		}
		answer := func(t *rapid.T, ruling wire.Ruling, v []float32) {
			version, stamp := w.version+uint64(rapid.IntRange(1, 3).Draw(t, "ahead")), w.stamp+rapid.Int64Range(0, 500).Draw(t, "stamp")
			f.flight.verdict = &verdict{ruling: ruling, version: version, stamp: stamp, value: v}
			l.adopt(0)
			w.adopt(version, stamp, v)
		}
		t.Repeat(map[string]func(*rapid.T){
			"train": func(t *rapid.T) {
				for i, d := range value(t) {
					own[i] += d
					w.theta[i] += d
				}
				l.step++
				l.position += 4
				w.at += 4
			},
			"contribute": func(t *rapid.T) {
				if w.under {
					if _, err := l.contribute(0, false); err == nil {
						t.Fatal("two contributions under way")
					}
					return
				}
				from, anchored := w.from, f.version
				fl, err := l.contribute(0, true)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]float32, size)
				if err := wire.DecodeF32(got, fl.payload); err != nil {
					t.Fatal(err)
				}
				if !sameBits(got, w.send()) {
					t.Fatalf("pseudo-gradient %v", got)
				}
				m := fl.message
				if int64(m.FromPosition) != from || int64(m.ToPosition) != w.at || int64(m.Tokens) != (w.at-from)*sampleTokens ||
					m.BaseVersion != anchored || m.Sequence != f.sequence || !m.Flush || m.TensorTokens[0] != m.Tokens {
					t.Fatalf("contribution %v", m)
				}
			},
			"merged":  func(t *rapid.T) { only(t, w.under); answer(t, wire.Ruling_MERGED, value(t)) },
			"dropped": func(t *rapid.T) { only(t, w.under); answer(t, wire.Ruling_DROPPED, value(t)) },
			"merged as it was sent": func(t *rapid.T) { // a lone island: not a bit moves (D5)
				only(t, w.under)
				before := slices.Clone(own)
				answer(t, wire.Ruling_MERGED, slices.Clone(w.sent))
				if !sameBits(own, before) {
					t.Fatal("the weights moved")
				}
			},
			"refused": func(t *rapid.T) {
				only(t, w.under)
				before := slices.Clone(own)
				f.flight.verdict = &verdict{ruling: wire.Ruling_REFUSED}
				l.adopt(0)
				w.under = false
				if !sameBits(own, before) {
					t.Fatal("a refusal moved the weights")
				}
			},
			"seed": func(t *rapid.T) {
				v, version, stamp := value(t), w.version+1, rapid.Int64Range(0, 5000).Draw(t, "stamp")
				if err := l.seed(0, version, stamp, v); err != nil {
					t.Fatal(err)
				}
				w.seed(version, stamp, v)
			},
			"": func(t *rapid.T) {
				if !sameBits(own, w.theta) || !sameBits(f.anchor, w.anchor) || f.version != w.version || (f.flight != nil) != w.under {
					t.Fatalf("weights %v, anchor %v, version %d; want %v, %v, %d", own, f.anchor, f.version, w.theta, w.anchor, w.version)
				}
				if f.sentPosition != w.from || l.clock.at(l.ownTokens()) != w.tokens() {
					t.Fatalf("position %d, clock %d; want %d, %d", f.sentPosition, l.clock.at(l.ownTokens()), w.from, w.tokens())
				}
				if l.dirty(f) != (w.at > w.from) {
					t.Fatal("dirty or not")
				}
			},
		})
	})
}

func only(t *rapid.T, when bool) {
	if !when {
		t.Skip("nothing is under way")
	}
}

func TestSeedOfAnotherSize(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	if err := l.seed(0, 1, 0, make([]float32, 3)); err == nil {
		t.Error("a seed of 3 elements was taken")
	}
}

// A2 (CASES: a round with 0 inner steps and one with learning rate 0: every
// pseudo-gradient exactly 0): nothing was trained, so there is nothing to send; with
// rate 0 what is sent is 0.
func TestA2NothingLearned(t *testing.T) {
	run, data, _ := tiny(t, nil)
	run.Train.PeakRate, run.Train.FinalRate = 0, 0
	l := seeded(t, run, data)
	for p, f := range l.fragments {
		if l.dirty(f) || l.rounded(f) {
			t.Errorf("fragment %d wants to be sent before the first step", p)
		}
	}
	l.Lease(0, 40)
	steps(t, l, 3)
	for p, f := range l.fragments {
		fl, err := l.contribute(p, false)
		if err != nil {
			t.Fatal(err)
		}
		delta := make([]float32, f.Size)
		if err := wire.DecodeF32(delta, fl.payload); err != nil {
			t.Fatal(err)
		}
		if !sameBits(delta, make([]float32, f.Size)) {
			t.Errorf("fragment %d: a pseudo-gradient that is not 0", p)
		}
	}
}

// Each expert counts the tokens that were routed to it since the last contribution,
// any other tensor all of them.
func TestTensorTokens(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	l.Lease(0, 400)
	sent := make([]int64, len(l.expert))
	for round := range 3 {
		steps(t, l, round+1)
		tokens := int64(round+1) * 64
		var routed int64
		for p := range l.fragments {
			fl, err := l.contribute(p, false)
			if err != nil {
				t.Fatal(err)
			}
			for i, n := range fl.message.TensorTokens {
				m := l.fragments[p].Tensors[i]
				want := tokens
				if m.Kind == model.Expert {
					at := m.Layer*run.Model.Experts + m.Expert
					want = l.expert[at] - sent[at]
					routed += want
				}
				if int64(n) != want {
					t.Errorf("round %d, tensor %s: %d tokens, want %d", round, m.Name, n, want)
				}
			}
			l.fragments[p].flight = nil
		}
		if matrices := int64(3); routed != matrices*int64(run.Model.TopK)*tokens*moeLayers(l) {
			t.Errorf("round %d: %d tokens were routed in all", round, routed)
		}
		copy(sent, l.expert)
	}
}

// An island with data of its own has trained beyond its lease. Its contribution stands for
// what is leased, and no expert for more: the syncer would refuse it.
func TestExpertsBeyondTheLease(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	l.Lease(0, 400)
	steps(t, l, 1)
	for i := range l.expert {
		l.expert[i] += 1000
	}
	for p := range l.fragments {
		fl, err := l.contribute(p, false)
		if err != nil {
			t.Fatal(err)
		}
		if most := slices.Max(fl.message.TensorTokens); most != 64 || fl.message.Tokens != 64 {
			t.Errorf("fragment %d: a tensor counts %d tokens of %d", p, most, fl.message.Tokens)
		}
	}
}

// moeLayers is the number of layers with experts.
func moeLayers(l *Learner) int64 { return int64(l.run.Model.Layers - l.run.Model.DenseLayers) }

// The second contribution of a lone island, of no samples, brings the syncer's value
// to the learner's to the bit, even where the first was rounded.
func TestRoundingGapCloses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		anchor := rapid.Float32Range(-1e3, 1e3).Draw(t, "anchor")
		own := rapid.Float32Range(-1e3, 1e3).Draw(t, "own")
		for range 4 {
			if anchor == own {
				return
			}
			anchor -= anchor - own
		}
		if anchor != own {
			t.Fatalf("%v, want %v, still %v", anchor, own, math.Abs(float64(anchor-own)))
		}
	})
}
