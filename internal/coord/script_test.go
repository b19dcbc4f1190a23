package coord_test

import (
	"flag"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/scripttest"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts give now")

func TestScripts(t *testing.T) {
	scripttest.Run(t, *rewrite, func() scripttest.Machine { return &machine{} })
}

// machine drives a coordinator by script. Beside the inputs it knows:
//
//	account                      where the samples are
//	cutTaken                     also keeps the snapshot, as package serve does
//	resume islands=… [outside=…] [total=…] [keep=island]   a new era from that snapshot
//	rolledback                   the same after the rollback that the last input asked for
type machine struct {
	cfg      coord.Config
	state    *coord.State
	snapshot coord.Snapshot
	past     coord.Past // of the last rollback
}

// usual is the configuration of a script that says nothing else.
func usual() coord.Config {
	return coord.Config{
		Islands: []string{"a", "b"}, TotalSamples: 1000, StepSamples: 2, PeriodSamples: 20,
		Heartbeat: 10 * time.Second, Stall: 10 * time.Second, StallFactor: 10, FirstStep: 5 * time.Minute,
		Runway: 60 * time.Second, Restarts: 5, CheckpointWait: 30 * time.Second, StopWait: 30 * time.Second,
		SpikeLimit: 10, SpikeSteps: 1000, Rollbacks: 3,
	}
}

var inputs = []coord.Input{
	coord.Start{}, coord.Arrived{}, coord.Joined{}, coord.Gated{}, coord.Unanswered{}, coord.Moved{}, coord.Restored{}, coord.Ready{}, coord.Progress{}, coord.Spiked{}, coord.WantsWork{}, coord.Idle{}, coord.Left{}, coord.Exited{},
	coord.Disconnected{}, coord.Consumed{}, coord.ClosedAt{}, coord.Quarantine{}, coord.Quiet{}, coord.Captured{}, coord.CutTaken{},
	coord.Saved{}, coord.SaveFailed{}, coord.Evaluated{}, coord.Interrupt{}, coord.Tick{},
}

func (m *machine) Do(at time.Duration, verb string, fields scripttest.Fields) ([]string, error) {
	now := time.Unix(0, 0).UTC().Add(at)
	switch verb {
	case "config":
		m.cfg = usual()
		if err := fields.Fill(&m.cfg); err != nil {
			return nil, err
		}
		m.state = coord.New(m.cfg)
		return nil, nil
	case "account":
		consumed, leased, pooled := m.state.Account()
		line := fmt.Sprintf("%d in the model, %d leased, %d in the pool", consumed, leased, pooled)
		if skipped := m.state.Skipped(); len(skipped) > 0 {
			line += ", skipped " + scripttest.Show(skipped)
		}
		return []string{line}, nil
	case "resume":
		return nil, m.resume(fields)
	case "rolledback":
		m.state = coord.Restore(m.cfg, m.snapshot, nil, m.past)
		return nil, nil
	case "cutTaken":
		m.snapshot = m.state.Snapshot()
	}
	for _, in := range inputs {
		v := reflect.New(reflect.TypeOf(in))
		if !strings.EqualFold(v.Elem().Type().Name(), verb) {
			continue
		}
		if err := fields.Fill(v.Interface()); err != nil {
			return nil, err
		}
		return m.step(v.Elem().Interface().(coord.Input), now), nil
	}
	return nil, fmt.Errorf("no input %s", verb)
}

func (m *machine) step(in coord.Input, now time.Time) []string {
	effects, reason := m.state.Step(in, now)
	var out []string
	if reason != "" {
		out = append(out, ": "+reason)
	}
	for _, e := range effects {
		out = append(out, scripttest.Show(e))
		if r, ok := e.(coord.Record); ok {
			if back, ok := r.Record.(coord.RollbackRecord); ok {
				m.past = coord.Past{Rollbacks: back.Rollback, Skipped: back.Skipped}
			}
		}
	}
	return out
}

func (m *machine) resume(fields scripttest.Fields) error {
	change := struct {
		Islands []string
		Outside []string
		Total   int64
		Keep    string
	}{Outside: m.cfg.Outside, Total: m.cfg.TotalSamples}
	if err := fields.Fill(&change); err != nil {
		return err
	}
	m.cfg.Islands, m.cfg.Outside, m.cfg.TotalSamples = change.Islands, change.Outside, change.Total
	seeds := map[string]coord.Seed{}
	for _, s := range m.snapshot.Members {
		if s.Island == change.Keep {
			seed, ok := coord.SeedOf(s)
			if !ok {
				return fmt.Errorf("%s was not captured", s.Island)
			}
			seeds[s.Island] = seed
		}
	}
	m.state = coord.Restore(m.cfg, m.snapshot, seeds, m.past)
	return nil
}
