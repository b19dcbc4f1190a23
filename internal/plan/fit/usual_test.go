package fit

import (
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// Plans have no more virtual stages than all but a few published runs.
func TestFewRunsHaveMoreVirtualStages(t *testing.T) {
	with, beyond, chips := 0, 0, chip.Builtin()
	for _, r := range published.Builtin() {
		c, err := r.Case(chips)
		if err != nil || c.VPP.Or(1) == 1 {
			continue
		}
		if with++; c.VPP.Value > plan.MostVPP {
			beyond++
		}
	}
	if with < 50 || beyond*10 > with {
		t.Errorf("%d of %d runs with virtual stages have more than %d", beyond, with, plan.MostVPP)
	}
}
