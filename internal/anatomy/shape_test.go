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
// models of many families, with the sizes that the runs' tables give; Megatron's of 2024
// (vocabulary 131072) have a head of their own.
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

func TestShapeNamesWhatIsMissing(t *testing.T) {
	_, err := Shape{Name: "gpt-3.6b", Layers: 30, Hidden: 3072, Heads: 32, FFN: 12288}.Decoder()
	if err == nil || !strings.Contains(err.Error(), "vocab") {
		t.Errorf("%v", err)
	}
}
