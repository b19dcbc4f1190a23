package search

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/plan"
)

const unlike = `currency: CNY
pools:
  - {name: ascend, chip: ascend-910b2, count: 256, prices: [{amount: 7, currency: CNY, date: 2026-11-28}]}
  - {name: a100, chip: a100-80g-sxm, count: 256, prices: [{amount: 10, currency: CNY, date: 2026-11-28}]}
  - {name: h800, chip: h800-80g-sxm, count: 128, prices: [{amount: 27.5, currency: CNY, date: 2026-11-28}]}
  - {name: h20, chip: h20, count: 256, prices: [{amount: 5.64, currency: CNY, date: 2026-11-28}]}
  - {name: mi300x, chip: mi300x, count: 128, prices: [{amount: 20, currency: CNY, date: 2026-11-28}]}
links:
  - {between: [ascend, syncers], rate: 100 Gbit/s}
  - {between: [a100, syncers], rate: 100 Gbit/s}
  - {between: [h800, syncers], rate: 100 Gbit/s}
  - {between: [h20, syncers], rate: 100 Gbit/s}
  - {between: [mi300x, syncers], rate: 100 Gbit/s}
max_islands: 4
max_period: 100M
`

func lingPlus(t testing.TB, text string) Question {
	t.Helper()
	cfg, err := model.Preset("ling-plus")
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Parse("fleet.yaml", []byte(text), catalogue())
	if err != nil {
		t.Fatal(err)
	}
	return Question{Task: plan.Task{Model: anatomy.Of(cfg), Sequence: 4096, Batch: 4096, Format: "bf16"}, Tokens: 1e12, Fleet: f, Constants: plan.BuiltinConstants(), Parallel: threads(2)}
}

func threads(count int) func(n int, do func(int)) {
	return func(n int, do func(int)) {
		var wait sync.WaitGroup
		next := make(chan int)
		for range count {
			wait.Go(func() {
				for i := range next {
					do(i)
				}
			})
		}
		for i := range n {
			next <- i
		}
		close(next)
		wait.Wait()
	}
}

// The published model on a mixed fleet: a plan for each question, and each constraint kept.
func TestLingPlusOnAMixedFleet(t *testing.T) {
	q := lingPlus(t, unlike)
	free, err := Run(q)
	if err != nil {
		t.Fatal(err)
	}
	q.Deadline = 30 * 86400
	soon, err := Run(q)
	if err != nil {
		t.Fatal(err)
	}
	if len(free.Plans) != 10 || len(soon.Plans) != 10 || soon.Plans[0].Seconds.Mid > q.Deadline || soon.Plans[0].Cost.Mid <= free.Plans[0].Cost.Mid || len(soon.Plans[0].Islands) < 2 {
		t.Errorf("free %+v\nsoon %+v", free.Plans[0], soon.Plans[0])
	}
	for i, p := range soon.Plans {
		if i > 0 && p.Cost.Mid < soon.Plans[i-1].Cost.Mid || p.Seconds.Mid > q.Deadline {
			t.Errorf("plan %d is out of order or late", i)
		}
		share, money := 0.0, 0.0
		for _, island := range p.Islands {
			share += float64(island.Count) * island.Share
			if island.Bytes > island.Memory || island.Layout.Chips() != island.Chips {
				t.Errorf("%+v", island)
			}
		}
		for _, l := range p.Money {
			money += l.Amount
		}
		if math.Abs(share-1) > 1e-9 || math.Abs(money/p.Cost.Mid-1) > 1e-9 {
			t.Errorf("shares of tokens %v, money %v of %v", share, money, p.Cost.Mid)
		}
	}
	for i, p := range soon.Front {
		if i > 0 && (p.Cost.Mid >= soon.Front[i-1].Cost.Mid || p.Seconds.Mid <= soon.Front[i-1].Seconds.Mid) {
			t.Errorf("front: %v after %v", p.Seconds, soon.Front[i-1].Seconds)
		}
	}
}

