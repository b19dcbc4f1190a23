package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/gauge"
)

// aMeasurement is one of a device that no machine here has.
func aMeasurement(t *testing.T, given, device string) *measured {
	t.Helper()
	product := chip.Key{Operation: chip.Product, Format: "bf16", Shape: "4096x4096x4096"}
	larger, experts := product, product
	larger.Shape = "8192x8192x8192"
	experts.Operation, experts.Shape = chip.GroupedProduct, "32x512x2048x7168"
	reduce := chip.Key{Operation: chip.AllReduce, Shape: "64MiB", Group: 8}
	m := &measured{
		date: "2026-11-29", seconds: 61,
		tried: gauge.Tried{
			Device: gauge.Device{Name: device, Kind: "npu", Software: "PyTorch 2.6.0, cann 8.1\x1b[31m, driver 25.0.1", MemoryBytes: 65_452_113_920, Devices: 8, Arch: "Ascend910B2"},
			Trials: []chip.Trial{
				{Key: product, Seconds: []float64{0.0006, 0.0005, 0.0007}}, {Key: larger, Seconds: []float64{0.004, 0.0081, 0.0039}},
				{Key: experts, Seconds: []float64{0.003}}, {Key: reduce, Seconds: []float64{0.001, 0.0021, 0.001}},
			},
			Left: []gauge.Left{{Key: chip.Key{Operation: chip.Product, Format: "fp8", Shape: "4096x4096x4096"}, Why: "PyTorch 2.6.0 has no fp8"},
				{Key: chip.Key{Operation: chip.Product, Format: "fp8", Shape: "8192x8192x8192"}, Why: "PyTorch 2.6.0 has no fp8"}},
		},
	}
	if err := m.name(given, chip.Builtin()); err != nil {
		t.Fatal(err)
	}
	m.table = m.origin().Table(m.tried.Trials)
	return m
}

// What is shown says that it was measured, fits a terminal, and lets nothing through that steers one.
func TestMeasuredLooksAsItDid(t *testing.T) {
	var out bytes.Buffer
	m := aMeasurement(t, "", "Ascend910B2")
	if err := m.show(&out, &measureFlags{out: "mine.csv", catalogueOut: "chip.csv"}, "mistura"); err != nil {
		t.Fatal(err)
	}
	golden(t, "chips_measure.golden", out.String())
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns || strings.ContainsRune(line, '\x1b') {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

// The files come back: chips show takes both, of a chip of the catalogue and of one that nobody
// has described; what the catalogue knows stays.
func TestMeasuredFilesComeBack(t *testing.T) {
	dir := t.TempDir()
	table, entry := filepath.Join(dir, "mine.csv"), filepath.Join(dir, "chip.csv")
	for device, name := range map[string]string{"Ascend910B2": "ascend-910b2", "Somebody's Own XPU-7": "somebody-s-own-xpu-7"} {
		m := aMeasurement(t, "", device)
		if m.chip.Name != name {
			t.Fatalf("%s is %s", device, m.chip.Name)
		}
		for path, data := range map[string][]byte{table: m.table.Marshal(), entry: chip.CatalogueOf(m.date, m.entry()).Marshal()} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		alone := runChips(t, "show", name, "--efficiency", table)
		if !strings.Contains(alone, "bf16 training: ") || !strings.Contains(alone, "8 chips, 64MiB: ") {
			t.Errorf("%s", alone)
		}
		both := runChips(t, "show", name, "--efficiency", table, "--catalogue", entry)
		if !strings.Contains(both, "npu") || strings.Contains(both, "\n"+pad("memory", valueColumn)+unknown) {
			t.Errorf("%s", both)
		}
		known := name == "ascend-910b2"
		if strings.Contains(both, "the peak is not known") == known || known != strings.Contains(both, "354–376 TFLOPS") || known != strings.Contains(both, "Huawei") {
			t.Errorf("%s", both)
		}
	}
	if m := aMeasurement(t, "h20", "Ascend910B2"); m.chip.Name != "h20" || !m.chip.Of(chip.BF16).Known() {
		t.Errorf("a name that was given: %s", m.chip.Name)
	}
	if m := aMeasurement(t, "", "処理"); m.chip.Name != "this-npu" {
		t.Errorf("a device without a name: %s", m.chip.Name)
	}
}

// F11: a rate above the peak is said, not shown as more than 100 %.
func TestF11MeasuredAboveThePeak(t *testing.T) {
	var out bytes.Buffer
	m := aMeasurement(t, "h20", "x")
	if err := m.show(&out, &measureFlags{}, "mistura"); err != nil {
		t.Fatal(err)
	}
	if said := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(said, "More than the peak that the catalogue says of h20: product bf16 4096x4096x4096, product bf16 8192x8192x8192, grouped_product") ||
		!strings.Contains(said, "TFLOPS ? 3") {
		t.Errorf("%s", &out)
	}
}

func TestMeasuredInJSON(t *testing.T) {
	var out bytes.Buffer
	if err := aMeasurement(t, "new-chip", "x").printJSON(&out, &measureFlags{out: "mine.csv"}); err != nil {
		t.Fatal(err)
	}
	var said struct {
		Chip, Device, Date, Out string
		Measured                []map[string]any
		Unsteady                int
		NotMeasured             []map[string]any `json:"not_measured"`
	}
	if err := json.Unmarshal(out.Bytes(), &said); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("%v\n%s", err, &out)
	}
	if said.Chip != "new-chip" || said.Out != "mine.csv" || len(said.Measured) != 7 || said.Measured[0]["peak"] != nil || len(said.NotMeasured) != 2 || said.Unsteady != 2 {
		t.Errorf("%+v", said)
	}
}

// A first Ctrl-C ends the measurement, and leaves neither file.
func TestInterruptedMeasurementLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	var out, said bytes.Buffer
	code := Main(Env{Args: []string{"mistura", "chips", "measure", "--out", filepath.Join(dir, "a.csv"), "--catalogue-out", filepath.Join(dir, "b.csv")},
		Stdout: &out, Stderr: &said, Signals: signals})
	left, err := os.ReadDir(dir)
	if code != exitInterrupted || out.Len() > 0 || err != nil || len(left) > 0 || !strings.HasSuffix(said.String(), "\nmistura: interrupted\n") {
		t.Errorf("exit code %d, files %v %v\n%s%s", code, left, err, &out, &said)
	}
}

func TestNewFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mine.csv")
	of := func(path string) newFile { return newFile{"--out", path, "table of efficiency", isTable} }
	made := aMeasurement(t, "x", "x").table.Marshal()
	if err := of("").check(); err != nil || of("").write(made) != nil {
		t.Error("no file is nothing to do")
	}
	link := filepath.Join(dir, "link.csv")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{path, path, link} { // there is none, then it is replaced, also where a link leads
		if err := of(to).check(); err != nil {
			t.Fatal(err)
		}
		if err := of(to).write(made); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, made) {
			t.Errorf("%v\n%s", err, got)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	other := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(other, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		other:                             `--out "` + other + `": is there, and is no table of efficiency; give another name`,
		dir:                               `--out "` + dir + `": cannot be replaced: is a directory; give another name`,
		filepath.Join(dir, "no", "a.csv"): `--out "` + filepath.Join(dir, "no", "a.csv") + `": cannot be written: no such file or directory; give a file in a folder that can be written to`,
	} {
		if err := of(path).check(); err == nil || err.Error() != want || exitCode(err) != exitInput {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if err := of("/dev/full").write(made); exitCode(err) != exitFailure || err.Error() != "--out /dev/full could not be written: write /dev/full: no space left on device" {
		t.Errorf("a full disk: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
