package published

import (
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
)

// comparable are the built-in runs that a prediction can be held against.
func comparable(t *testing.T, s Split) []Case {
	t.Helper()
	var cases []Case
	chips := chip.Builtin()
	for _, r := range Builtin() {
		c, err := r.Case(chips)
		if err == nil {
			_, err = c.Step(s.Of(r.Source).Counts)
		}
		if err == nil {
			cases = append(cases, c)
		}
	}
	return cases
}

func TestEverySourceIsDecided(t *testing.T) {
	s := BuiltinSplit(chip.Builtin())
	for _, c := range comparable(t, s) {
		if source, ok := s.find(c.Run.Source); !ok || source.Reason == "" || source.Date == "" {
			t.Errorf("%s: %q has no side, reason and date", c.Run.ID, c.Run.Source)
		}
	}
	for _, source := range s.Sources {
		if source.Counts != "" && source.Counts != AllPairs && source.Counts != Causal {
			t.Errorf("%s counts %q", source.Name, source.Counts)
		}
	}
}

// The rules by which sources were divided.
func TestTheSplitIsFair(t *testing.T) {
	s := BuiltinSplit(chip.Builtin())
	type kind struct {
		arch string
		moe  bool
	}
	sources, fitted := map[kind]map[string]bool{}, map[kind]int{}
	all, calibrating := 0, 0
	for _, c := range comparable(t, s) {
		k := kind{c.Chip.Of(chip.Arch).Text(), c.Run.MoE()}
		if sources[k] == nil {
			sources[k] = map[string]bool{}
		}
		sources[k][c.Run.Source] = true
		all++
		if s.Calibrates(c.Run) {
			fitted[k]++
			calibrating++
		}
		if s.Newer(c.Run) {
			t.Errorf("%s: newer than what is fitted to", c.Run.ID)
		}
	}
	for k, of := range sources {
		if len(of) > 1 && fitted[k] < 5 {
			t.Errorf("%+v: %d sources, %d runs to fit to", k, len(of), fitted[k])
		}
	}
	if share := float64(calibrating) / float64(all); share < 0.45 || share > 0.55 {
		t.Errorf("%d of %d runs are fitted to", calibrating, all)
	}
}

func TestOnlyRunsThatTheProgramCarriesAreFittedTo(t *testing.T) {
	s := BuiltinSplit(chip.Builtin())
	for _, r := range Builtin() {
		if !s.Calibrates(r) {
			continue
		}
		moved := r
		moved.ID += "-of-somebody-else"
		if s.Calibrates(moved) {
			t.Errorf("%s is fitted to", moved.ID)
		}
		moved = r
		moved.Source = "nobody knows"
		if s.Calibrates(moved) {
			t.Errorf("%s from another source is fitted to", r.ID)
		}
		return
	}
	t.Error("nothing is fitted to")
}

func TestNewerSoftware(t *testing.T) {
	s := BuiltinSplit(chip.Builtin())
	year := Count{2026, true}
	for _, c := range []struct {
		software string
		year     Count
		want     bool
	}{
		{"megatron-bridge 26.04.01", year, false}, {"Megatron-Bridge 26.04.02", year, true}, {"megatron-bridge 26.04.01.1", year, true},
		{"megatron-bridge 26.10", Count{2025, true}, true}, {"megatron-bridge 26.4", year, false}, {"megatron-bridge 9.12", year, false},
		{"torch.compile", year, false}, {"", year, false}, {"", Count{2027, true}, true}, {"other 99.1", year, false}, {"other 1.0", Count{2027, true}, true}, {"", Count{}, false},
	} {
		if got := s.Newer(Run{Software: c.software, Year: c.year}); got != c.want {
			t.Errorf("%q of %v: %v", c.software, c.year, got)
		}
	}
}
