package corpus

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// slowNGrams is the slow twin: maps from strings to counts.
func slowNGrams(train, valid string) ngrams {
	followed := map[string]float64{} // by context: how often something follows it
	counts := map[string]float64{}
	for i := 2; i < len(train); i++ {
		counts[train[i-2:i+1]]++
		followed[train[i-2:i]]++
	}
	shorter := func(counts map[string]float64) map[string]float64 {
		out := map[string]float64{}
		for gram, n := range counts {
			out[gram[:len(gram)-1]] += n
		}
		return out
	}
	pairs := shorter(counts)
	singles := shorter(pairs)
	total := shorter(singles)[""]

	bits := func(n, all float64) float64 { return -math.Log((n + addK) / (all + 256*addK)) }
	var sum ngrams
	for i := range len(valid) {
		one := bits(singles[valid[i:i+1]], total)
		two, three := one, one
		if i >= 1 {
			two = bits(pairs[valid[i-1:i+1]], singles[valid[i-1:i]])
			three = two
		}
		if i >= 2 {
			three = bits(counts[valid[i-2:i+1]], followed[valid[i-2:i]])
		}
		sum.Unigram += one
		sum.Bigram += two
		sum.Trigram += three
	}
	n := float64(len(valid))
	return ngrams{Unigram: sum.Unigram / n, Bigram: sum.Bigram / n, Trigram: sum.Trigram / n, AddK: addK}
}

func TestNGramsAgreeWithTheSlowTwin(t *testing.T) {
	for _, tt := range []struct{ name, train, valid string }{
		{"words", "the cat sat on the mat\xffthe end\xff", "the mat sat\xff"},
		{"unseen bytes", "aaaa", "zzz\xff"},
		{"shorter than a trigram", "a", "b"},
		{"empty training text", "", "abc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := measure(t.Context(), strings.NewReader(tt.train), strings.NewReader(tt.valid))
			if err != nil {
				t.Fatal(err)
			}
			want := slowNGrams(tt.train, tt.valid)
			for _, pair := range [][2]float64{{got.Unigram, want.Unigram}, {got.Bigram, want.Bigram}, {got.Trigram, want.Trigram}} {
				if math.Abs(pair[0]-pair[1]) > 1e-9 {
					t.Errorf("got %+v, want %+v", *got, want)
				}
			}
		})
	}
}

// Where blocks end must not matter: a context reaches over the end of a block.
func TestNGramsDoNotDependOnBlocks(t *testing.T) {
	text := strings.Repeat("the quick brown fox\n", 60_000) // longer than a block
	whole, err := count(t.Context(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	slow := map[string]uint32{}
	for i := 2; i < len(text); i++ {
		slow[text[i-2:i+1]]++
	}
	if int(whole.total) != len(text)-2 {
		t.Errorf("%d trigrams counted of %d", whole.total, len(text)-2)
	}
	for gram, want := range slow {
		if got := whole.trigram[uint32(gram[0])<<16|uint32(gram[1])<<8|uint32(gram[2])]; got != want {
			t.Errorf("%q counted %d times, want %d", gram, got, want)
		}
	}
}

// However a count is smoothed, the probabilities of what may follow come to 1.
func TestSmoothedProbabilitiesComeToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		followers := rapid.SliceOfN(rapid.Uint32Range(0, 1000), 256, 256).Draw(t, "counts")
		var all uint32
		for _, n := range followers {
			all += n
		}
		var sum float64
		for _, n := range followers {
			sum += math.Exp(-nats(n, all))
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("probabilities come to %v", sum)
		}
	})
}

func TestCountingStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measure(ctx, bytes.NewReader(make([]byte, 10)), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func BenchmarkCountNGrams(b *testing.B) {
	text := bytes.Repeat([]byte("func (s *Set) Close() error { return nil }\n"), 400_000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := count(b.Context(), bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}
