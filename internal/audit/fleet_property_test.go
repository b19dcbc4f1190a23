package audit_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/audit"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/syncer"
)

// trouble is one fault of a history. Which, when and whom is drawn by rapid, so
// that a failing history shrinks to the faults that matter.
type trouble struct {
	kind   string
	at     time.Duration
	island string
	lasts  time.Duration
}

func (f trouble) String() string { return fmt.Sprintf("%s %s %v %v", f.kind, f.island, f.at, f.lasts) }

// kinds of trouble.
var kinds = []string{
	"crash",     // the process ends, its parent sees it
	"vanish",    // silence
	"freeze",    // SIGSTOP, and SIGCONT some time later
	"hang",      // heartbeats, but the step does not end
	"break",     // of the stream, with what is under way in it
	"leave",     // on a termination signal
	"outage",    // of the store
	"no start",  // the next starts fail
	"spoil",     // the next contributions are refused
	"full",      // the next saves fail for want of space
	"interrupt", // Ctrl-C, then a resume with another number of islands
	"kill",      // of the parent, then a resume
}

func drawFleet(t *rapid.T) (*fleet, []trouble) {
	s := &fleet{
		t: t, clock: &clock{}, paces: map[string]time.Duration{}, crashing: map[string]int{}, gone: map[string]string{},
		random: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)),
		tau:    rapid.Uint64Range(0, 2).Draw(t, "overlap"),
		strict: rapid.Bool().Draw(t, "strict"),
		noise:  rapid.SampledFrom([]float64{0, 0, 0.02}).Draw(t, "noise"),
		spikes: rapid.SampledFrom([]float64{0, 0, 0.02, 0.2}).Draw(t, "spikes"),
	}
	s.outside, s.open = map[string]bool{}, rapid.SampledFrom([]bool{false, false, true}).Draw(t, "open")
	for _, name := range []string{"a", "b", "c", "d"} {
		s.outside[name] = rapid.SampledFrom([]bool{false, false, true}).Draw(t, "outside "+name)
	}
	s.cfg = coord.Config{
		StepSamples:       2,
		TotalSamples:      2 * rapid.Int64Range(1, 150).Draw(t, "steps"),
		PeriodSamples:     rapid.Int64Range(2, 40).Draw(t, "period"),
		CheckpointSamples: rapid.SampledFrom([]int64{0, 20, 60}).Draw(t, "checkpoint"),
		Heartbeat:         10 * time.Second, Stall: 10 * time.Second, StallFactor: 10, FirstStep: time.Minute, Runway: 20 * time.Second,
		Restarts: 3, CheckpointWait: 8 * time.Second, StopWait: 20 * time.Second,
		Seed: 1, SpikeLimit: rapid.SampledFrom([]int{0, 3, 10}).Draw(t, "spike limit"), SpikeSteps: 40, Rollbacks: rapid.IntRange(0, 3).Draw(t, "rollbacks"),
	}
	s.settle([]string{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(t, "islands")])
	s.xcfg = syncer.Config{
		Era: 1, View: 1, Fragments: rapid.IntRange(1, 4).Draw(t, "fragments"), PeriodTokens: s.cfg.PeriodSamples,
		Quorum: rapid.IntRange(1, 2).Draw(t, "quorum"), MaxWait: 3 * time.Second, StaleVersions: 4, RefusalLimit: 3, RefusalWindow: 20,
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		s.paces[name] = time.Duration(rapid.IntRange(1, 20).Draw(t, "pace "+name)) * 100 * time.Millisecond
	}
	for range s.xcfg.Fragments {
		s.version = append(s.version, 0)
		s.truth = append(s.truth, map[int64]bool{})
	}
	faults := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) trouble {
		return trouble{
			rapid.SampledFrom(kinds).Draw(t, "kind"), time.Duration(rapid.IntRange(0, 600).Draw(t, "at")) * 100 * time.Millisecond,
			rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "island"), time.Duration(rapid.IntRange(1, 300).Draw(t, "lasts")) * 100 * time.Millisecond,
		}
	}), 0, 10).Draw(t, "faults")
	return s, faults
}

// strike lets a fault happen to the island's newest incarnation.
func (s *fleet) strike(f trouble) {
	s.say("fault %v", f)
	var l *learner
	for _, m := range s.learners {
		if m.island == f.island && (l == nil || m.inc > l.inc) {
			l = m
		}
	}
	switch f.kind {
	case "outage":
		s.outage = s.clock.now + f.lasts
		return
	case "no start":
		s.crashing[f.island] = 1 + int(f.lasts.Seconds())%4
		return
	case "full":
		s.failing = 1 + int(f.lasts.Seconds())%2
		return
	case "interrupt":
		s.decide(coord.Interrupt{})
		return
	case "kill":
		if len(s.checkpoints) > 0 {
			s.resume(s.crew(f))
		}
		return
	}
	if l == nil || l.dead {
		return
	}
	switch f.kind {
	case "crash":
		l.die("crashed", s.jitter(100*time.Millisecond))
	case "vanish":
		l.die("vanished", -1)
	case "freeze":
		l.frozen = true
		s.clock.after(f.lasts, func() {
			l.frozen = false
			l.wake()
		})
	case "hang":
		l.hung = true
	case "break":
		l.breakLink(f.lasts / 4)
	case "leave":
		l.leaving = true
		l.wake()
	case "spoil":
		l.defects = 1 + int(f.lasts.Seconds())%4
	}
}

// crew is the islands of the next era.
func (s *fleet) crew(f trouble) []string {
	return []string{"a", "b", "c", "d"}[:1+int(f.lasts/time.Second)%4]
}

