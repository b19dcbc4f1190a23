package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
)

// catalogue is read once.
var catalogue = sync.OnceValue(chip.Builtin)

// drawn is a question about a small fleet.
func drawn(t *rapid.T, by Objective) Question {
	q := Question{Task: plan.Task{Model: drawnModel(t), Sequence: 1024, Batch: rapid.SampledFrom([]int{16, 24, 60, 64}).Draw(t, "batch"), Format: "bf16"},
		Tokens: rapid.SampledFrom([]int64{1e8, 3e9, 1e11, 1e12}).Draw(t, "tokens") + int64(rapid.IntRange(0, 1e6).Draw(t, "more tokens")), Objective: by, Constants: plan.BuiltinConstants(), Start: firstDay}
	q.Fleet = fleet.Fleet{File: "drawn.yaml", Currency: "USD", Rates: []fleet.Rate{{From: "CNY", To: "USD", Rate: 0.14, Date: firstDay}}, Exchange: drawnExchange(t)}
	if rapid.Bool().Draw(t, "syncers") {
		q.Fleet.Syncers = &fleet.Hosts{Count: 3, Memory: rapid.Float64Range(1e9, 2e10).Draw(t, "syncers' memory"), Link: rapid.Float64Range(1e7, 1e9).Draw(t, "syncers' link"),
			Price: &fleet.Price{Amount: 2, Currency: "CNY"}}
	}
	for i := range rapid.SampledFrom([]int{1, 2, 3, 3}).Draw(t, "pools") {
		p := drawnPool(t, fmt.Sprintf("p%d", i))
		q.Fleet.Pools = append(q.Fleet.Pools, p)
		if rapid.SampledFrom([]int{0, 1, 1, 1, 1, 1}).Draw(t, "linked") > 0 {
			l := fleet.Link{Between: [2]string{p.Name, fleet.SyncersPlace}, Rate: rapid.Float64Range(1e7, 1e10).Draw(t, "rate")}
			if rapid.Bool().Draw(t, "priced") {
				l.Price = &fleet.Price{Amount: 0.05, Currency: rapid.SampledFrom([]string{"USD", "CNY"}).Draw(t, "currency")}
			}
			q.Fleet.Links = append(q.Fleet.Links, l)
		}
	}
	return q
}

var firstDay = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

func drawnModel(t *rapid.T) anatomy.Decoder {
	shape := anatomy.Shape{Name: "drawn", Layers: rapid.SampledFrom([]int{4, 6, 7}).Draw(t, "layers"), Hidden: 1024, Heads: 8, KVHeads: 4, FFN: 4096, Vocab: 32000}
	if rapid.Bool().Draw(t, "experts") {
		shape.Experts, shape.TopK, shape.ExpertFFN = 4, 2, 2048
		shape.Shared, shape.DenseLayers = rapid.IntRange(0, 1).Draw(t, "shared"), rapid.IntRange(0, 2).Draw(t, "dense layers")
	}
	d, err := shape.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// drawnPool is a few chips, of a price in one of two currencies, some of them for some
// days only, in hosts of little memory, or of a stated efficiency.
func drawnPool(t *rapid.T, name string) fleet.Pool {
	c, err := catalogue().Find(rapid.SampledFrom([]string{"a100-80g-sxm", "h800-80g-sxm", "ascend-910b2", "mi300x", "h20"}).Draw(t, "chip"))
	if err != nil {
		t.Fatal(err)
	}
	c = c.With(chip.MemoryGB, number(rapid.Float64Range(2, 14).Draw(t, "memory"), "GB")).With(chip.NodeChips, number(float64(rapid.SampledFrom([]int{1, 4, 4, 8}).Draw(t, "host")), "chips"))
	p := fleet.Pool{Name: name, Chip: c, Count: rapid.IntRange(1, 13).Draw(t, "count"), Use: fleet.OnDemand}
	p.Prices = []fleet.Price{{Amount: float64(rapid.IntRange(1, 40).Draw(t, "price")) / 4, Currency: rapid.SampledFrom([]string{"USD", "CNY"}).Draw(t, "currency"), Kind: fleet.OnDemand}}
	switch rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5}).Draw(t, "particular") {
	case 0:
		p.Until = firstDay.AddDate(0, 0, rapid.SampledFrom([]int{1, 5, 20, 60}).Draw(t, "days"))
	case 1:
		p.HostMemory = rapid.Float64Range(1e9, 2e10).Draw(t, "host memory")
	case 2:
		p.Efficiency = &fleet.Span{Low: 0.3, High: 0.5}
	case 3:
		p.Network = rapid.Float64Range(1e7, 1e10).Draw(t, "network")
	}
	return p
}

