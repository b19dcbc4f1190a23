package ledger

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// stepOf is step n of an island that trains 100 tokens in seconds.
func stepOf(at time.Time, island string, inc, n uint64, loss, seconds float64) StepDone {
	return StepDone{At: at, Island: island, Incarnation: inc, Step: n, Tokens: 100 * n, Loss: loss, StepSeconds: seconds}
}

// TestA10MeanOfMeans: mean losses of three islands; then the third leaves. A sum would
// read 6.6 and then 4.2, which looks like a jump.
func TestA10MeanOfMeans(t *testing.T) {
	s := New()
	now := time.Unix(0, 0)
	s.Apply(RunStarted{At: now, Tokens: 1e6})
	names, losses := []string{"a", "b", "c"}, []float64{2.0, 2.2, 2.4}
	for i, name := range names {
		s.Apply(IslandStarted{At: now, Island: name, Incarnation: uint64(i + 1)})
		s.Apply(IslandReady{At: now, Island: name, Incarnation: uint64(i + 1)})
	}
	train := func(n uint64, who int) {
		for i := range who {
			now = now.Add(time.Second)
			s.Apply(stepOf(now, names[i], uint64(i+1), n, losses[i], 1))
		}
	}
	for n := uint64(1); n <= 40; n++ {
		train(n, 3)
	}
	if got := s.Fleet().Loss.Text(3); got != "2.200" {
		t.Errorf("three islands: %s", got)
	}
	if got, _ := s.TrainLoss.Get(); got < 2.15 || got > 2.25 {
		t.Errorf("training loss of three: %v", got)
	}
	s.Apply(IslandGone{At: now, Island: "c", Incarnation: 3, Kind: Left})
	if got := s.Fleet().Loss.Text(3); got != "2.100" {
		t.Errorf("when the third has left: %s", got)
	}
	for n := uint64(41); n <= 200; n++ {
		train(n, 2)
	}
	if got, _ := s.TrainLoss.Get(); got < 2.05 || got > 2.15 {
		t.Errorf("training loss of two: %v", got)
	}
}

func TestFleet(t *testing.T) {
	s := New()
	now := time.Unix(0, 0)
	s.Apply(RunStarted{At: now, RunID: "r", Tokens: 1000, Outside: true})
	if f := s.Fleet(); f.Waiting != "no island is there; the run waits for one to join" || len(f.Islands) != 0 {
		t.Errorf("nobody there: %+v", f)
	}
	s.Apply(RunStarted{At: now, RunID: "r", Tokens: 1000, Outside: true, OwnData: true, Islands: []string{"a"}})
	if f := s.Fleet(); f.Waiting != "no island is there; the run waits for one to join" || f.Islands[0].State != Awaited || f.Islands[0].Kind != "" {
		t.Errorf("one that may come: %+v", f)
	}
	for i, name := range []string{"a", "b", "slow"} {
		s.Apply(IslandStarted{At: now, Island: name, Incarnation: uint64(i + 1), From: "10.0.0.9:5", Engine: "external", Device: "npu"})
		s.Apply(IslandReady{At: now, Island: name, Incarnation: uint64(i + 1)})
	}
	for n := uint64(1); n <= 20; n++ {
		now = now.Add(time.Second)
		for i, busy := range []float64{1, 1, 1.6} {
			e := stepOf(now, []string{"a", "b", "slow"}[i], uint64(i+1), n, 2, 2)
			e.BusySeconds = busy
			s.Apply(e)
		}
	}
	s.Apply(Merged{At: now, Fragment: 2, Version: 7})
	s.Advance(now.Add(3 * time.Second))
	f := s.Fleet()
	slow := f.Islands[2]
	if !slow.Straggler || slow.Ratio.Text(1) != "1.6" || slow.Kind != "external npu" || slow.Host != "10.0.0.9:5" || slow.SecondsSinceStep.Text(0) != "3" {
		t.Errorf("slow: %+v", slow)
	}
	if f.Islands[0].Straggler || f.Waiting != "" || !f.OwnData || len(f.Versions) != 3 || f.Versions[2] != 7 {
		t.Errorf("%+v", f)
	}
	s.Apply(IslandGone{At: now, Island: "slow", Incarnation: 3, Kind: Died, Reason: "no sign of life"})
	if gone := s.Fleet().Islands[2]; gone.Straggler || gone.State != Away || gone.Why != "" {
		t.Errorf("gone: %+v", gone)
	}
	text, err := json.Marshal(f)
	if err != nil || !strings.Contains(string(text), `"valid_loss":null`) {
		t.Errorf("%s, %v", text, err)
	}
	var back Fleet
	if err := json.Unmarshal(text, &back); err != nil || back.Islands[2] != slow {
		t.Errorf("%+v, %v", back, err)
	}
}

// Case C12: 8 and 16 chips of one kind are two kinds, and a step that was withheld says nothing
// of the pace, for it has no tokens.
func TestC12RanksAreOfTheKind(t *testing.T) {
	s := New()
	now := time.Unix(0, 0)
	for i, name := range []string{"a", "b", "wide"} {
		s.Apply(IslandStarted{At: now, Island: name, Incarnation: uint64(i + 1), Engine: "external", Device: "npu", Ranks: []int{8, 8, 16}[i]})
		s.Apply(IslandReady{At: now, Island: name, Incarnation: uint64(i + 1)})
	}
	for n := uint64(1); n <= 20; n++ {
		now = now.Add(time.Second)
		for i, name := range []string{"a", "b", "wide"} {
			e := stepOf(now, name, uint64(i+1), n, 2, []float64{2, 2, 1}[i])
			if name == "b" {
				e.Tokens = 100 * ((n + 1) / 2)
				if n%2 == 0 { // withheld, and slow
					e.StepSeconds = 9
				}
			}
			s.Apply(e)
		}
	}
	islands := s.Fleet().Islands
	for i, want := range []string{"external npu x8", "external npu x8", "external npu x16"} {
		if m := islands[i]; m.Kind != want || m.Straggler || m.Ranks != []int{8, 8, 16}[i] {
			t.Errorf("%+v", m)
		}
	}
	if _, known := islands[2].Ratio.Get(); known {
		t.Errorf("compared with 8 chips: %+v", islands[2])
	}
}

// The danger: an island that the run starts itself is shown, and judged, as a native one,
// because only its trainer says what it is.
func TestWhatTrainsIsSaidWhenReady(t *testing.T) {
	s := New()
	now := time.Unix(0, 0)
	s.Apply(IslandStarted{At: now, Island: "a", Incarnation: 1})
	s.Apply(IslandReady{At: now, Island: "a", Incarnation: 1, Engine: "torch", Device: "npu"})
	if got := s.Fleet().Islands[0]; got.Engine != "torch" || got.Kind != "torch npu" {
		t.Errorf("%+v", got)
	}
	s.Apply(IslandStarted{At: now, Island: "a", Incarnation: 2, Engine: "external", Device: "cuda"})
	s.Apply(IslandReady{At: now, Island: "a", Incarnation: 2})
	if got := s.Fleet().Islands[0]; got.Kind != "external cuda" {
		t.Errorf("%+v", got)
	}
}
