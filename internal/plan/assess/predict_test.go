package assess

import (
	"math"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
)

// brute looks at every layout of the grid, with every way to save memory.
func (o oracle) brute(n int) (best float64, ok bool) {
	best = math.Inf(1)
	for _, l := range o.layouts {
		l.DP = n / (l.TP * l.PP * l.CP)
		if !o.legal(l, n) {
			continue
		}
		for _, t := range plan.Thrift(l.PP) {
			l.ZeRO, l.Recompute = t.ZeRO, t.Recompute
			if s := o.mid.Step(l); s.Bytes() <= o.machine.mid.Room() {
				best, ok = min(best, s.Seconds), true
			}
		}
	}
	return best, ok
}

// What is passed over is never faster.
func TestFastestIsThatOfAllLayouts(t *testing.T) {
	for _, c := range []struct {
		chip, preset string
		chips        int
	}{{"ling-2025-a", "ling-lite", 8}, {"h800-80g-sxm", "ling-lite", 64}, {"h800-80g-sxm", "ling-plus", 128}, {"ppu-810e", "ling-plus", 1024}, {"a100-40g-sxm", "ling-plus", 512}, {"ascend-910b4", "ling-lite", 16}} {
		q := ask(t, chip.Builtin(), c.chip, "h800-80g-sxm", c.preset)
		o, err := q.oracle(q.Chip)
		if err != nil {
			t.Fatal(err)
		}
		l, step, short, ok := o.fastest(c.chips)
		want, can := o.brute(c.chips)
		if ok != can || ok && step.Seconds != want || !ok && !(short > 0) {
			t.Errorf("%+v: %v %v %+v, want %v %v", c, ok, step.Seconds, l, can, want)
		}
		if ok && (l.Check(o.task) != nil || l.Chips() != c.chips) {
			t.Errorf("%+v: %+v: %v", c, l, l.Check(o.task))
		}
	}
}

// A long sequence is shared by context-parallel ranks.
func TestLongSequences(t *testing.T) {
	q := ask(t, chip.Builtin(), "h100-80g-sxm", "h100-80g-sxm", "ling-lite")
	if got := q.contexts(); len(got) != 1 {
		t.Errorf("4096 tokens: cp %v", got)
	}
	q.Sequence, q.Batch = 131072, 128
	o, err := q.oracle(q.Chip)
	if err != nil {
		t.Fatal(err)
	}
	if l, _, short, ok := o.fastest(512); !ok || l.CP < 2 || l.Check(o.task) != nil || l.Chips() != 512 {
		t.Errorf("%+v, lacks %v: %v", l, short, l.Check(o.task))
	}
}

// A chip that is too small for the model says by how much.
func TestTooSmallSaysByHowMuch(t *testing.T) {
	q := ask(t, over(t, "ling-2025-a,memory,2,GB,A,me,2026,\n"), "ling-2025-a", "h800-80g-sxm", "ling-plus")
	o, err := q.oracle(q.Chip)
	if err != nil {
		t.Fatal(err)
	}
	_, _, short, ok := o.fastest(64)
	least := math.Inf(1)
	for _, l := range o.layouts {
		l.DP = 64 / (l.TP * l.PP * l.CP)
		for _, s := range plan.Thrift(l.PP) {
			l.ZeRO, l.Recompute = s.ZeRO, s.Recompute
			if o.legal(l, 64) {
				least = min(least, o.mid.Step(l).Bytes())
			}
		}
	}
	if ok || short != least-o.machine.mid.Room() {
		t.Errorf("%v, lacks %v, the leanest takes %v", ok, short, least)
	}
	r := q.Answer()
	if row := r.Scalability.Rows[3]; row.Chips != 64 || row.Short != short || row.Missing == "" || row.Efficiency != nil {
		t.Errorf("%+v", row)
	}
}

func TestBoundIsNoProduct(t *testing.T) {
	var s plan.Step
	s.Seconds = 10
	s.Terms[plan.Products], s.Terms[plan.Bubble], s.Terms[plan.Optimizer] = 6, 3, 1
	if got := bound(s); got != (Share{plan.Bubble.String(), 0.3}) {
		t.Errorf("%+v", got)
	}
	if got := shares(s); len(got) != 3 || got[0].Name != plan.Products.String() || got[2].Share != 0.1 {
		t.Errorf("%+v", got)
	}
}