// drawnExchange is what a fleet file can say: nothing, bounds, numbers, losses.
func drawnExchange(t *rapid.T) fleet.Exchange {
	period := func() int64 { return int64(rapid.IntRange(1e6, 1e8).Draw(t, "period")) }
	switch islands := rapid.IntRange(1, 4).Draw(t, "islands"); {
	case islands == 1:
		return fleet.Exchange{}
	case rapid.IntRange(0, 3).Draw(t, "losses") == 0:
		e := fleet.Exchange{MaxLoss: 2}
		for range 4 {
			e.Losses = append(e.Losses, fleet.Loss{Islands: rapid.IntRange(1, 4).Draw(t, "of"), Period: period(), Loss: rapid.Float64Range(1.9, 2.05).Draw(t, "loss")})
		}
		return e
	case rapid.IntRange(0, 4).Draw(t, "fixed") == 0:
		return fleet.Exchange{Islands: islands, Period: period()}
	default:
		return fleet.Exchange{MaxIslands: islands, MaxPeriod: period()}
	}
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
				for count := 1; f.ok && count <= c.islands && count*n <= g.chips && (c.islands == 1 || g.path.ok && !s.crowded(g, n)); count++ {
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

// memories are what the layouts of an island take.
func memories(g *ground, chips, batch int, exact bool) (all []float64) {
	g.space.frames(chips, batch, exact, func(f frame) {
		for _, f.VPP = range g.space.stages(f) {
			for _, t := range g.space.thrift(f) {
				f.ZeRO, f.Recompute = t.ZeRO, t.Recompute
				all = append(all, plan.Step{Memory: g.model.For(f.batch).Memory(f.Layout)}.Bytes())
			}
		}
	})
	slices.Sort(all)
	return slices.Compact(all)
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
// deadline and budget; among those fleets are all kinds of which bounds have to know.
func TestBestTenAreThoseOfBruteForce(t *testing.T) {
	seen := map[string]int{}
	for _, by := range []Objective{Cost, Time} {
		t.Run(string(by), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { compareWithBrute(t, drawn(t, by), seen) })
		})
	}
	for _, what := range []string{"answers", "several pools", "several islands", "islands alike", "currencies", "losses", "days too few", "traffic that is paid for", "syncers that are paid for"} {
		if seen[what] == 0 {
			t.Errorf("no %s among %v", what, seen)
		}
	}
}

func compareWithBrute(t *rapid.T, q Question, seen map[string]int) {
	s, _, err := newSearch(q)
	if errors.As(err, new(*fault.Input)) {
		seen["refused"]++
		return
	}
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
		goals = append(goals, goal{by: free.by, deadline: free.deadline, budget: free.budget, top: 3, with: len(s.grounds)})
	}
	for _, g := range goals {
		best := bestOf(all, g)
		want, got := told(best), told(s.find(g))
		if !slices.Equal(got, want) {
			t.Fatalf("%+v:\n%s\nwant\n%s", g, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if g == goals[0] {
			see(seen, s, all, best)
		}
	}
}

// see counts what a fleet was an example of: of the best plans each, or of those that are not among them.
func see(seen map[string]int, s *search, all, best []combination) {
	is := map[string]bool{"answers": len(best) > 0, "losses": len(s.q.Fleet.Exchange.Losses) > 0 && len(s.choices) > 1}
	for _, c := range best {
		is["several pools"] = is["several pools"] || len(c.options) > 1
		is["several islands"] = is["several islands"] || c.choice.islands > 1
		is["syncers that are paid for"] = is["syncers that are paid for"] || c.choice.islands > 1 && s.hosts[c.choice].hourly > 0
		currencies := map[string]bool{}
		for _, o := range c.options {
			is["islands alike"] = is["islands alike"] || o.count > 1
			is["traffic that is paid for"] = is["traffic that is paid for"] || o.once > 0
			currencies[s.q.Fleet.Pools[o.ground].Prices[0].Currency] = true
		}
		is["currencies"] = is["currencies"] || len(currencies) > 1
	}
	for _, c := range all {
		is["days too few"] = is["days too few"] || slices.ContainsFunc(c.options, func(o *option) bool { return c.seconds > o.lasts })
	}
	for what, yes := range is {
		if yes {
			seen[what]++
		}
	}
}

// An island's layout is the one that trying everything finds, of all kinds of models and
// chips, on more chips than small fleets have.
func TestFastestLayoutIsThatOfBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"drawn", "gpt3", "deepseek-v2-lite", "qwen3"}).Draw(t, "family")
		shape := anatomy.Shape{Name: name, Layers: rapid.IntRange(2, 14).Draw(t, "layers"), Hidden: 1024, Heads: 12, KVHeads: rapid.SampledFrom([]int{2, 4, 12}).Draw(t, "kv heads"), FFN: 4096, Vocab: 32000,
			Positions: 1 << 20, MTP: rapid.IntRange(0, 1).Draw(t, "mtp")}
		if rapid.Bool().Draw(t, "experts") {
			shape.Experts, shape.TopK, shape.ExpertFFN = rapid.SampledFrom([]int{6, 16}).Draw(t, "count of experts"), 2, 2048
			shape.Shared, shape.DenseLayers = rapid.IntRange(0, 1).Draw(t, "shared"), rapid.IntRange(0, 2).Draw(t, "dense layers")
		}
		d, err := shape.Decoder()
		if err != nil {
			t.Skip(err)
		}
		p := drawnPool(t, "p")
		p.Count = rapid.SampledFrom([]int{8, 12, 16, 24, 32, 48}).Draw(t, "chips")
		q := Question{Task: plan.Task{Model: d, Sequence: rapid.SampledFrom([]int{1024, 8192, 16384}).Draw(t, "sequence"), Batch: rapid.SampledFrom([]int{48, 64, 96, 100}).Draw(t, "batch"), Format: "bf16",
			Imbalance: rapid.SampledFrom([]float64{0, 1.5}).Draw(t, "imbalance")}, Tokens: 1e10, Fleet: fleet.Fleet{Pools: []fleet.Pool{p}, Currency: "USD", Rates: []fleet.Rate{{From: "CNY", To: "USD", Rate: 0.14}}}, Constants: plan.BuiltinConstants(),
			KVCopies: rapid.Bool().Draw(t, "copies")}
		g, err := q.ground(p)
		if err != nil {
			t.Fatal(err)
		}
		exact := rapid.Bool().Draw(t, "exact")
		if sizes := memories(g, p.Count, q.Task.Batch, exact); len(sizes) > 0 { // one just fits
			g.hardware.Memory = rapid.SampledFrom(sizes[:rapid.SampledFrom([]int{min(4, len(sizes)), len(sizes)/10 + 1, len(sizes)}).Draw(t, "of the least")]).Draw(t, "just fits") / (1 - plan.Headroom) * (1 + 1e-12)
		}
		got, want := g.fastest(p.Count, q.Task.Batch, exact), slowest(g, p.Count, q.Task.Batch, exact)
		if got.ok != want.ok || !reflect.DeepEqual(got.frame, want.frame) || got.step != want.step {
			t.Fatalf("%+v in %v s\nwant %+v in %v s", got.frame, got.step.Seconds, want.frame, want.step.Seconds)
		}
	})
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
