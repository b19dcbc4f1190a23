package chip

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func key(o Operation, format, shape string, group int) Key {
	return Key{Operation: o, Format: format, Shape: shape, Group: group}
}

// What a run counts for, by hand.
func TestWork(t *testing.T) {
	for k, want := range map[Key]float64{
		key(Product, "bf16", "2x3x5", 0):           60,
		key(ProductGradient, "bf16", "2x3x5", 0):   60,
		key(GroupedProduct, "bf16", "7x2x3x5", 0):  420,
		key(GroupedGradient, "bf16", "7x2x3x5", 0): 420,
		key(AttentionForward, "bf16", "3x2x8", 0):  4 * 6 * 2 * 8, // 1 + 2 + 3 pairs, two products, in two heads of 8
		key(AttentionBackward, "bf16", "3x2x8", 0): 8 * 6 * 2 * 8,
		key(MemoryCopy, "", "2KiB", 0):             4096,
		key(AllReduce, "", "4B", 4):                6,
		key(AllGather, "", "1MiB", 2):              1 << 19,
		key(ReduceScatter, "", "1GiB", 4):          3 << 28,
		key(AllToAll, "", "8B", 8):                 7,
		key(Product, "bf16", "2x3", 0):             0,
		key(Product, "bf16", "2x*x5", 0):           0,
		key(Product, "bf16", BestShape, 0):         0,
		key(AllReduce, "", TrainingShape, 2):       0,
	} {
		if got := k.Work(); got != want {
			t.Errorf("%+v counts for %v, want %v", k, got, want)
		}
	}
}

func measuredOn(t *testing.T, name string, trials ...Trial) (Table, []byte) {
	t.Helper()
	c, err := Builtin().Find(name)
	if err != nil {
		c = Entry(name, nil)
	}
	table := Origin{Chip: c, Software: "here 1.0", Source: "us", Date: "2026-11-29"}.Table(trials)
	text := table.Marshal()
	again, err := ParseTable("own.csv", text)
	if err != nil || !bytes.Equal(again.Marshal(), text) {
		t.Fatalf("%v\n%s", err, text)
	}
	return again, text
}

// A TFLOP in 2, 4 and 1 ms, and half a TFLOP in 4 ms.
func TestTableOfTrials(t *testing.T) {
	table, text := measuredOn(t, "a100-80g-sxm",
		Trial{key(Product, "bf16", "5000x10000x10000", 0), []float64{0.008, 0.016, 0.004}},
		Trial{key(Product, "bf16", "5000x5000x10000", 0), []float64{0.004}},
		Trial{key(MemoryCopy, "", "1GiB", 0), []float64{0.002, 0.002}})
	want := beginTable2 + `a100-80g-sxm,product,bf16,best,,125,,,TFLOPS,312,2,here 1.0,A,us,2026-11-29,best shape 5000x10000x10000
a100-80g-sxm,product,bf16,training,,125,125,125,TFLOPS,312,2,here 1.0,A,us,2026-11-29,medians of 5000x10000x10000 5000x5000x10000
a100-80g-sxm,product,bf16,5000x10000x10000,,125,62.5,250,TFLOPS,312,3,here 1.0,A,us,2026-11-29,
a100-80g-sxm,product,bf16,5000x5000x10000,,125,,,TFLOPS,312,1,here 1.0,A,us,2026-11-29,
a100-80g-sxm,copy,,1GiB,,1074,1074,1074,GB/s,2039,2,here 1.0,A,us,2026-11-29,
`
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if len(table.OfChip("a100-80g-sxm")) != 5 {
		t.Error("rows are lost")
	}
}

const beginTable2 = "mistura efficiency,2,2026-11-29\nchip,operation,format,shape,group,median,low,high,unit,peak,samples,software,grade,source,date,note\n"

// F11: a rate above the catalogue's peak is not held against it: the chip is another one, or
// the peak is of another format.
func TestF11MoreThanThePeak(t *testing.T) {
	table, _ := measuredOn(t, "a100-80g-sxm", Trial{key(Product, "bf16", "5000x10000x10000", 0), []float64{0.001, 0.01, 0.01}})
	for _, m := range table.Rows {
		if _, ok := m.Share(); ok && m.Shape != BestShape && m.Shape != TrainingShape {
			t.Errorf("%+v has a share", m)
		}
	}
	c, _ := Builtin().Find("a100-80g-sxm")
	if o := (Origin{Chip: c}); !o.Above(table.Rows[2]) || o.Above(table.Rows[0]) || (Origin{}).Above(table.Rows[2]) {
		t.Error("only the fastest repeat is above the peak of 312, and of a chip without one none")
	}
	if m := table.Rows[2]; m.Note != "more than the 312 TFLOPS that the catalogue says of a100-80g-sxm" {
		t.Errorf("note %q", m.Note)
	}
}

