package plan

import (
	"math"
	"testing"
)

func TestEvidenceOfAChipWithoutRuns(t *testing.T) {
	if e, ok := EvidenceOf("h1000"); ok || e.Rows != 0 || !math.IsNaN(e.Median) || !math.IsNaN(e.P90) {
		t.Errorf("%+v", e)
	}
}

func TestEvidenceComesBack(t *testing.T) {
	want := []Evidence{{"a", 7, 3, 0.051, 0.125}, {"b", 1, 0, 0.2, 0.2}}
	got, err := parseEvidence(MarshalEvidence(want))
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "chip\n", "chip,rows,tests,median,p90\na,x,1,0,0\n", "chip,rows,tests,median,p90\na,1,1,0,x\n"} {
		if _, err := parseEvidence([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestEvidenceIsOfRuns(t *testing.T) {
	all, err := parseEvidence(builtinEvidence)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Rows < 1 || e.Tests > e.Rows || !(e.Median >= 0) || !(e.P90 >= e.Median) {
			t.Errorf("%+v", e)
		}
	}
}
