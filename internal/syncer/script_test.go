package syncer_test

import (
	"flag"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/scripttest"
	"github.com/mistura-project/mistura/internal/syncer"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts give now")

func TestScripts(t *testing.T) {
	scripttest.Run(t, *rewrite, func() scripttest.Machine { return &machine{} })
}

// machine drives a syncer by script. Beside the inputs it knows:
//
//	era fleet=… [period=…]   a new era from the tables of the last cut
type machine struct {
	cfg    syncer.Config
	state  *syncer.State
	tables syncer.Tables
}

// usual is the configuration of a script that says nothing else.
func usual() syncer.Config {
	return syncer.Config{
		Era: 1, View: 1, Fragments: 1, PeriodTokens: 100, Quorum: 1, MaxWait: 10 * time.Second,
		StaleVersions: 4, RefusalLimit: 3, RefusalWindow: 20,
	}
}

var inputs = []syncer.Input{
	syncer.Join{}, syncer.Progress{}, syncer.Back{}, syncer.Arrived{}, syncer.Passed{}, syncer.Close{}, syncer.Merged{}, syncer.Committed{},
	syncer.Pause{}, syncer.Resume{}, syncer.TakeCut{}, syncer.Tick{},
}

func (m *machine) Do(at time.Duration, verb string, fields scripttest.Fields) ([]string, error) {
	now := time.Unix(0, 0).UTC().Add(at)
	switch verb {
	case "config":
		m.cfg = usual()
		err := fields.Fill(&m.cfg)
		m.state = syncer.New(m.cfg)
		return nil, err
	case "era":
		var change struct{ Fleet, Period int64 }
		if err := fields.Fill(&change); err != nil {
			return nil, err
		}
		m.cfg.Era++
		if change.Period > 0 {
			m.cfg.PeriodTokens = change.Period
		}
		m.state = syncer.Restore(m.cfg, m.tables, change.Fleet)
		return nil, nil
	}
	for _, in := range inputs {
		v := reflect.New(reflect.TypeOf(in))
		if !strings.EqualFold(v.Elem().Type().Name(), verb) {
			continue
		}
		if a, ok := v.Interface().(*syncer.Arrived); ok {
			a.Contribution.Era = m.cfg.Era
		}
		if err := fields.Fill(v.Interface()); err != nil {
			return nil, err
		}
		return m.step(v.Elem().Interface().(syncer.Input), now), nil
	}
	return nil, fmt.Errorf("no input %s", verb)
}

func (m *machine) step(in syncer.Input, now time.Time) []string {
	effects, reason := m.state.Step(in, now)
	var out []string
	if reason != "" {
		out = append(out, ": "+reason)
	}
	for _, e := range effects {
		if c, ok := e.(syncer.Cut); ok {
			m.tables = c.Tables
		}
		out = append(out, scripttest.Show(e))
	}
	return out
}