// What cannot be done is refused with what can.
func TestRefusals(t *testing.T) {
	const pool = "currency: USD\npools: [{name: p, chip: a100-80g-sxm, count: %d, prices: [{amount: 2, currency: USD, date: 2026-11-28}]}]\n"
	for _, c := range []struct {
		name, fleet string
		change      func(*Question)
		want        []string
	}{
		{"a deadline that no fleet meets", unlike, func(q *Question) { q.Deadline = 86400 }, []string{"deadline", "1 days", "the earliest possible is", "days, for"}},
		{"a budget", unlike, func(q *Question) { q.Budget = 1e5 }, []string{"budget", "100.0 k CNY", "the least is", "M CNY, in"}},
		{"a pool too small", fmt.Sprintf(pool, 64), nil, []string{"no pool that can train the model", "p: too small by", "GiB a chip"}},
		{"a price that is missing", fmt.Sprintf(pool, 512), func(q *Question) { q.Fleet.Pools[0].Prices = nil }, []string{"pools.0.prices", "has no price"}},
		{"nothing to do", fmt.Sprintf(pool, 512), func(q *Question) { q.Tokens = 0 }, []string{"tokens", "0"}},
		{"more than can be counted", fmt.Sprintf(pool, 512), func(q *Question) { q.Tokens = math.MaxInt64 }, []string{"tokens", "9223372036854775807", "use 1 to 1000000000000000"}},
		{"islands without a period", fmt.Sprintf(pool, 512) + "max_islands: 3\n", nil, []string{"exchange", "add period or max_period"}},
		{"a period shorter than a step", fmt.Sprintf(pool, 512) + "islands: 3\nperiod: 1M\n", nil, []string{"period", "1000000", "shorter than a step of 16777216 tokens"}},
		{"a format that no chip has", fmt.Sprintf(pool, 512), func(q *Question) { q.Task.Format = "fp8" }, []string{"fp8", "no peak"}},
	} {
		q := lingPlus(t, c.fleet)
		if c.change != nil {
			c.change(&q)
		}
		_, err := Run(q)
		if !errors.As(err, new(*fault.Input)) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", c.name, err, part)
			}
		}
	}
}

// What may be chosen of islands and periods: within bounds, of the rows of a rehearsal's
// table whose loss is accepted, or as it is said; a lone island always unless it is said.
func TestChoicesOfIslandsAndPeriods(t *testing.T) {
	for _, c := range []struct {
		name string
		say  fleet.Exchange
		want []choice
	}{
		{"nothing", fleet.Exchange{}, []choice{{1, 0}}},
		{"bounds", fleet.Exchange{MaxIslands: 3, MaxPeriod: 1e9}, []choice{{1, 0}, {2, 1e9}, {3, 1e9}}},
		{"too short", fleet.Exchange{MaxIslands: 3, MaxPeriod: 1e6}, []choice{{1, 0}}},
		{"numbers", fleet.Exchange{Islands: 4, Period: 1e9}, []choice{{4, 1e9}}},
		{"one", fleet.Exchange{Islands: 1}, []choice{{1, 0}}},
		{"losses", fleet.Exchange{MaxLoss: 2, Losses: []fleet.Loss{{Islands: 4, Period: 1e8, Loss: 1.9}, {Islands: 4, Period: 1e9, Loss: 2}, {Islands: 4, Period: 1e10, Loss: 2.1}, {Islands: 2, Period: 1e10, Loss: 1.9}, {Islands: 8, Period: 1e8, Loss: 3}}},
			[]choice{{1, 0}, {2, 1e10}, {4, 1e9}}},
	} {
		q := Question{Task: plan.Task{Batch: 1024, Sequence: 4096}, Fleet: fleet.Fleet{Exchange: c.say}}
		if got, err := q.choices(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v %v, want %v", c.name, got, err, c.want)
		}
	}
	many, err := Question{Task: plan.Task{Batch: 4096, Sequence: 1}, Fleet: fleet.Fleet{Exchange: fleet.Exchange{MaxIslands: 10000, MaxPeriod: 1e9}}}.choices()
	if err != nil || len(many) > 40 || many[len(many)-1].islands != 4096 {
		t.Errorf("%v %v", many, err)
	}
}

// F12: workers at the price of their kind, a controller in a line of its own.
func TestF12ControllersAreALineOfTheirOwn(t *testing.T) {
	q := lingPlus(t, `currency: USD
pools:
  - name: nodes
    chip: a100-80g-sxm
    count: 2
    figures: {node_chips: 1}
    use: spot
    prices:
      - {amount: 0.8, currency: USD, kind: on-demand, date: 2026-11-28}
      - {amount: 0.3, currency: USD, kind: spot, date: 2026-11-28}
controllers: {count: 1, price: {amount: 0.38, currency: USD, date: 2026-11-28}}
`)
	tiny, err := anatomy.Shape{Name: "small", Layers: 8, Hidden: 1024, Heads: 8, FFN: 4096, Vocab: 32000}.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	q.Task.Model, q.Tokens, q.Objective = tiny, 1e9, Time
	a, err := Run(q)
	if err != nil {
		t.Fatal(err)
	}
	p := a.Plans[0]
	if len(p.Money) != 2 || p.Money[0].Name != "nodes" || p.Money[0].Hourly != 0.6 || p.Money[1].Name != "controllers" || p.Money[1].Hourly != 0.38 {
		t.Errorf("%+v", p.Money)
	}
	if hours := p.Seconds.Mid / 3600; math.Abs(p.Cost.Mid-hours*0.98) > 1e-9 {
		t.Errorf("%v for %v hours", p.Cost.Mid, hours)
	}
}

