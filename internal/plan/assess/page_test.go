package assess

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
)

var rewrite = flag.Bool("rewrite", false, "write the table of examples/plans/ling-plus anew")

const (
	pageFile  = "../../../examples/plans/ling-plus/README.md"
	pageBegin = "<!-- table: go test ./internal/plan/assess -run TestLingPlusPage -rewrite -->\n"
	pageEnd   = "<!-- end of the table -->\n"
)

// The published costs of a trillion tokens of Ling-Plus, in CNY, by device: D's own, and of
// the others that of their mix.
func lingCosts() map[string]float64 {
	return map[string]float64{"a": 5.08e6, "b": 5.08e6, "c": 5.08e6, "d": 6.35e6, "e": 5.08e6}
}

const lingActive = 28.8e9 // as the report has it

// lingRow is what the page says of a device.
func lingRow(t *testing.T, device string) string {
	t.Helper()
	q := ask(t, chip.Builtin(), "ling-2025-"+device, "ling-2025-d", "ling-plus")
	s := q.Answer().Performance.Chip
	if s.Cost == nil {
		t.Fatalf("device %s: %s", device, s.Missing)
	}
	published := lingCosts()[device]
	peak, _ := q.Chip.Of(chip.BF16).Exact()
	mfu := func(rate float64) float64 { return 100 * plan.SixN(lingActive, rate) / (peak * 1e12) }
	implied := plan.ImpliedMFU(plan.SixN(lingActive, trillion), published/s.Price.Mid*3600, peak*1e12)
	return fmt.Sprintf("| %s | %.0f | %v | %.2f | %.1f | %.1f (%.1f–%.1f) | %.2f (%.2f–%.2f) | %+.0f %% |\n", strings.ToUpper(device), peak, s.Price.Mid, published/1e6, 100*implied,
		mfu(s.Rate.Mid), mfu(s.Rate.Low), mfu(s.Rate.High), s.Cost.Mid/1e6, s.Cost.Low/1e6, s.Cost.High/1e6, 100*(s.Cost.Mid/published-1))
}

// The page has what the published costs imply, what is predicted of each device, and the
// gap between the two, as it is.
func TestLingPlusPage(t *testing.T) {
	table := "\n| device | TFLOPS | CNY/h | published, M CNY | implied MFU, % | predicted MFU, % | predicted, M CNY | gap |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
	for _, device := range []string{"a", "b", "c", "d", "e"} {
		table += lingRow(t, device)
	}
	data, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), pageBegin)
	_, after, end := strings.Cut(rest, pageEnd)
	if !ok || !end {
		t.Fatal("the page has no place for the table")
	}
	page := before + pageBegin + table + "\n" + pageEnd + after
	if *rewrite {
		if err := os.WriteFile(pageFile, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if page != string(data) {
		t.Errorf("the table is another: go test ./internal/plan/assess -run TestLingPlusPage -rewrite\n%s", table)
	}
}
