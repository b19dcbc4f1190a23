package search

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/plan"
)

// search is a question with what was found out on the way.
type search struct {
	q          Question
	parameters float64
	most       int // equal parts of a pool
	choices    []choice
	hosts      map[choice]hosted
	grounds    []*ground
	table      map[key]found
	pools      [][][]*option // by choice and ground
	counts     Counts
	unpriced   bool // the price of a pool is not known, and nobody asked for money
}

// key names an island by its pool, its chips and the number of islands that share the batch.
type key struct{ ground, chips, islands int }

// Run finds the plans. A question that has no answer is a *fault.Input that says what would do.
func Run(q Question) (Answer, error) {
	s, judged, err := newSearch(q)
	if err != nil {
		return Answer{}, err
	}
	s.layouts()
	s.reject(judged)
	if err := s.possible(judged); err != nil {
		return Answer{}, err
	}
	best := s.find(s.goal())
	if len(best) == 0 {
		return Answer{}, s.refuse()
	}
	a := Answer{Currency: q.Fleet.Currency, Pools: judged}
	for _, c := range best {
		a.Plans = append(a.Plans, s.plan(c))
	}
	for _, c := range s.front() {
		a.Front = append(a.Front, s.plan(c))
	}
	s.use(a.Pools, best[0])
	s.each(a.Pools)
	a.Sensitivity = s.sensitivity(best[0])
	a.Limits = s.limits(best[0], a.Sensitivity)
	a.Assumed = s.assumed(best[0])
	a.Counts = s.counts
	return a, nil
}

// mostTokens are counted without rounding, whole steps of them too.
const mostTokens = 1e15

func newSearch(q Question) (*search, []Judged, error) {
	if q.Tokens <= 0 || q.Tokens > mostTokens {
		return nil, nil, &fault.Input{Where: "tokens", Value: strconv.FormatInt(q.Tokens, 10), Problem: "is no number of tokens to train on", Next: fmt.Sprintf("use 1 to %d", int64(mostTokens))}
	}
	if len(q.Fleet.Pools) == 0 {
		return nil, nil, &fault.Input{Where: q.Fleet.File, Problem: "names no pools", Next: "add one"}
	}
	if q.Objective == "" {
		q.Objective = Cost
	}
	if q.Top == 0 {
		q.Top = 10
	}
	if q.Parallel == nil {
		q.Parallel = inTurn
	}
	s := &search{q: q, parameters: float64(q.Task.Model.Parameters().Total()), table: map[key]found{}}
	var err error
	if s.choices, err = q.choices(); err != nil {
		return nil, nil, err
	}
	if err := s.host(); err != nil {
		return nil, nil, err
	}
	for _, c := range s.choices {
		s.most = max(s.most, min(c.islands, mostParts))
	}
	var judged []Judged
	s.grounds, judged, err = q.grounds()
	s.unpriced = slices.ContainsFunc(s.grounds, func(g *ground) bool { return math.IsNaN(g.hourly) || math.IsNaN(g.path.price) })
	for _, g := range s.grounds {
		if s.unpriced { // a sum without one of its parts is no sum: nothing is told of money
			g.hourly, g.path.price = 0, 0
		}
	}
	return s, judged, err
}

// money says that the answer hangs on prices.
func (q Question) money() bool { return q.Objective == Cost || q.Budget > 0 }

// unlimited is no bound of a time or a cost.
func unlimited() float64 { return math.Inf(1) }

func inTurn(n int, do func(i int)) {
	for i := range n {
		do(i)
	}
}

// choices are the numbers of islands with the longest period that each may have: a lone
// island needs no permission, for it is the plain run. In a period every island makes a
// step, so that shorter ones allow no exchange.
func (q Question) choices() ([]choice, error) {
	e := q.Fleet.Exchange
	if max(e.Islands, e.MaxIslands) > 1 && max(e.Period, e.MaxPeriod) == 0 {
		return nil, &fault.Input{Where: q.Fleet.File + ": exchange", Problem: "says how many islands, not how often they exchange", Next: "add period or max_period, in tokens of the fleet"}
	}
	all := q.allowed()
	step := int64(q.Task.Batch) * int64(q.Task.Sequence)
	kept := slices.DeleteFunc(slices.Clone(all), func(c choice) bool { return c.islands > 1 && c.period < step })
	if len(kept) == 0 {
		return nil, &fault.Input{Where: q.Fleet.File + ": period", Value: strconv.FormatInt(all[0].period, 10),
			Problem: fmt.Sprintf("is shorter than a step of %d tokens, in which islands could not exchange", step), Next: "use a longer period, or a smaller batch"}
	}
	return kept, nil
}

