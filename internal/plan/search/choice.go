package search

import "github.com/mistura-project/mistura/internal/plan"

// choice is a number of islands and a period that the fleet file allows.
type choice struct {
	islands int
	period  int64 // 0: a lone island
}

// option is some islands that are alike, on one pool.
type option struct {
	ground   int // its place
	count    int // islands
	chips    int // of each
	found    found
	members  plan.Members
	rate     float64 // tokens/s of all of them, checkpoints and interruptions counted
	boundary float64 // seconds that an exchange of the model holds them up
	transfer float64 // seconds that it is on their link
	hourly   float64 // of their chips
	once     float64 // of an exchange: what crosses a link that costs money
	lasts    float64
}

// options are what one pool can add to a plan, for a number of islands in all.
func (s *search) options(at int, c choice) []*option {
	var all []*option
	g := s.grounds[at]
	for _, n := range g.sizes {
		f := s.table[key{at, n, c.islands}]
		if !f.ok {
			continue
		}
		for count := 1; count <= c.islands && count*n <= g.chips; count++ {
			if c.period > 0 && (!g.path.ok || s.crowded(g, n)) {
				break
			}
			all = append(all, s.option(at, n, count, c, f))
		}
	}
	return all
}

func (s *search) option(at, chips, count int, c choice, f found) *option {
	g := s.grounds[at]
	o := &option{ground: at, count: count, chips: chips, found: f, hourly: float64(count*chips) * g.hourly, lasts: g.lasts}
	o.members = s.members(g, chips, count, c, f)
	w := plan.Whole{Sequence: s.q.Task.Sequence, Keeping: s.q.Run}
	o.rate = float64(count) * w.Rate(o.members)
	if c.period > 0 {
		o.boundary, o.transfer = o.members.Boundary.Mid, o.members.Transfer
		o.once = float64(count) * 2 * s.wireBytes() * g.path.price
	}
	return o
}

// members are the islands as the arithmetic of whole runs takes them.
func (s *search) members(g *ground, chips, count int, c choice, f found) plan.Members {
	m := plan.Members{Name: g.name, Count: count, Chips: chips, Batch: f.batch, MTBF: g.hardware.MTBF, Step: g.took(f)}
	each := s.parameters / float64(chips)
	m.Save = copies(12*each, g.hardware)
	if g.hardware.Host == 0 {
		m.Unknown = []string{"the rate between chips of " + g.name + " and their hosts is not known: at least that of their network cards"}
	}
	if c.period == 0 {
		return m
	}
	m.Boundary = copies(2*4*each, g.hardware)
	rate := g.path.host * float64(chips)
	if g.path.link > 0 {
		rate = min(rate, g.path.link/float64(count))
	}
	if y := s.q.Fleet.Syncers; y != nil && y.Link > 0 {
		rate = min(rate, y.Link*float64(s.hosts[c].syncers.Count)/float64(c.islands))
	}
	m.Transfer = s.wireBytes() / rate
	return m
}

// copies is what a chip takes to copy bytes to or from its host. Through an unknown link
// it takes no longer than through its network card, for that is behind the same link.
func copies(bytes float64, h plan.Hardware) plan.Range {
	if h.Host > 0 {
		t := bytes / h.Host
		return plan.Range{Low: t, Mid: t, High: t}
	}
	return plan.Range{High: bytes / h.NIC}
}
