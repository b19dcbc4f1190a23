package search

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
)

// catalogue is read once.
var catalogue = sync.OnceValue(chip.Builtin)

// drawn is a question about a small fleet.
func drawn(t *rapid.T, by Objective) Question {
	sparse := rapid.Bool().Draw(t, "experts")
	shape := anatomy.Shape{Name: "drawn", Layers: rapid.SampledFrom([]int{4, 6, 7}).Draw(t, "layers"), Hidden: 1024, Heads: 8, KVHeads: 4, FFN: 4096, Vocab: 32000}
	if sparse {
		shape.Experts, shape.TopK, shape.ExpertFFN = 4, 2, 2048
	}
	d, err := shape.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	f := fleet.Fleet{File: "drawn.yaml", Currency: "USD"}
	pools := rapid.IntRange(1, 3).Draw(t, "pools")
	for i := range pools {
		name := rapid.SampledFrom([]string{"a100-80g-sxm", "h800-80g-sxm", "ascend-910b2", "mi300x", "h20"}).Draw(t, "chip")
		c, err := catalogue().Find(name)
		if err != nil {
			t.Fatal(err)
		}
		c = c.With(chip.MemoryGB, number(rapid.Float64Range(2, 14).Draw(t, "memory"), "GB")).With(chip.NodeChips, number(4, "chips"))
		p := fleet.Pool{Name: fmt.Sprintf("p%d", i), Chip: c, Count: rapid.IntRange(1, 13).Draw(t, "count"), Use: fleet.OnDemand}
		p.Prices = []fleet.Price{{Amount: float64(rapid.IntRange(1, 40).Draw(t, "price")) / 4, Currency: "USD", Kind: fleet.OnDemand}}
		f.Pools = append(f.Pools, p)
		if rapid.IntRange(0, 4).Draw(t, "linked") > 0 {
			l := fleet.Link{Between: [2]string{p.Name, fleet.SyncersPlace}, Rate: rapid.Float64Range(1e7, 1e10).Draw(t, "rate")}
			if rapid.Bool().Draw(t, "priced") {
				l.Price = &fleet.Price{Amount: 0.05, Currency: "USD"}
			}
			f.Links = append(f.Links, l)
		}
	}
	if islands := rapid.IntRange(1, 4).Draw(t, "islands"); islands > 1 {
		f.Exchange = fleet.Exchange{MaxIslands: islands, MaxPeriod: int64(rapid.IntRange(1e6, 1e8).Draw(t, "period"))}
	}
	q := Question{Task: plan.Task{Model: d, Sequence: 1024, Batch: rapid.SampledFrom([]int{16, 24, 60, 64}).Draw(t, "batch"), Format: "bf16"},
		Tokens: int64(rapid.IntRange(1e8, 1e11).Draw(t, "tokens")), Fleet: f, Objective: by, Constants: plan.BuiltinConstants()}
	return q
}

func number(x float64, unit string) chip.Figure {
	v, err := chip.ParseValue(fmt.Sprintf("%.3f", x))
	if err != nil {
		panic(err)
	}
	return chip.Figure{Value: v, Unit: unit}
}

// brute tries all: every layout of every island, and every combination of islands.
func brute(s *search) []combination {
	var all []combination
	for _, c := range s.choices {
		pools := make([][]*option, len(s.grounds))
		for at, g := range s.grounds {
			for _, n := range sizes(g.chips, g.host, s.most) {
				f := slowest(g, n, s.q.Task.Batch/c.islands, c.islands == 1)
				for count := 1; f.ok && count <= c.islands && count*n <= g.chips && (g.path.ok || c.islands == 1); count++ {
					pools[at] = append(pools[at], s.option(at, n, count, c, f))
				}
			}
		}
		var place func(at, left int, chosen []*option)
		place = func(at, left int, chosen []*option) {
			if at == len(pools) {
				if left == 0 {
					all = append(all, s.price(c, slices.Clone(chosen)))
				}
				return
			}
			place(at+1, left, chosen)
			for _, o := range pools[at] {
				if o.count <= left {
					place(at+1, left-o.count, append(slices.Clone(chosen), o))
				}
			}
		}
		place(0, c.islands, nil)
	}
	return all
}