// What the catalogue does not know is not compared with, and a range by its middle (S6).
func TestPeaksOfTrials(t *testing.T) {
	product := Trial{key(Product, "fp16", "1000x1000x1000", 0), []float64{0.001}}
	table, _ := measuredOn(t, "nobody-s-chip", product)
	if _, ok := table.Rows[0].Share(); ok {
		t.Error("a share of an unknown peak")
	}
	entry := Entry("x", map[Field]Figure{FP16: {Value: Value{numbers: []float64{100, 200}, spread: true}}})
	m := Origin{Chip: entry, Software: "s", Source: "us", Date: "2026"}.Table([]Trial{product}).Rows[2]
	if share, ok := m.Share(); !ok || math.Abs(share-2.0/150) > 1e-12 || m.Note != "150 is the middle of 100..200" {
		t.Errorf("share %v %v, note %q", share, ok, m.Note)
	}
	if x, how, ok := (Value{numbers: []float64{8, 72}}).One(); !ok || x != 8 || how != "8 is the first of 8 or 72" {
		t.Errorf("%v %q", x, how)
	}
	if _, _, ok := (Value{}).One(); ok {
		t.Error("unknown is a number")
	}
}

// Whatever was timed, the table can be read, and its rates are those of the times.
func TestAnyTrialsComeBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var trials []Trial
		for i := range rapid.IntRange(1, 6).Draw(rt, "trials") {
			k := rapid.SampledFrom([]Key{key(Product, "fp32", "2x3x5", 0), key(GroupedProduct, "bf16", "4096x4096x4096x4096", 0),
				key(AttentionForward, "fp16", "9x1x2", 0), key(AllReduce, "", "1B", 9), key(MemoryCopy, "", "9GiB", 0)}).Draw(rt, "key")
			if o, _ := infoOf(k.Operation); !o.Bytes() {
				k.Shape = strings.Replace(k.Shape, "9", string(rune('1'+i)), 1)
			}
			seconds := rapid.SliceOfN(rapid.Float64Range(5e-324, 1e308), 1, 5).Draw(rt, "seconds")
			if !has(trials, k) {
				trials = append(trials, Trial{k, seconds})
			}
		}
		table, _ := measuredOn(t, "b200", trials...)
		for _, trial := range trials {
			k := trial.Key
			k.Chip = "b200"
			m := table.Of(k)
			if len(m) != 1 {
				rt.Fatalf("%d rows of %+v", len(m), k)
			}
			for _, s := range trial.Seconds {
				want := min(1e9, max(1e-6, trial.Work()/s/scale(k)))
				if low, high, ok := m[0].Bounds(); ok && (want < low*0.999-1e-6 || want > high*1.001+1e-6) {
					rt.Fatalf("%v is outside of %v to %v", want, low, high)
				}
			}
		}
	})
}

func has(trials []Trial, k Key) bool {
	for _, trial := range trials {
		if trial.Key == k {
			return true
		}
	}
	return false
}

func TestNamesOfDevices(t *testing.T) {
	for device, want := range map[string]string{
		"NVIDIA A100-SXM4-80GB": "nvidia-a100-sxm4-80gb", "AMD EPYC": "amd-epyc", "Intel(R) Xeon(R) Platinum 8480+": "intel-r-xeon-r-platinum-8480",
		"": "", "処理装置": "", strings.Repeat("Long ", 20): "long-long-long-long-long-long-long-long",
	} {
		got := NameFor(device)
		if got != want {
			t.Errorf("%q is named %q, want %q", device, got, want)
		}
		if problem, _ := CheckName(got); (problem == "") != (got != "") {
			t.Errorf("%q: %s", got, problem)
		}
	}
	all := Builtin()
	for device, want := range map[string]string{
		"Ascend910B2": "ascend-910b2", "NVIDIA L40S": "l40s", "AMD Instinct MI300X": "mi300x", "NVIDIA GeForce RTX 4090": "rtx-4090",
		"NVIDIA H100 80GB HBM3": "", "NVIDIA H200": "", "": "", "NVIDIA": "", "Tesla": "",
	} {
		if c, ok := all.Called(device); c.Name != want || ok != (want != "") {
			t.Errorf("%q is %q, want %q", device, c.Name, want)
		}
	}
}

// An entry can be written and read, and knows no more than it was told.
func TestEntryComesBack(t *testing.T) {
	f := Figure{Value: Number(25.2), Unit: "GB", Grade: FirstHand, Source: "us", Date: "2026-11-29"}
	c := CatalogueOf("2026-11-29", Entry("x", map[Field]Figure{
		MemoryGB: f, Torch: {Value: Words("cpu"), Grade: FirstHand, Source: "us", Date: "2026-11-29"}, BF16: {Note: "measured 3 TFLOPS"}}))
	again, err := Parse("x.csv", c.Marshal())
	if err != nil || !bytes.Equal(again.Marshal(), c.Marshal()) {
		t.Fatalf("%v\n%s", err, c.Marshal())
	}
	x, err := again.Find("x")
	if err != nil || x.Of(BF16).Known() || x.Of(Torch).Text() != "cpu" || !x.Of(MemoryGB).Equal(Number(25.2)) {
		t.Errorf("%v %+v", err, x)
	}
}
