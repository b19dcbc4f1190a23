package syncer_test

import (
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/syncer"
)

// TestQuarantineWindow: 3 refusals in the last 20 contributions shut an island out,
// wherever in the 20 they are; 3 in 21 do not.
func TestQuarantineWindow(t *testing.T) {
	for good, want := range map[int]bool{0: true, 1: true, 17: true, 18: false} {
		s := syncer.New(usual())
		s.Step(syncer.Join{Incarnation: 1, Island: "a"}, time.Time{})
		got, sequence, position, version := false, uint64(0), int64(0), uint64(0)
		send := func(defect string) {
			sequence++
			c := syncer.Contribution{
				Era: 1, Incarnation: 1, Sequence: sequence, Base: version, FromPosition: position, ToPosition: position + 1,
				Tokens: 1, Flush: true, Defect: defect,
			}
			s.Step(syncer.Arrived{Contribution: c}, time.Time{})
			if defect == "" {
				s.Step(syncer.Merged{Finite: true}, time.Time{})
				position, version = position+1, version+1
			}
			effects, _ := s.Step(syncer.Committed{}, time.Time{})
			for _, e := range effects {
				if _, ok := e.(syncer.Quarantine); ok {
					got = true
				}
			}
		}
		send("x")
		send("x")
		for range good {
			send("")
		}
		send("x")
		if got != want {
			t.Errorf("2 refusals, %d merges, 1 refusal: quarantined %v, want %v", good, got, want)
		}
		if v := s.Version(0); v != uint64(good) || s.Stamp(0) != int64(good) {
			t.Errorf("version %d, stamp %d after %d merges of 1 token", v, s.Stamp(0), good)
		}
	}
}
