package anatomy

import (
	"bytes"
	"encoding/csv"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Published runs state the number of parameters with a few digits. The table has
// models of many families, with the sizes that the runs' tables give.
func TestShapesOfPublishedRuns(t *testing.T) {
	data, err := os.ReadFile("testdata/published.csv")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		d, err := shapeOf(t, row).Decoder()
		if err != nil {
			t.Errorf("%s: %v", row[0], err)
			continue
		}
		stated, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		_, behind, _ := strings.Cut(row[1], ".")
		unit := math.Pow(10, -float64(len(behind)))
		if got := float64(d.Parameters().Total()) / 1e9; math.Abs(got-stated) > 0.51*unit {
			t.Errorf("%s has %.4f billion parameters, stated are %s", row[0], got, row[1])
		}
	}
	if len(rows) < 30 {
		t.Errorf("%d rows", len(rows))
	}
}

func shapeOf(t *testing.T, row []string) Shape {
	t.Helper()
	n := make([]int, len(row))
	for i := 2; i < len(row); i++ {
		if row[i] == "" {
			continue
		}
		var err error
		if n[i], err = strconv.Atoi(row[i]); err != nil {
			t.Fatal(err)
		}
	}
	s := Shape{Name: row[0], Layers: n[2], Hidden: n[3], Heads: n[4], KVHeads: n[5], FFN: n[6], Experts: n[7], TopK: n[8], Shared: n[9],
		ExpertFFN: n[10], DenseLayers: n[11], Vocab: n[12], Positions: n[13], MTP: n[14]}
	if row[15] != "" {
		tied := row[15] == "1"
		s.Tied = &tied
	}
	return s
}

// A family's shape is the model of that name: the same parameters and the same work.
func TestShapesAreTheModels(t *testing.T) {
	for _, c := range []struct {
		shape Shape
		model Decoder
	}{
		{Shape{Name: "gpt-oss-120b", Layers: 36, Hidden: 2880, Heads: 64, KVHeads: 8, Experts: 128, TopK: 4, ExpertFFN: 2880, Vocab: 201088}, gptOSS()},
		{Shape{Name: "qwen3-30b-a3b", Layers: 48, Hidden: 2048, Heads: 32, KVHeads: 4, Experts: 128, TopK: 8, ExpertFFN: 768, Vocab: 151936}, qwen3x30B()},
		{Shape{Name: "mixtral-8x7b", Layers: 32, Hidden: 4096, Heads: 32, KVHeads: 8, Experts: 8, TopK: 2, ExpertFFN: 14336, Vocab: 32000}, mixtral8x7B()},
		{Shape{Name: "OLMoE-1B-7B", Layers: 16, Hidden: 2048, Heads: 16, Experts: 64, TopK: 8, ExpertFFN: 1024, Vocab: 50304}, olmoe()},
		{Shape{Name: "deepseek-v2", Layers: 60, Hidden: 5120, Heads: 128, FFN: 12288, Experts: 160, TopK: 6, Shared: 2, ExpertFFN: 1536, DenseLayers: 1, Vocab: 102400},
			deepSeek("deepseek-v2", 60, 5120, 128, 1536, 1, 12288, 160, 6, 1536, 2, 102400)},
	} {
		d, err := c.shape.Decoder()
		if err != nil {
			t.Fatal(err)
		}
		convention := Convention{Sequence: 4096}
		if got, want := d.Parameters().Total(), c.model.Parameters().Total(); got != want {
			t.Errorf("%s: %d parameters, want %d", c.shape.Name, got, want)
		}
		if got, want := d.Work(convention).Forward(), c.model.Work(convention).Forward(); math.Abs(got/want-1) > 1e-12 {
			t.Errorf("%s: %g operations, want %g", c.shape.Name, got, want)
		}
	}
}

func TestShapeNamesWhatIsMissing(t *testing.T) {
	_, err := Shape{Name: "gpt-3.6b", Layers: 30, Hidden: 3072, Heads: 32, FFN: 12288}.Decoder()
	if err == nil || !strings.Contains(err.Error(), "vocab") {
		t.Errorf("%v", err)
	}
}
