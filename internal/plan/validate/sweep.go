package validate

import (
	"fmt"
	"math"
	"slices"
)

const (
	leastLayouts = 10   // of a sweep
	apart        = 0.03 // by how much steps differ whose order counts
)

// Sweep is one model on the same chips in many layouts: what choosing by the
// prediction would have cost.
type Sweep struct {
	Source     string  `json:"source"`
	Model      string  `json:"model"`
	Chip       string  `json:"chip"`
	Chips      int     `json:"chips"`
	Batch      int     `json:"batch"`
	Layouts    int     `json:"layouts"`
	Best       string  `json:"best"`        // id of the layout that was fastest
	Chosen     string  `json:"chosen"`      // id of the one that was predicted to be
	Regret     float64 `json:"regret"`      // by how much the chosen one was slower, as a fraction
	Pairs      int     `json:"pairs"`       // of layouts whose steps differ by more than 3 %
	RightOrder Number  `json:"right_order"` // share of them that are predicted in that order
	Calibrates bool    `json:"used_for_calibration"`
}

// sweepsOf finds the sweeps among the rows.
func sweepsOf(rows []Row) []Sweep {
	groups, layouts := map[string][]Row{}, map[string]map[string]bool{}
	for _, r := range rows {
		if r.Skipped != "" {
			continue
		}
		c := r.of
		key := fmt.Sprint(r.Source, c.Run.Model, r.Chip, c.Chips, c.Sequence, c.Batch, c.Run.Dtype, r.Software)
		if layouts[key] == nil {
			layouts[key] = map[string]bool{}
		}
		layouts[key][fmt.Sprint(c.Layout, c.DP, c.CP, c.MicroBatch, c.VPP, c.ZeRO, c.Recompute)] = true
		groups[key] = append(groups[key], r)
	}
	sweeps := []Sweep{}
	for _, key := range sorted(groups) {
		if len(layouts[key]) >= leastLayouts {
			sweeps = append(sweeps, sweepOf(groups[key]))
		}
	}
	return sweeps
}

func sweepOf(rows []Row) Sweep {
	c := rows[0].of
	s := Sweep{Source: rows[0].Source, Model: c.Run.Model, Chip: rows[0].Chip, Chips: c.Chips, Batch: c.Batch, Layouts: len(rows), RightOrder: Unknown(),
		Calibrates: slices.ContainsFunc(rows, func(r Row) bool { return r.Calibrates })}
	best, chosen, right := rows[0], rows[0], 0
	for i, r := range rows {
		if r.Measured < best.Measured {
			best = r
		}
		if r.step.Seconds < chosen.step.Seconds {
			chosen = r
		}
		for _, other := range rows[:i] {
			slow, fast := r, other
			if slow.Measured < fast.Measured {
				slow, fast = fast, slow
			}
			if slow.Measured/fast.Measured-1 <= apart {
				continue
			}
			s.Pairs++
			if slow.step.Seconds > fast.step.Seconds {
				right++
			}
		}
	}
	s.Best, s.Chosen, s.Regret = best.ID, chosen.ID, math.Max(0, float64(chosen.Measured/best.Measured-1))
	if s.Pairs > 0 {
		s.RightOrder = Number(float64(right) / float64(s.Pairs))
	}
	return s
}
