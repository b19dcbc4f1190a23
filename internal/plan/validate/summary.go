package validate

// Group sums up rows.
type Group struct {
	Rows    int `json:"rows"`
	Skipped int `json:"skipped"`
	Scored  int `json:"scored"` // rows whose errors follow
	Stats
	Coverage Number `json:"coverage"` // share of measured times in the predicted range, which is to hold 80 %
}

// groupOf sums up rows; of those that are not skipped it scores the ones that count.
func groupOf(rows []Row, counts func(Row) bool) Group {
	g := Group{Rows: len(rows), Coverage: Unknown()}
	var errors []float64
	within := 0
	for _, r := range rows {
		switch {
		case r.Skipped != "":
			g.Skipped++
		case counts(r):
			errors = append(errors, float64(r.Error))
			if r.Within() {
				within++
			}
		}
	}
	g.Scored, g.Stats = len(errors), statsOf(errors)
	if g.Scored > 0 {
		g.Coverage = Number(float64(within) / float64(g.Scored))
	}
	return g
}

// Cuts are groups by what the rows have in common.
type Cuts struct {
	Chip     map[string]Group `json:"by_chip"`
	Family   map[string]Group `json:"by_family"`
	Source   map[string]Group `json:"by_source"`
	Kind     map[string]Group `json:"by_kind"`
	Format   map[string]Group `json:"by_format"`
	Software map[string]Group `json:"by_software"`
}

func cutsOf(rows []Row, counts func(Row) bool) Cuts {
	by := func(name func(Row) string) map[string]Group {
		parts := map[string][]Row{}
		for _, r := range rows {
			key := name(r)
			if key == "" {
				key = "not stated"
			}
			parts[key] = append(parts[key], r)
		}
		groups := make(map[string]Group, len(parts))
		for key, part := range parts {
			groups[key] = groupOf(part, counts)
		}
		return groups
	}
	return Cuts{Chip: by(func(r Row) string { return r.Chip }), Family: by(func(r Row) string { return r.Family }), Source: by(func(r Row) string { return r.Source }),
		Kind: by(func(r Row) string { return r.Kind }), Format: by(func(r Row) string { return r.Format }), Software: by(func(r Row) string { return r.Software })}
}

// Summary is what the rows come to. Its own errors are those to expect: of rows that
// nothing was fitted to, with software no newer than that of those that something was
// fitted to.
type Summary struct {
	Unit     string `json:"unit"` // of measured and predicted in rows
	Anchored bool   `json:"anchored"`
	Group
	Comparable        int `json:"comparable"` // rows that state all that a comparison needs
	ComparableSkipped int `json:"comparable_skipped"`
	Anchors           int `json:"anchors"` // rows that set a factor and are not scored
	Cuts

	Calibration  Part `json:"calibration"`          // rows that constants were fitted to
	Newer        Part `json:"newer_software"`       // rows of newer software
	Twins        Part `json:"twins_in_calibration"` // scored rows of which calibration has the same with other software
	WithoutTwins Part `json:"without_twins"`        // scored rows but those

	Memory Memories `json:"memory"`
	Sweeps []Sweep  `json:"sweeps"`
}

// Part sums up some of the rows.
type Part struct {
	Group
	Chip map[string]Group `json:"by_chip"`
}

func partOf(rows []Row, belongs func(Row) bool) Part {
	var some []Row
	for _, r := range rows {
		if belongs(r) {
			some = append(some, r)
		}
	}
	all := func(r Row) bool { return !r.Anchor }
	return Part{Group: groupOf(some, all), Chip: cutsOf(some, all).Chip}
}

func summaryOf(rows []Row, anchored bool) Summary {
	s := Summary{Unit: Unit, Anchored: anchored, Group: groupOf(rows, Row.Scored), Memory: memoriesOf(rows), Sweeps: sweepsOf(rows)}
	var open []Row
	for _, r := range rows {
		if r.Anchor {
			s.Anchors++
		}
		if r.Comparable {
			s.Comparable++
			if r.Skipped != "" {
				s.ComparableSkipped++
			}
		}
		if !r.Calibrates && !r.Newer && !r.Anchor {
			open = append(open, r)
		}
	}
	s.Cuts = cutsOf(open, Row.Scored)
	s.Calibration = partOf(rows, func(r Row) bool { return r.Calibrates })
	s.Newer = partOf(rows, func(r Row) bool { return r.Newer && !r.Calibrates && r.Skipped == "" })
	s.Twins = partOf(rows, func(r Row) bool { return r.Scored() && r.Twin })
	s.WithoutTwins = partOf(rows, func(r Row) bool { return r.Scored() && !r.Twin })
	return s
}