// allowed are the choices that the fleet file names.
func (q Question) allowed() []choice {
	e := q.Fleet.Exchange
	period := max(e.Period, e.MaxPeriod)
	all := []choice{{islands: 1}}
	switch {
	case len(e.Losses) > 0:
		longest := map[int]int64{}
		for _, row := range e.Losses {
			if row.Loss <= e.MaxLoss && row.Islands > 1 {
				longest[row.Islands] = max(longest[row.Islands], row.Period)
			}
		}
		for n := range longest {
			all = append(all, choice{n, longest[n]})
		}
		slices.SortFunc(all, func(a, b choice) int { return a.islands - b.islands })
	case e.Islands > 1:
		return []choice{{e.Islands, period}}
	case e.Islands == 0:
		for n := 2; n <= min(e.MaxIslands, q.Task.Batch); n++ {
			if n <= mostParts || n&(n-1) == 0 || n%3 == 0 && n/3&(n/3-1) == 0 {
				all = append(all, choice{n, period})
			}
		}
	}
	return all
}

// mostParts is up to how many islands each number is tried.
const mostParts = 16

// layouts finds the fastest layout of every island that a plan can have.
func (s *search) layouts() {
	var keys []key
	for at, g := range s.grounds {
		g.sizes = sizes(g.chips, g.host, s.most)
		for _, n := range g.sizes {
			for _, c := range s.choices {
				keys = append(keys, key{at, n, c.islands})
			}
		}
	}
	all := make([]found, len(keys))
	s.q.Parallel(len(keys), func(i int) {
		k := keys[i]
		all[i] = s.grounds[k.ground].fastest(k.chips, s.q.Task.Batch/k.islands, k.islands == 1)
	})
	for i, k := range keys {
		s.table[k] = all[i]
		s.counts.Layouts += all[i].Layouts
		s.counts.Steps += all[i].Steps
	}
	s.offer()
}

// offer makes the options of every choice.
func (s *search) offer() {
	s.pools = nil
	for _, c := range s.choices {
		var pools [][]*option
		for at := range s.grounds {
			pools = append(pools, s.options(at, c))
		}
		s.pools = append(s.pools, pools)
	}
}

// goal is what the question wants.
func (s *search) goal() goal {
	t := goal{by: s.q.Objective, deadline: unlimited(), budget: unlimited(), top: s.q.Top}
	if s.q.Deadline > 0 {
		t.deadline = s.q.Deadline
	}
	if s.q.Budget > 0 {
		t.budget = s.q.Budget
	}
	return t
}

// find searches all choices.
func (s *search) find(t goal) []combination {
	tops := make([][]combination, len(s.choices))
	tried := make([]int64, len(s.choices))
	s.q.Parallel(len(s.choices), func(i int) { tops[i], tried[i] = s.pick(s.choices[i], s.pools[i], t) })
	all := slices.Concat(tops...)
	slices.SortFunc(all, t.best)
	for _, n := range tried {
		s.counts.Plans += n
	}
	return all[:min(len(all), t.top)]
}

