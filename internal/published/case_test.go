package published

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/mistura-project/mistura/internal/anatomy"
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

// What the catalogue's dense peak leaves room for: a rate of a host in place of a chip,
// a batch or sequence of another unit would stand out.
func TestUtilisationIsPlausible(t *testing.T) {
	s := BuiltinSplit(chip.Builtin())
	for _, c := range comparable(t, s) {
		step, err := c.Step(s.Of(c.Run.Source).Counts)
		if err != nil {
			t.Fatal(err)
		}
		field, _ := chip.Peak(c.Format)
		_, peak, _ := c.Chip.Of(field).Range()
		if u := c.seconds(peak, anatomy.NoRecompute, Causal) / step.Seconds; u < 0.02 || u > 0.7 {
			t.Errorf("%s: %.1f %% of the peak in %s", c.Run.ID, 100*u, c.Format)
		}
	}
}

// Where a source prints TFLOPS beside tokens/s, they are of the work that is counted
// here, with causal attention or with all pairs: sizes, sequence and unit are read right. Of gpt-oss Megatron-Bridge
// counts a fifth less.
func TestPrintedRatesAreOfTheSameWork(t *testing.T) {
	printed := regexp.MustCompile(`TFLOPs/chip=([0-9.]+)`)
	s, seen := BuiltinSplit(chip.Builtin()), 0
	for _, c := range comparable(t, s) {
		m := printed.FindStringSubmatch(c.Run.Notes)
		if m == nil || c.Run.Model == "gpt-oss-120b" {
			continue
		}
		rate, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		step, err := c.Step(s.Of(c.Run.Source).Counts)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		causal, all := c.seconds(rate, anatomy.NoRecompute, Causal)/step.Seconds, c.seconds(rate, anatomy.NoRecompute, AllPairs)/step.Seconds
		if !near(causal, 1, 0.03) && !near(all, 1, 0.03) {
			t.Errorf("%s: printed are %g TFLOPS, the work makes %.3f of that with causal attention and %.3f with all pairs", c.Run.ID, rate, causal, all)
		}
	}
	if seen < 100 {
		t.Errorf("%d rates", seen)
	}
}

// Sailor's trainer kept activations in 32 bits: what is counted here of OPT-350M, copies
// for masks and logits apart, is two thirds of what its smallest run took, and would
// be less than half of it in 16 bits.
func TestSailorTrainsIn32Bits(t *testing.T) {
	for _, r := range Builtin() {
		if r.ID != "sailor-clariden-opt-350-n1-n1-d1-m4-g1" {
			continue
		}
		c := caseOf(t, r)
		c.Layout.Whole = true // Megatron-DeepSpeed's default
		kept := func(element int) float64 {
			k := anatomy.Keeping{Layout: c.Layout, Recompute: anatomy.NoRecompute, Sequence: c.Sequence, Element: element, Unfused: true, Dropout: true}
			return float64(c.Sequence*c.MicroBatch.Value)*c.Decoder.Whole().LayersKeep(k) + 16*float64(c.Decoder.Parameters().Total())/float64(c.Layout.TP)
		}
		measured := r.PeakMemoryGiB.Value * (1 << 30)
		if c.Format != "tf32" || kept(4) < 0.6*measured || kept(4) > measured || kept(2) > 0.5*measured {
			t.Errorf("%s: kept are %.3g bytes in 32 bits and %.3g in 16, measured were %.3g", c.Format, kept(4), kept(2), measured)
		}
		return
	}
	t.Error("no such run")
}