// Who asks for the fastest plan need not know prices: nothing is told of money then, and
// it is the plan that it would be with them.
func TestTheFastestNeedsNoPrices(t *testing.T) {
	priced := lingPlus(t, unlike)
	q := lingPlus(t, strings.Replace(unlike, ", prices: [{amount: 27.5, currency: CNY, date: 2026-11-28}]", "", 1))
	if _, err := Run(q); err == nil || !strings.Contains(err.Error(), `"h800": the pool has no price`) {
		t.Errorf("%v", err)
	}
	priced.Objective, q.Objective = Time, Time
	want, err := Run(priced)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Run(q)
	if err != nil {
		t.Fatal(err)
	}
	best := got.Plans[0]
	if best.Seconds != want.Plans[0].Seconds || !math.IsNaN(best.Cost.Mid) || len(got.Front) > 0 || best.Money[0].Unknown == "" || best.Money[0].Amount != 0 {
		t.Errorf("%+v", best)
	}
	for _, c := range got.Sensitivity {
		if !math.IsNaN(c.Cost) && c.Missing == "" || strings.HasPrefix(c.What, "price") {
			t.Errorf("%+v", c)
		}
	}
	for _, text := range got.Limits {
		if strings.Contains(text, "CNY") {
			t.Error(text)
		}
	}
	q.Budget = 1e9
	if _, err := Run(q); err == nil || !strings.Contains(err.Error(), `"h800": the pool has no price`) {
		t.Errorf("with a budget: %v", err)
	}
}

// A share of the peak that the user gives as a range widens the range of a step; what is
// taken for granted of a pool is told.
func TestEfficiencyOfTheUserIsARange(t *testing.T) {
	const pool = "currency: USD\npools: [{name: p, chip: a100-80g-sxm, count: 512, prices: [{amount: 2, currency: USD, date: 2026-11-28}], figures: {efficiency: %s}}]\n"
	width := func(share string) (wide float64, told string) {
		a, err := Run(lingPlus(t, fmt.Sprintf(pool, share)))
		if err != nil {
			t.Fatal(err)
		}
		step := a.Plans[0].Islands[0].Step
		if !(step.Low <= step.Mid && step.Mid <= step.High) {
			t.Errorf("%+v", step)
		}
		return step.High / step.Low, strings.Join(a.Pools[0].Assumed, "; ")
	}
	exact, _ := width("0.5")
	wide, told := width("{value: 0.4..0.6, assumed: true}")
	if wide < exact*1.1 || !strings.Contains(told, "0.4 to 0.6 of the peak") {
		t.Errorf("a range of %v beside %v, told %q", wide, exact, told)
	}
}