// bestOf are the best that keep a goal.
func bestOf(all []combination, t goal) []combination {
	all = slices.DeleteFunc(slices.Clone(all), func(c combination) bool { return !t.keeps(c) })
	slices.SortFunc(all, t.best)
	return all[:min(len(all), t.top)]
}

// slowest is the twin of fastest.
func slowest(g *ground, chips, batch int, exact bool) (out found) {
	g.space.frames(chips, batch, exact, func(f frame) {
		for _, v := range g.space.stages(f) {
			for _, t := range g.space.thrift(f) {
				f.VPP, f.ZeRO, f.Recompute = v, t.ZeRO, t.Recompute
				s := g.model.For(f.batch).Step(f.Layout)
				rate := g.speed(f.batch, s.Seconds)
				if s.Bytes() > g.hardware.Room() || out.ok && (rate < out.rate || rate == out.rate && !less(f, out.frame)) {
					continue
				}
				out.frame, out.step, out.rate, out.ok = f, s, rate, true
			}
		}
	})
	return out
}

// The same best ten as by trying everything, on 200 small fleets, with and without
// deadline and budget.
func TestBestTenAreThoseOfBruteForce(t *testing.T) {
	for _, by := range []Objective{Cost, Time} {
		t.Run(string(by), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { compareWithBrute(t, drawn(t, by)) })
		})
	}
}

func compareWithBrute(t *rapid.T, q Question) {
	s, _, err := newSearch(q)
	if err != nil {
		t.Fatal(err)
	}
	s.layouts()
	for k, f := range s.table {
		task := q.Task
		task.Batch = f.batch
		if err := f.Check(task); f.ok && (err != nil || f.CheckChips(k.chips) != nil || f.Chips() != k.chips) {
			t.Fatalf("%+v: %+v: %v", k, f.frame, err)
		}
	}
	free := s.goal()
	all := brute(s)
	goals := []goal{{by: free.by, deadline: free.deadline, budget: free.budget, top: 10}}
	if len(all) > 0 {
		middle := all[rapid.IntRange(0, len(all)-1).Draw(t, "middle")]
		for _, factor := range []float64{1, 0.9, 1.5} {
			goals = append(goals, goal{free.by, middle.seconds * factor, free.budget, 10, 0}, goal{free.by, free.deadline, middle.cost * factor, 10, 0},
				goal{free.by, middle.seconds * factor, middle.cost * 1.2, 3, 0})
		}
	}
	for _, g := range goals {
		want, got := told(bestOf(all, g)), told(s.find(g))
		if !slices.Equal(got, want) {
			t.Fatalf("%+v:\n%s\nwant\n%s", g, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// told writes combinations out.
func told(all []combination) []string {
	var out []string
	for _, c := range all {
		line := fmt.Sprintf("%v s, %v", c.seconds, c.cost)
		for _, o := range c.options {
			line += fmt.Sprintf("; %d of %d chips on %d: %v", o.count, o.chips, o.ground, o.found.frame)
		}
		out = append(out, line)
	}
	return out
}

// The answer is the same bytes for any number of threads.
func TestAnswersAreTheSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := drawn(t, Cost)
		var first string
		for i, parallel := range []func(int, func(int)){nil, threads(1), threads(2), threads(5)} {
			q.Parallel = parallel
			a, err := Run(q)
			data, broken := json.Marshal(a)
			if broken != nil {
				t.Fatal(broken)
			}
			text := fmt.Sprintf("%s %v", data, err)
			if i == 0 {
				first = text
			} else if text != first {
				t.Fatalf("%s\nis not\n%s", text, first)
			}
		}
	})
}
