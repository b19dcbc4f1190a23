package outer

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestShare(t *testing.T) {
	fast := func(n int64) Credit { return Credit{"fast", n} }
	slow := func(n int64) Credit { return Credit{"slow", n} }
	third := func(n int64) Credit { return Credit{"third", n} }
	both := Merge{fast(200), slow(100)}
	live := []string{"fast", "slow"}
	tests := []struct {
		name string
		log  []Merge
		live []string
		now  []Credit
		want float64
	}{
		{"a lone island makes whole steps", nil, live[:1], []Credit{fast(5)}, 1},
		{"everybody speaks, nothing known", nil, live, both, 1},
		{"one of two equals", nil, live, []Credit{fast(200)}, 1. / 2},
		{"one merge each is not enough to measure by", []Merge{both}, live, []Credit{fast(200)}, 1. / 2},
		{"measured by tokens", []Merge{both, both}, live, []Credit{fast(1)}, 2. / 3},
		{"tokens now do not count", []Merge{both, both}, live, []Credit{slow(1e6)}, 1. / 3},
		{"everybody speaks, measured", []Merge{both, both}, live, both, 1},
		{
			"the shortest tail with two merges of each",
			[]Merge{{slow(1e6)}, {slow(100)}, {fast(100)}, {fast(100)}, {slow(100)}, {fast(100)}},
			live, []Credit{slow(1)}, 2. / 5,
		},
		{"who left does not count", []Merge{both, both}, live[:1], []Credit{fast(1)}, 1},
		{
			"a newcomer is one of three equals",
			[]Merge{both, both}, []string{"fast", "slow", "third"}, []Credit{third(1)}, 1. / 3,
		},
		{
			"beside a newcomer the others divide the rest",
			[]Merge{both, both, {third(9)}}, []string{"fast", "slow", "third"}, []Credit{fast(1)}, 2. / 3 * 2. / 3,
		},
		{
			"who speaks is in the fleet even when it has left",
			[]Merge{both, both}, live[:1], []Credit{slow(1)}, 1. / 3,
		},
		{"no tokens to measure by", []Merge{{fast(0)}, {fast(0)}}, live, []Credit{fast(0)}, 1. / 2},
		{"nobody speaks", []Merge{both, both}, live, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Share(tt.log, tt.live, tt.now); math.Abs(got-tt.want) > 1e-15 {
				t.Errorf("Share = %v, want %v", got, tt.want)
			}
		})
	}
}

func drawLog(t *rapid.T, names []string) []Merge {
	log := make([]Merge, rapid.IntRange(0, 8).Draw(t, "merges"))
	for i := range log {
		for _, name := range drawSome(t, names) {
			log[i] = append(log[i], Credit{name, rapid.Int64Range(0, 1000).Draw(t, "tokens")})
		}
	}
	return log
}

func drawSome(t *rapid.T, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(string) bool { return rapid.Bool().Draw(t, "absent") })
}

func credits(names []string) []Credit {
	out := make([]Credit, len(names))
	for i, name := range names {
		out[i] = Credit{name, 1}
	}
	return out
}

// Shares of a fleet that speaks one by one come to 1; speaking together changes
// nothing, and the order of names and credits does not matter.
func TestSharesOfTheFleetComeToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := []string{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(t, "live")]
		log := drawLog(t, []string{"a", "b", "c", "d", "left"})
		var sum float64
		for _, name := range live {
			sum += Share(log, live, credits([]string{name}))
		}
		if math.Abs(sum-1) > 1e-12 {
			t.Fatalf("shares come to %v", sum)
		}
		some := drawSome(t, live)
		together := Share(log, live, credits(some))
		sum = 0
		for _, name := range some {
			sum += Share(log, live, credits([]string{name}))
		}
		if math.Abs(sum-together) > 1e-12 {
			t.Fatalf("alone %v in all, together %v", sum, together)
		}
		slices.Reverse(some)
		backwards := slices.Clone(live)
		slices.Reverse(backwards)
		if got := Share(log, backwards, credits(some)); got != together {
			t.Fatalf("in another order %v, was %v", got, together)
		}
		if got := Share(log, live, credits(live)); got != 1 {
			t.Fatalf("everybody's share is %v", got)
		}
	})
}

// The slow twin tries tails of the log from the shortest on.
func TestShareAgreesWithTheSlowTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := []string{"a", "b", "c"}
		log := drawLog(t, []string{"a", "b", "c", "left"})
		speaker := rapid.SampledFrom(live).Draw(t, "speaker")
		got := Share(log, live, credits([]string{speaker}))
		if want := slowShare(log, live, speaker); math.Abs(got-want) > 1e-12 {
			t.Fatalf("Share = %v, slow twin %v", got, want)
		}
	})
}

func slowShare(log []Merge, live []string, speaker string) float64 {
	count := func(tail []Merge, name string) (merges int, tokens int64) {
		for _, m := range tail {
			for _, c := range m {
				if c.Learner == name {
					merges++
					tokens += c.Tokens
				}
			}
		}
		return merges, tokens
	}
	var known []string
	for _, name := range live {
		if n, _ := count(log, name); n >= settled {
			known = append(known, name)
		}
	}
	equal := 1 / float64(len(live))
	for from := len(log); from >= 0; from-- {
		var total int64
		enough := true
		for _, name := range known {
			n, tokens := count(log[from:], name)
			enough = enough && n >= settled
			total += tokens
		}
		switch {
		case !enough:
			continue
		case total == 0 || !slices.Contains(known, speaker):
			return equal
		}
		_, own := count(log[from:], speaker)
		return float64(own) / float64(total) * float64(len(known)) * equal
	}
	panic("the whole log is always enough")
}
