package validate

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// sweep is a table of one model in many layouts; the micro-batch says which.
func sweep(t *testing.T, seconds ...float64) []published.Run {
	t.Helper()
	csv := header
	for i, s := range seconds {
		csv += strings.Replace(line(fmt.Sprint("r", i), "me", "h100-80g-sxm", fmt.Sprint(s)), ",16,1,h100", fmt.Sprintf(",1024,%d,h100", i+1), 1)
	}
	runs, err := published.Parse("mine.csv", []byte(csv))
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

func TestChoosingAmongLayouts(t *testing.T) {
	measured := []float64{1.5, 1.0, 1.02, 1.3, 1.4, 1.6, 1.7, 1.8, 1.9, 2.0}
	predict := func(best int, swap bool) Predictor {
		return func(c published.Case) (plan.Step, error) {
			i := c.MicroBatch.Value - 1
			s := plan.Step{Seconds: 10 * measured[i]}
			if i == best {
				s.Seconds = 1
			}
			if swap {
				s.Seconds = 100 / s.Seconds
			}
			return s, nil
		}
	}
	runs := sweep(t, measured...)
	for _, c := range []struct {
		name   string
		p      Predictor
		chosen string
		regret float64
		right  bool
	}{
		{"the best", predict(1, false), "r1", 0, true},
		{"one that differs by less than what counts", predict(2, false), "r2", 0.02, true},
		{"the wrong way round", predict(-1, true), "r9", 1, false},
	} {
		s := of(runs, false, c.p).Summary.Sweeps
		if len(s) != 1 || s[0].Best != "r1" || s[0].Chosen != c.chosen || !near(Number(1+s[0].Regret), Number(1+c.regret)) || s[0].Pairs != 44 || (s[0].RightOrder == 1) != c.right || !c.right && s[0].RightOrder != 0 {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
	if s := of(runs[:9], false, predict(1, false)).Summary.Sweeps; len(s) != 0 {
		t.Errorf("nine layouts: %+v", s)
	}
	some := func(c published.Case) (plan.Step, error) {
		if c.MicroBatch.Value == 3 {
			return plan.Step{}, errors.New("no")
		}
		return predict(1, false)(c)
	}
	if r := of(runs, false, some); len(r.Summary.Sweeps) != 0 || r.Rows[2].Skipped != "no" || r.Rows[2].Measured != 1.02 {
		t.Errorf("one that cannot be predicted: %+v", r.Rows[2])
	}
}

// The page and the issue speak of three.
func TestBuiltinSweeps(t *testing.T) {
	layouts := map[string]int{}
	for _, s := range of(published.Builtin(), false, sixND).Summary.Sweeps {
		layouts[s.Model] = s.Layouts
		if s.Calibrates {
			t.Errorf("%s is fitted to", s.Model)
		}
	}
	if len(layouts) != 3 || layouts["gpt-3.6b"] != 25 || layouts["gpt-18.4b"] != 15 || layouts["gpt-39.1b"] != 47 {
		t.Errorf("%v", layouts)
	}
}

func TestBytesThatSourcesCount(t *testing.T) {
	counts := map[Bytes]int{}
	for _, m := range of(published.Builtin(), false, sixND).Summary.Memory.Rows {
		counts[m.Bytes]++
		if m.Bytes == Allocated && !strings.HasPrefix(m.ID, "simumax-") {
			t.Errorf("%s: %s", m.ID, m.Bytes)
		}
	}
	if counts[Allocated] != 18 || counts[Reserved] != 20 || counts[Unsaid] != 26 || counts[Activations] != 8 {
		t.Errorf("%v", counts)
	}
}

func TestPeaksOfMemory(t *testing.T) {
	csv := header + strings.Replace(line("a", "me", "h100-80g-sxm", "1"), ",s,,,\n", ",s,10,,peak alloc\n", 1) + strings.Replace(line("b", "me", "h100-80g-sxm", "1"), ",s,,,\n", ",s,10,,reserved\n", 1)
	rows := ask(t, csv, false).Summary.Memory.Rows
	if len(rows) != 2 || rows[0].Bytes != Allocated || rows[1].Bytes != Reserved || !near(rows[1].Predicted, rows[0].Predicted+1) || !near(rows[0].Error, rows[0].Predicted/10-1) {
		t.Errorf("%+v", rows)
	}
}
