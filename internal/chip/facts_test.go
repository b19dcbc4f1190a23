package chip

import (
	"strings"
	"testing"
)

func mustFind(t *testing.T, name string) Chip {
	t.Helper()
	c, err := Builtin().Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Links are counted in one direction: here are the makers' own figures, most of which
// count both.
func TestLinksCountOneDirection(t *testing.T) {
	for name, both := range map[string]float64{
		"a100-80g-sxm": 600, "a800-80g-sxm": 400, "h100-80g-sxm": 900, "h800-80g-sxm": 400, "h20": 900, "h200-141g-sxm": 900, "gh200-96g": 900,
		"b200": 1800, "b300": 1800, "gb200": 1800, "gb300": 1800, // NVLink 3 to 5, Nvidia datasheets
		"mi300x": 896, "mi325x": 896, // seven links of 128, AMD datasheets
		"gaudi2": 525, "gaudi3": 1050, // 21 ports of 100 and 200 Gbit/s each way, Intel's white papers
		"tpu-v5e": 400, "tpu-v5p": 1200, "tpu-v6e": 800, // "bidirectional", Google Cloud documentation
		"ascend-910b2": 392, "mtt-s4000": 240, "mtt-s5000": 784, "br100": 512, "trainium2": 1280,
	} {
		if x, ok := mustFind(t, name).Of(LinkGBs).Exact(); !ok || x < 0.998*both/2 || x > 1.002*both/2 {
			t.Errorf("%s: %g GB/s in one direction, both are %g", name, x, both)
		}
	}
}

// The pairs of a mesh make up its whole link.
func TestPairsMakeUpTheLink(t *testing.T) {
	for _, c := range Builtin().Chips() {
		_, pair, paired := c.Of(PairGBs).Range()
		_, all, linked := c.Of(LinkGBs).Range()
		group, _, grouped := c.Of(LinkGroup).Range()
		if paired && linked && grouped && (pair*(group-1) > 1.01*all || pair*(group-1) < 0.99*all) {
			t.Errorf("%s: %g GB/s to each of %g others, and %g to all", c.Name, pair, group-1, all)
		}
	}
}

// A narrower format is about twice as fast as the next wider one at most; a sparse peak
// among dense ones would be four times as fast. Some chips have more units for four bits.
func TestPeaksAreInProportion(t *testing.T) {
	for _, c := range Builtin().Chips() {
		for _, pair := range []struct {
			wide, narrow Field
			most         float64
		}{{BF16, FP8, 2.06}, {FP8, FP4, 3.4}, {BF16, FP16, 1.05}} {
			_, wide, ok := c.Of(pair.wide).Range()
			narrow, _, also := c.Of(pair.narrow).Range()
			if ok && also && narrow > pair.most*wide {
				t.Errorf("%s: %g in %s, and %g in %s", c.Name, narrow, pair.narrow, wide, pair.wide)
			}
		}
	}
}

// What is of a package and what is of one of its devices are not mixed up.
func TestAModuleIsItsDevices(t *testing.T) {
	module, device := mustFind(t, "mi250x"), mustFind(t, "mi250x-gcd")
	for _, f := range []Field{BF16, FP16, INT8, FP32, MemoryGB, BandwidthGBs, NICGbits} {
		whole, _, _ := module.Of(f).Range()
		one, _, _ := device.Of(f).Range()
		if whole != 2*one {
			t.Errorf("%s: %g of the module, %g of a device", f, whole, one)
		}
	}
}

// A figure that is assumed is that of the chip that its source names.
func TestAssumedFiguresAreThoseOfTheOtherChip(t *testing.T) {
	seen := 0
	for _, c := range Builtin().Chips() {
		for _, info := range Fields() {
			for _, f := range c.All(info.Field) {
				if f.Grade != Assumed {
					continue
				}
				seen++
				other, ok := strings.CutPrefix(f.Source, "as ")
				if !ok || !f.Value.Equal(mustFind(t, other).Of(info.Field).Value) {
					t.Errorf("%s: %s %v %s", c.Name, info.Field, f.Value, f.Source)
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("%d are assumed", seen)
	}
}
