package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
)

// askEfficiency takes what products reach from the user's table. That it says nothing of
// a chip is told; of all of them, it is the wrong one.
func (f *planFlags) askEfficiency(p *planned) error {
	with, without, err := f.measured(&p.question.Fleet)
	if err != nil {
		return err
	}
	if len(with) == 0 && len(without) > 0 {
		return usage("--efficiency", f.efficiency, fmt.Sprintf("has no products in %s, with a peak, of %s", f.format, strings.Join(without, ", ")),
			"measure with --chip NAME as the fleet file calls it, or leave it out")
	}
	for _, name := range without {
		p.taken = append(p.taken, fmt.Sprintf("%s: %s has no products in %s with a peak: what published runs on such chips came to is taken.", name, f.efficiency, f.format))
	}
	return nil
}

// measured sets what products reach, for pools of which the fleet file does not say it:
// the chips of those that the table knows, and of those that it does not.
func (f *planFlags) measured(some *fleet.Fleet) (with, without []string, err error) {
	if f.efficiency == "" {
		return nil, nil, nil
	}
	table, err := tableOf(f.efficiency)
	if err != nil {
		return nil, nil, err
	}
	for i := range some.Pools {
		pool := &some.Pools[i]
		if pool.Efficiency != nil {
			continue
		}
		name := pool.Chip.Name
		pool.Efficiency = reachedBy(table, f.efficiency, name, f.format)
		switch {
		case pool.Efficiency != nil:
			with = append(with, name)
		case !slices.Contains(without, name):
			without = append(without, name)
		}
	}
	return with, without, nil
}

// reachedBy is the share of the peak that a chip's products reach by a table; nil where it
// says nothing of it.
func reachedBy(t chip.Table, file, name, format string) *fleet.Span {
	if r, ok := plan.ShareOf(t, name, format); ok {
		return &fleet.Span{Low: r.Low, High: r.High, Likely: r.Mid, By: "as measured (" + file + ")"}
	}
	if r, assumed, ok := plan.AssumedShareOf(t, name, format); ok {
		return &fleet.Span{Low: r.Low, High: r.High, Likely: r.Mid, By: "assumed (" + file + "): " + assumed}
	}
	return nil
}
