package published

import (
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
)

// A run that can be compared can be predicted: the catalogue has what that takes of
// its chip.
func TestChipsOfComparableRunsAreKnown(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range comparable(t, BuiltinSplit(chip.Builtin())) {
		if seen[c.Chip.Name+c.Format] {
			continue
		}
		seen[c.Chip.Name+c.Format] = true
		peak, _ := chip.Peak(c.Format)
		for _, f := range []chip.Field{peak, chip.MemoryGB, chip.BandwidthGBs, chip.LinkGBs, chip.LinkGroup, chip.NodeChips, chip.NICGbits} {
			if _, _, ok := c.Chip.Of(f).Range(); !ok {
				t.Errorf("%s: nobody knows %s of %s", c.Run.ID, f, c.Chip.Name)
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("%d chips and formats", len(seen))
	}
}