// Syncers are as many as their memory asks for; where that is not enough, fewer islands
// are what is left, and a number of islands that somebody asks for is refused.
func TestSyncersHaveToHoldTheModel(t *testing.T) {
	const pool = "currency: USD\npools: [{name: p, chip: a100-80g-sxm, count: 1024, prices: [{amount: 2, currency: USD, date: 2026-11-28}]}]\nsyncers: {count: %d, memory: 1 TB, price: {amount: 3, currency: USD, date: 2026-11-28}}\n"
	enough, err := Run(lingPlus(t, fmt.Sprintf(pool, 40)+"islands: 2\nperiod: 100M\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := enough.Plans[0]
	if y := p.Syncers; y.Count < 2 || y.Bytes > float64(y.Count)*1e12 || y.Bytes <= float64(y.Count-1)*1e12 {
		t.Errorf("%+v", y)
	}
	paid := slices.IndexFunc(p.Money, func(l Line) bool { return l.Name == "syncers" && l.Hourly == 3*float64(p.Syncers.Count) })
	if paid < 0 || p.Islands[0].HostBytes < 12*290e9 || p.Fragments < 4 {
		t.Errorf("%+v", p)
	}
	_, err = Run(lingPlus(t, fmt.Sprintf(pool, 2)+"islands: 2\nperiod: 100M\n"))
	if err == nil || !strings.Contains(err.Error(), "syncers.memory") || !strings.Contains(err.Error(), "each of 2 syncers needs") {
		t.Errorf("%v", err)
	}
	lone, err := Run(lingPlus(t, fmt.Sprintf(pool, 2)+"max_islands: 2\nmax_period: 100M\n"))
	if err != nil || lone.Plans[0].Period != 0 {
		t.Errorf("%v %+v", err, lone.Plans)
	}
}

// What a pool can do alone is what a fleet of this pool can do.
func TestAPoolAloneIsAFleetOfOnePool(t *testing.T) {
	const text = `pools:
  - {name: ascend, chip: ascend-910b2, count: 256, prices: [{amount: 7, currency: CNY, date: 2026-11-28}]}
  - {name: h800, chip: h800-80g-sxm, count: 128, network: 100 Gbit/s, prices: [{amount: 27.5, currency: CNY, date: 2026-11-28}]}
  - {name: few, chip: h800-80g-sxm, count: 8, prices: [{amount: 27.5, currency: CNY, date: 2026-11-28}]}
links: [{between: [ascend, h800], rate: 1 Gbit/s}]
max_islands: 2
max_period: 100M
`
	for deadline, misses := range map[float64]string{0: "", 80 * 86400: "too late"} {
		q := lingPlus(t, text)
		q.Deadline = deadline
		a, err := Run(q)
		if err != nil {
			t.Fatal(err)
		}
		if deadline > 0 && a.Pools[0].Misses+a.Pools[1].Misses == "" {
			t.Error("no pool is too late")
		}
		for i, j := range a.Pools[:2] {
			one := q
			one.Fleet.Pools, one.Top = q.Fleet.Pools[i:i+1], 1
			if j.Misses != "" {
				one.Objective, one.Deadline = Time, 0
			}
			want, err := Run(one)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprintf("%+v", *j.Alone), fmt.Sprintf("%+v", want.Plans[0]); got != want {
				t.Errorf("%s, %q:\n%s\n%s", j.Pool, j.Misses, got, want)
			}
			if j.Misses != "" && (j.Misses != misses || j.Alone.Seconds.Mid <= deadline) {
				t.Errorf("%s: %q", j.Pool, j.Misses)
			}
		}
		if few := a.Pools[2]; few.Rejected == "" || few.Alone != nil {
			t.Errorf("%+v", few)
		}
	}
}

func TestChipsForTooFewDays(t *testing.T) {
	q := lingPlus(t, "pools: [{name: a, chip: h800-80g-sxm, count: 512, from: 2026-12-01, until: 2026-12-03, prices: [{amount: 2, currency: USD, date: 2026-11-28}]}]")
	q.Start = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	if _, err := Run(q); err == nil || !strings.Contains(err.Error(), "fleet.yaml: has chips for too few days; the fastest plan takes ") {
		t.Errorf("%v", err)
	}
}

// Hosts that are known to hold less than an island keeps beside others are planned with
// alone only, and the answer says why.
func TestHostsWithTooLittleMemory(t *testing.T) {
	const pools = `pools:
  - {name: a, chip: ascend-910b2, count: 256, HOSTprices: [{amount: 7, currency: CNY, date: 2026-11-28}]}
  - {name: b, chip: h800-80g-sxm, count: 128, prices: [{amount: 27.5, currency: CNY, date: 2026-11-28}]}
links: [{between: [a, b], rate: 100 Gbit/s}]
max_islands: 2
max_period: 100M
`
	answer := func(host string) Answer {
		q := lingPlus(t, strings.Replace(pools, "HOST", host, 1))
		q.Objective = Time
		a, err := Run(q)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	free, enough, little := answer(""), answer("host_memory: 8 TB, "), answer("host_memory: 2 TB, ")
	if len(free.Plans[0].Islands) != 2 || free.Plans[0].Seconds != enough.Plans[0].Seconds {
		t.Errorf("%+v, %+v", free.Plans[0], enough.Plans[0])
	}
	if !strings.Contains(strings.Join(free.Assumed, "\n"), "hosts of a have the ") || strings.Contains(strings.Join(enough.Assumed, "\n"), "hosts of a have the ") {
		t.Errorf("%q, %q", free.Assumed, enough.Assumed)
	}
	for _, p := range little.Plans {
		for _, i := range p.Islands {
			if i.Pool == "a" && (i.Count > 1 || len(p.Islands) > 1) {
				t.Errorf("%+v", p)
			}
		}
	}
	if !strings.Contains(strings.Join(little.Limits, "\n"), "the hosts of a: they have 2.000 TB, and an island beside others takes ") {
		t.Errorf("%q", little.Limits)
	}
}

// Chips that are added never make a plan worse, whatever the size of the pool.
func TestMoreChipsAreNoWorse(t *testing.T) {
	q := lingPlus(t, "pools: [{name: odd, chip: h800-80g-sxm, count: 100, prices: [{amount: 2, currency: USD, date: 2026-11-28}]}]")
	small, err := anatomy.Shape{Name: "small", Layers: 8, Hidden: 1024, Heads: 8, FFN: 4096, Vocab: 32000}.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	q.Task.Model, q.Task.Batch, q.Objective = small, 1000, Time
	a, err := Run(q)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(a.Sensitivity, func(c Change) bool { return strings.HasPrefix(c.What, "twice the chips") })
	if i < 0 || a.Plans[0].Chips != 100 || a.Sensitivity[i].Seconds > 0 || a.Sensitivity[i].Missing != "" {
		t.Errorf("%d chips, %+v", a.Plans[0].Chips, a.Sensitivity)
	}
}