// reject tells of pools that cannot hold the model.
func (s *search) reject(judged []Judged) {
	for at, g := range s.grounds {
		i := slices.IndexFunc(judged, func(j Judged) bool { return j.Pool == g.name })
		least, of, fits := 0.0, 0, false
		for _, n := range g.sizes {
			for _, c := range s.choices {
				f := s.table[key{at, n, c.islands}]
				fits = fits || f.ok
				if f.least > 0 && (least == 0 || f.least < least) {
					least, of = f.least, n
				}
			}
		}
		if fits {
			continue
		}
		if least == 0 {
			judged[i].Rejected = fmt.Sprintf("no layout: no island of up to %d chips divides into a batch of %d sequences", g.chips, s.q.Task.Batch)
			continue
		}
		judged[i].Short = least - g.hardware.Room()
		judged[i].Rejected = fmt.Sprintf("too small by %.1f GiB a chip: the most frugal layout of %d chips needs %.1f of %.1f GiB, of which %.0f %% stay free", judged[i].Short/(1<<30), of, least/(1<<30), g.hardware.Memory/(1<<30), 100*plan.Headroom)
	}
}

// possible refuses a fleet on which nothing can be planned.
func (s *search) possible(judged []Judged) error {
	var why []string
	next := "mend what is said of each pool"
	for _, j := range judged {
		if j.Rejected == "" {
			return nil
		}
		if j.Short > 0 {
			next = "add chips, or chips with more memory"
		}
		why = append(why, j.Pool+": "+j.Rejected)
	}
	return &fault.Input{Where: s.q.Fleet.File, Problem: "has no pool that can train the model: " + strings.Join(why, "; "), Next: next}
}

// refuse says why there is no plan, and what would do.
func (s *search) refuse() error {
	t := s.goal()
	free := goal{by: Time, deadline: unlimited(), budget: t.budget, top: 1}
	if fast := s.find(free); len(fast) > 0 {
		return &fault.Input{Where: "deadline", Value: days(t.deadline), Problem: "is kept by no plan" + s.within(t),
			Next: fmt.Sprintf("the earliest possible is %s%s, for %s", days(fast[0].seconds), s.on(fast[0].seconds), s.amount(fast[0].cost))}
	}
	free = goal{by: Cost, deadline: t.deadline, budget: unlimited(), top: 1}
	if cheap := s.find(free); len(cheap) > 0 {
		return &fault.Input{Where: "budget", Value: s.amount(t.budget), Problem: "is enough for no plan",
			Next: fmt.Sprintf("the least is %s, in %s", s.amount(cheap[0].cost), days(cheap[0].seconds))}
	}
	free.deadline = unlimited()
	if cheap := s.find(free); len(cheap) > 0 {
		return &fault.Input{Where: "deadline", Value: days(t.deadline), Problem: "is kept by no plan, and the budget is enough for none",
			Next: fmt.Sprintf("the least is %s, in %s", s.amount(cheap[0].cost), days(cheap[0].seconds))}
	}
	other := s.alone()
	for _, g := range other.grounds {
		g.lasts = unlimited()
	}
	other.offer()
	if fast := other.find(goal{by: Time, deadline: unlimited(), budget: unlimited(), top: 1}); len(fast) > 0 {
		return &fault.Input{Where: s.q.Fleet.File, Problem: "has chips for too few days", Next: fmt.Sprintf("the fastest plan takes %s: start earlier, have them for longer, or train on fewer tokens", days(fast[0].seconds))}
	}
	return &fault.Input{Where: s.q.Fleet.File, Problem: "has islands for no plan: " + fmt.Sprint(s.choices[0].islands) + " islands are asked for", Next: "allow fewer islands, or add links of pools to the syncers, or memory of hosts"}
}

// on is the first day before which a run of some seconds is done, where its start is known.
func (s *search) on(seconds float64) string {
	if s.q.Start.IsZero() {
		return ""
	}
	return ", by " + s.q.Start.AddDate(0, 0, int(math.Ceil(seconds/86400))).Format(time.DateOnly)
}

// amount writes money.
func (s *search) amount(cost float64) string {
	if s.unpriced {
		return "an amount that is not known"
	}
	return anatomy.Scaled(cost, "", "k", "M", "B") + " " + s.q.Fleet.Currency
}

func (s *search) within(t goal) string {
	if math.IsInf(t.budget, 1) {
		return ""
	}
	return " of at most " + s.amount(t.budget)
}

// days writes a time in days, the shortest ones in hours.
func days(seconds float64) string {
	if seconds < 86400 {
		return fmt.Sprintf("%.3g h", seconds/3600)
	}
	return fmt.Sprintf("%.4g days", seconds/86400)
}