// run lets the fleet train to its end, whatever happens to it.
func (s *fleet) run(faults []trouble) {
	for _, f := range faults {
		s.clock.after(f.at, func() { s.strike(f) })
	}
	s.begin(coord.New(s.cfg), syncer.New(s.xcfg), struct {
		Kind string `json:"kind"`
	}{"era"})
	for n := 0; ; n++ {
		if s.result != nil {
			switch s.result.Outcome {
			case coord.Finished, coord.Failed:
				return
			case coord.RolledBack:
				s.rollBack()
				continue
			}
			s.check()
			s.cfg.TotalSamples += 2 * s.random.Int64N(10) // go on for longer
			if len(s.checkpoints) == 0 {                  // nobody had come yet
				s.restart()
				continue
			}
			s.resume(s.crew(trouble{lasts: time.Duration(s.random.IntN(4)) * time.Second}))
		}
		if !s.clock.next() || n > 1_000_000 || s.clock.now > 3*time.Hour {
			for _, l := range s.learners {
				s.say("%v", l)
			}
			s.t.Fatalf("the run does not end")
		}
	}
}

// rollBack begins the next era as package serve does: with the islands that there are,
// from the newest checkpoint or from the beginning.
func (s *fleet) rollBack() {
	s.noProblems()
	if len(s.checkpoints) > 0 {
		s.resume(slices.Concat(s.cfg.Islands, s.cfg.Outside))
		return
	}
	s.restart()
}

// restart begins the next era from the beginning.
func (s *fleet) restart() {
	first := struct {
		Kind   string   `json:"kind"`
		Undone []undone `json:"undone"`
	}{Kind: "era"}
	for era, versions := range s.versions {
		for p := range s.version {
			if last := versions[p]; last > 0 {
				first.Undone = append(first.Undone, undone{uint32(era + 1), p, 1, last})
			}
		}
	}
	for p := range s.version {
		s.version[p], s.truth[p] = 0, map[int64]bool{}
	}
	s.restores = nil
	s.xcfg.Era = uint32(s.era + 1)
	s.begin(coord.Restore(s.cfg, coord.Snapshot{}, nil, s.past), syncer.New(s.xcfg), first)
}

func (s *fleet) noProblems() audit.Report {
	r, err := audit.Run(s.tape)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range r.Problems {
		s.t.Errorf("audit: %s", p)
	}
	return r
}

// check judges the end of an era: from the tape alone, and against what the
// learners know.
func (s *fleet) check() {
	r := s.noProblems()
	if r.Outcome != s.result.Outcome {
		s.t.Errorf("the tape ends %q, the run %q", r.Outcome, s.result.Outcome)
	}
	if strings.Contains(s.result.Why, "rollbacks") {
		return // in the middle of everything, not at rest
	}
	consumed, leased, pooled := s.coord.Account()
	total := s.cfg.TotalSamples
	skipped := lengthOf(s.coord.Skipped())
	if r.Consumed != consumed || r.Holding != leased || r.Skipped != skipped || total-r.Consumed-r.Holding-r.Skipped != pooled {
		s.t.Errorf("the tape says %+v, the coordinator has %d in the model, %d leased, %d in the pool, %d skipped", r, consumed, leased, pooled, skipped)
	}
	for p, f := range r.Fragments {
		if f.Version != s.version[p] || f.Samples != int64(len(s.truth[p])) {
			s.t.Errorf("fragment %d has %+v on the tape, version %d of %d samples in truth", p, f, s.version[p], len(s.truth[p]))
		}
	}
	if len(r.Nowhere) > 0 && !s.unsure {
		s.t.Errorf("samples %v count as consumed and are nowhere", r.Nowhere)
	}
	switch s.result.Outcome {
	case coord.Failed:
		if strings.Contains(s.result.Why, "no space") {
			return // the last checkpoint is an older one
		}
		for _, name := range s.cfg.Outside {
			if k := s.gone[name]; k != "quarantined" || s.open {
				s.t.Errorf("the run failed (%s) although island %s is %q and may come back", s.result.Why, name, k)
			}
		}
		for _, name := range s.cfg.Islands {
			if k := s.gone[name]; k != "left" && k != "quarantined" && k != "given up" {
				s.t.Errorf("the run failed (%s) although island %s is only %q", s.result.Why, name, k)
			}
		}
	case coord.Finished:
		if consumed+skipped != total && !s.unsure {
			s.t.Errorf("finished with %d of %d samples", consumed, total)
		}
	}
	if len(s.checkpoints) == 0 && s.result.Outcome == coord.Interrupted {
		return // before anybody came
	}
	last := s.checkpoints[len(s.checkpoints)-1]
	for p := range s.truth {
		if len(last.truth[p]) != len(s.truth[p]) {
			s.t.Errorf("the last checkpoint has %d samples of fragment %d, the model %d", len(last.truth[p]), p, len(s.truth[p]))
		}
	}
	for _, l := range s.learners {
		for p, f := range l.fragments {
			if !l.dead && !l.expelled && s.result.Outcome == coord.Finished && f.flight != nil && f.flight.verdict == nil {
				s.t.Errorf("%v has no verdict on contribution %d of fragment %d", l, f.sequence, p)
			}
		}
	}
}

// TestFleet drives coordinator and syncer together through random faults. Whatever
// happens, the run ends; no contribution counts twice (S1); no sample gets into a
// fragment twice, and in the model, leased and in the pool are always all samples
// (S2); nobody waits for samples that are there (L1).
func TestFleet(t *testing.T) {
	for range 10 { // of 100 histories each
		rapid.Check(t, func(t *rapid.T) {
			s, faults := drawFleet(t)
			defer func() {
				if t.Failed() {
					t.Log(strings.Join(s.trace, "\n"))
				}
			}()
			s.run(faults)
			s.check()
		})
	}
}
