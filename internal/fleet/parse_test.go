package fleet

import (
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
)

var rewrite = flag.Bool("rewrite", false, "write the messages of bad fleet files anew")

const wantPrefix = "# want: "

// Each file below testdata/bad opens with the exact message that it must get.
func TestBadFleetFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no bad fleet files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) { badFleetFile(t, file) })
	}
}

func badFleetFile(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	if *rewrite && !strings.HasPrefix(first, wantPrefix) {
		rest = string(data)
	}
	_, err = Parse("fleet.yaml", []byte("\n"+rest), chip.Builtin()) // lines as in the file
	if err == nil {
		t.Fatal("accepted")
	}
	if in := (*fault.Input)(nil); !errors.As(err, &in) {
		t.Errorf("%T is not bad input", err)
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(wantPrefix+err.Error()+"\n"+rest), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := strings.TrimPrefix(first, wantPrefix); err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func good(t *testing.T) Fleet {
	t.Helper()
	data, err := os.ReadFile("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, string(data))
}

func parsed(t *testing.T, text string) Fleet {
	t.Helper()
	f, err := Parse("fleet.yaml", []byte(text), chip.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParseReadsWhatTheFileSays(t *testing.T) {
	f := good(t)
	a := f.Pools[0]
	if a.Count != 512 || a.Use != Reserved || a.Network != 12.5e9 || a.HostMemory != 2e12 || *a.Efficiency != (Span{Low: 0.35, High: 0.45}) || a.From.IsZero() || a.Until.IsZero() {
		t.Errorf("%+v", a)
	}
	if mid := a.Efficiency.Mid(); mid != 0.4 || (Span{Low: 0.1, High: 0.9, Likely: 0.7}).Mid() != 0.7 {
		t.Errorf("reckoned with %v", mid)
	}
	if got := a.Assumed(); !slices.Equal(got, []string{"efficiency"}) {
		t.Errorf("assumed %v", got)
	}
	if x, ok := a.Chip.Of(chip.NICGbits).Exact(); !ok || x != 200 || a.Chip.Of(chip.NICGbits).Source != "lspci" {
		t.Errorf("nic %+v", a.Chip.Of(chip.NICGbits))
	}
	if !a.Chip.Of(chip.FP8).None() || a.Chip.Of(chip.BF16).Source == "fleet.yaml" {
		t.Errorf("fp8 %+v, bf16 %+v", a.Chip.Of(chip.FP8), a.Chip.Of(chip.BF16))
	}
	there, _ := f.Link("ascend", "h800")
	back, ok := f.Link("h800", "ascend")
	if !ok || there != back || there.Rate != 1.25e9 || there.Price.Amount != 0.02 {
		t.Errorf("%+v, %+v", there, back)
	}
	if _, ok := f.Link("ascend", SyncersPlace); ok {
		t.Error("a link that the file does not have")
	}
	if f.Syncers.Memory != 512e9 || f.Syncers.Near != "h800" || f.Controllers.Price.Amount != 0.38 {
		t.Errorf("%+v %+v", f.Syncers, f.Controllers)
	}
	if f.Exchange.MaxIslands != 8 || f.Exchange.MaxPeriod != 100e6 || f.Exchange.Islands != 0 {
		t.Errorf("%+v", f.Exchange)
	}
}

// Syncers are as many as are needed where the file does not say how many at most;
// controllers are paid for, and so are some.
func TestHostsWithoutACount(t *testing.T) {
	const pool = "pools: [{name: a, chip: h800-80g-sxm, count: 8}]\n"
	if f := parsed(t, pool+"syncers: {memory: 512 GB}"); f.Syncers == nil || f.Syncers.Count != 0 || f.Syncers.Memory != 512e9 {
		t.Errorf("%+v", f.Syncers)
	}
	_, err := Parse("fleet.yaml", []byte(pool+"controllers: {price: {amount: 1, currency: USD, date: 2026-11-28}}"), chip.Builtin())
	refused(t, err, `fleet.yaml:2: controllers.count "0": is no number of hosts; use 1 to`)
}

// A figure of a pool is of that pool only: neither the catalogue nor another pool has it.
func TestFiguresAreOfTheirPool(t *testing.T) {
	f := parsed(t, `pools:
  - {name: a, chip: h800-80g-sxm, count: 8, figures: {memory: 40}}
  - {name: b, chip: h800-80g-sxm, count: 8}
`)
	a, _ := f.Pools[0].Chip.Of(chip.MemoryGB).Exact()
	b, _ := f.Pools[1].Chip.Of(chip.MemoryGB).Exact()
	if a != 40 || b != 80 {
		t.Errorf("%v and %v", a, b)
	}
}

// A spot run of two machines with one chip each; the controller has its own price.
func TestF12SpotPriceAndController(t *testing.T) {
	f := parsed(t, `pools:
  - name: workers
    chip: h800-80g-sxm
    count: 2
    use: spot
    figures: {node_chips: 1}
    prices:
      - {amount: 0.80, currency: USD, per: host-hour, kind: on-demand, date: 2026-11-28}
      - {amount: 0.30, currency: USD, per: host-hour, kind: spot, date: 2026-11-28}
controllers: {count: 1, price: {amount: 0.38, currency: USD, date: 2026-11-28}}
`)
	each, err := f.ChipHour(f.Pools[0])
	if err != nil || math.Abs(2*each-0.60) > 1e-12 {
		t.Errorf("workers cost %v an hour, %v", 2*each, err)
	}
	if c := f.Controllers; float64(c.Count)*c.Price.Amount != 0.38 {
		t.Errorf("%+v", c)
	}
}

func TestPricesAreConvertedAtDatedRatesOnly(t *testing.T) {
	f := good(t)
	if got, err := f.ChipHour(f.Pools[0]); err != nil || math.Abs(got-0.84) > 1e-12 {
		t.Errorf("6 CNY are %v, %v", got, err)
	}
	f.Currency = "CNY"
	if got, err := f.Convert(0.14, "USD"); err != nil || math.Abs(got-1) > 1e-12 {
		t.Errorf("the other way: %v, %v", got, err)
	}
	_, err := f.Convert(1, "EUR")
	refused(t, err, `fleet.yaml: rates "EUR to CNY": has no rate, and the plan is in CNY; add {from: EUR, to: CNY, rate: …, date: …}`)
}

func TestAPoolWithoutPriceIsNamed(t *testing.T) {
	f := good(t)
	if _, known := f.Pools[1].Price(); known {
		t.Fatal("a price from nowhere")
	}
	_, err := f.ChipHour(f.Pools[1])
	refused(t, err, `fleet.yaml:23: pools.1.prices "h800": the pool has no price, and cost is asked for; add {amount: …`)
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if in := (*fault.Input)(nil); !errors.As(err, &in) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.yaml")
	for _, file := range append(files, "testdata/good.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	chips := chip.Builtin()
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse("fleet.yaml", data, chips)
		if err != nil {
			if in := (*fault.Input)(nil); !errors.As(err, &in) || strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line of bad input: %q", err)
			}
			return
		}
		for _, p := range got.Pools {
			cost, err := got.ChipHour(p)
			if p.Count < 1 || p.Name == "" || err == nil && !(cost >= 0 && cost < math.Inf(1)) {
				t.Errorf("%+v costs %v", p, cost)
			}
		}
		for _, l := range got.Links {
			if !(l.Rate > 0) {
				t.Errorf("%+v", l)
			}
		}
	})
}
