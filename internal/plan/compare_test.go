package plan

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
)

// What the published costs of a trillion tokens of Ling-Plus (28.8 B active, arXiv
// 2503.05139, table 1 and section 1) say of utilisation, with the report's own peaks
// and prices.
func TestLingCostsImplyUtilisation(t *testing.T) {
	for device, want := range map[string]struct{ cost, percent float64 }{"d": {6.35e6, 21.0}, "a": {5.08e6, 17.9}, "b": {5.08e6, 35.4}, "c": {5.08e6, 30.3}, "e": {5.08e6, 36.2}} {
		c, err := chip.Builtin().Find("ling-2025-" + device)
		if err != nil {
			t.Fatal(err)
		}
		price, _ := c.Prices("CNY")[0].Exact()
		peak, _ := c.Of(chip.BF16).Exact()
		got := ImpliedMFU(SixN(28.8e9, 1e12), want.cost/price*3600, peak*1e12)
		if math.Abs(100*got-want.percent) > 0.06 {
			t.Errorf("device %s: %.2f %%, want %v", device, 100*got, want.percent)
		}
	}
}

func TestImpliedMFUOfUnknownIsUnknown(t *testing.T) {
	for _, c := range [][3]float64{{0, 1, 1}, {1, 0, 1}, {1, 1, 0}, {1, math.NaN(), 1}, {math.NaN(), 1, 1}} {
		if got := ImpliedMFU(c[0], c[1], c[2]); !math.IsNaN(got) {
			t.Errorf("%v gives %v", c, got)
		}
	}
}

// A run is cheaper just while its utilisation, over the reference's, is above the
// break-even ratio; and what it saves follows from the two.
func TestBreakEvenIsWhereCostsMeet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	side := func() Side {
		x := func() float64 { return math.Exp(4 * r.Float64()) }
		seconds, cost := 1e6*x(), 1e5*x()
		return Side{Range{seconds * 0.9, seconds, seconds * 1.2}, Range{cost * 0.8, cost, cost * 1.1}, 1e17 * x(), 1e23}
	}
	for range 1000 {
		a, b := side(), side()
		c := a.Against(b)
		if cheaper := a.Cost.Mid < b.Cost.Mid; cheaper != (c.MFURatio > c.BreakEven) || cheaper != (c.Saving.Mid > 0) {
			t.Fatalf("%+v against %+v: %+v", a, b, c)
		}
		if got := 1 - c.BreakEven/c.MFURatio; math.Abs(got-c.Saving.Mid) > 1e-9 {
			t.Fatalf("saving %v, from utilisations %v", c.Saving.Mid, got)
		}
		if !(c.Saving.Low < c.Saving.Mid && c.Saving.Mid < c.Saving.High && c.Time.Low < c.Time.Mid && c.Time.Mid < c.Time.High) {
			t.Fatalf("ranges out of order: %+v", c)
		}
		if back := b.Against(a); math.Abs(back.Time.Mid*c.Time.Mid-1) > 1e-9 || math.Abs(back.BreakEven*c.BreakEven-1) > 1e-9 {
			t.Fatalf("%+v the other way round is %+v", c, back)
		}
	}
}

// S6: without a price nothing is said of money, and time is still compared.
func TestComparedWithoutPrice(t *testing.T) {
	a := Side{Seconds: Range{1, 2, 3}, Peak: 1, Work: 1}
	b := Side{Seconds: Range{2, 4, 6}, Cost: Range{1, 1, 1}, Peak: 1, Work: 1}
	for _, c := range []Comparison{a.Against(b), b.Against(a)} {
		if !math.IsNaN(c.Saving.Mid) || !math.IsNaN(c.Saving.Low) || !math.IsNaN(c.BreakEven) || math.IsNaN(c.Time.Mid) || math.IsNaN(c.MFURatio) {
			t.Errorf("%+v", c)
		}
	}
}
