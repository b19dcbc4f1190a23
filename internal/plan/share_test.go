package plan

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/chip"
)

func table(t *testing.T, rows string) chip.Table {
	t.Helper()
	made, err := chip.ParseTable("t.csv", []byte("mistura efficiency,2,2026-11-29\n"+
		"chip,operation,format,shape,group,median,low,high,unit,peak,samples,software,grade,source,date,note\n"+rows))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func near(a, b Range) bool {
	return math.Abs(a.Low-b.Low) < 1e-9 && math.Abs(a.Mid-b.Mid) < 1e-9 && math.Abs(a.High-b.High) < 1e-9
}

const rows = `x,product,bf16,training,,100,50,150,TFLOPS,200,,old,A,me,2025,
x,product,bf16,training,,120,100,160,TFLOPS,200,,a,A,me,2026-11,
x,product,bf16,training,,70,30,75,%,200,,b,A,me,2026-11,
x,product,bf16,training,,150,,,TFLOPS,,,no peak,A,me,2026-12,
x,product,bf16,best,,160,,,TFLOPS,200,,a,A,me,2026-11,
x,product_wgrad,fp16,training,,10,,,TFLOPS,200,,a,A,me,2026-11,
y,product,bf16,best,,90,,,%,100,,a,A,me,2026-11,
y,product,bf16,best,,50,,,%,100,,b,A,me,2026-11,
z,product,fp8,training,,40,,,TFLOPS,100,,a,A,me,2026-11,
z,product,bf16,4096x*x*,,40,,,TFLOPS,100,,a,A,me,2026-11,
`

func TestShareOfATable(t *testing.T) {
	made := table(t, rows)
	if got, ok := ShareOf(made, "x", "bf16"); !ok || !near(got, Range{0.3, 0.65, 0.8}) {
		t.Errorf("got %v %v: the newest two with a peak", got, ok)
	}
	if got, ok := ShareOf(made, "z", "fp8"); !ok || !near(got, Range{0.4, 0.4, 0.4}) {
		t.Errorf("a single shape: %v %v", got, ok)
	}
	// S6: of another format, operation or shape nothing is known.
	for _, k := range [][2]string{{"x", "fp8"}, {"x", "fp16"}, {"y", "bf16"}, {"z", "bf16"}, {"w", "bf16"}} {
		if got, ok := ShareOf(made, k[0], k[1]); ok {
			t.Errorf("%v: %v", k, got)
		}
	}
}

// Products that take as long as the model says of a share come back as that share, so that a
// prediction with it is of the products that were measured.
func TestShareOfShapesIsTheModelsOwn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		share, peak := rapid.Float64Range(0.1, 0.95).Draw(rt, "share"), 312e12
		constants := BuiltinConstants()
		tokens := constants.of("tokens")
		width := constants.of("width")
		c := coefficients{product: 1 / (share * peak), tokens: tokens.Value, width: width.Value} // memory is no limit
		var trials []chip.Trial
		seen := map[[3]int]bool{}
		for range 12 {
			var x [3]int
			for i := range x {
				x[i] = 64 * rapid.IntRange(1, 200).Draw(rt, "size")
			}
			if seen[x] {
				continue
			}
			seen[x] = true
			seconds := c.multiply("bf16", matrix{float64(x[2]), float64(x[1])}).forward.at(float64(x[0]))
			key := chip.Key{Operation: chip.Product, Format: "bf16", Shape: fmt.Sprintf("%dx%dx%d", x[0], x[1], x[2])}
			trials = append(trials, chip.Trial{Key: key, Seconds: []float64{seconds}})
		}
		a100, err := chip.Builtin().Find("a100-80g-sxm")
		if err != nil {
			rt.Fatal(err)
		}
		made := chip.Origin{Chip: a100, Software: "s", Source: "us", Date: "2026-11-29"}.Table(trials)
		got, ok := ShareOf(made, "a100-80g-sxm", "bf16")
		if _, shapes := shareOfShapes(made, "a100-80g-sxm", "bf16"); !shapes {
			training := made.Of(chip.Key{Chip: "a100-80g-sxm", Operation: chip.Product, Format: "bf16", Shape: chip.TrainingShape})
			if want, _ := training[0].Share(); !ok || math.Abs(got.Mid-want) > 1e-9 {
				rt.Fatalf("too few large shapes: %v %v, training says %v", got, ok, want)
			}
			return
		}
		if !ok || math.Abs(got.Low-share) > 1e-3 || math.Abs(got.Mid-share) > 1e-3 || math.Abs(got.High-share) > 1e-3 {
			rt.Fatalf("got %v %v, want %v", got, ok, share)
		}
	})
}

// From the best product only with the assumption said: x reaches 65 of 80 %.
func TestShareOfTheBestIsAssumed(t *testing.T) {
	made := table(t, rows)
	got, assumed, ok := AssumedShareOf(made, "y", "bf16")
	if !ok || !near(got, Range{0.9 * 0.3 / 0.8, 0.9 * 0.65 / 0.8, 0.9}) {
		t.Errorf("got %v %v", got, ok)
	}
	if want := "products of training reach 81 % (37–100) of the best product, as on x bf16"; assumed != want {
		t.Errorf("assumed: %s", assumed)
	}
	if got, _, ok := AssumedShareOf(made, "z", "fp8"); ok {
		t.Errorf("without a best product: %v", got)
	}
	if got, _, ok := AssumedShareOf(table(t, "y,product,bf16,best,,90,,,%,100,,a,A,me,2026-11,\n"), "y", "bf16"); ok {
		t.Errorf("without a chip to go by: %v", got)
	}
	share, _, ok := AssumedShareOf(chip.BuiltinTable(), "h100-80g-sxm", "bf16")
	if best := 794.5 / 989; !ok || !(0 < share.Low && share.Low < share.Mid && share.Mid < share.High && share.High <= best) {
		t.Errorf("the built-in table: %v %v", share, ok)
	}
}
