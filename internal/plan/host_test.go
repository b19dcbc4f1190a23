package plan

import "testing"

// What docs/pytorch.md says that 7 B parameters take: "at most".
func TestHostsOfSevenBillion(t *testing.T) {
	part := func(told []Told, name string) float64 {
		for _, p := range told {
			if p.Name == name {
				return p.Value / 1e9
			}
		}
		t.Fatalf("no %s", name)
		return 0
	}
	for _, c := range []struct {
		x               Exchanging
		shared, process float64 // GB
	}{
		{Exchanging{Hosts: 1, Ranks: 8}, 56, 220}, {Exchanging{Hosts: 2, Ranks: 8}, 28, 160},
		{Exchanging{Hosts: 1, Ranks: 8, Whole: true}, 252, 220}, {Exchanging{Hosts: 2, Ranks: 8, Whole: true}, 252, 160},
	} {
		c.x.Parameters, c.x.Fragments, c.x.Islands = 7e9, 24, 2
		told := c.x.HostMemory().Island
		shared := part(told, "shared with ranks")
		if process := Sum(told)/1e9 - shared; shared != c.shared || process > c.process || process < 0.9*c.process {
			t.Errorf("%+v: %.0f GB shared and %.0f GB of the process, the page says %g and %g", c.x, shared, process, c.shared, c.process)
		}
	}
}

// Syncers share the model; each island costs all of them one and a half of their part.
func TestSyncersShareTheModel(t *testing.T) {
	one := Exchanging{Parameters: 4e9, Fragments: 8, Islands: 3}
	four, more := one, one
	four.Syncers, more.Islands = 4, 4
	whole, part, wider := Sum(one.HostMemory().Syncer), Sum(four.HostMemory().Syncer), Sum(more.HostMemory().Syncer)
	if part > whole/2 || part < whole/4 || wider-whole < 6*4e9 || wider-whole > 6.5*4e9 {
		t.Errorf("%.4g bytes of one, %.4g of each of four, %.4g with an island more", whole, part, wider)
	}
}
