package search

import (
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
)

// Defaults of an exchange.
const (
	fewFragments    = 4   // the run file's
	mostOfAFragment = 1e9 // parameters: 4 GB, of which hosts keep some at a time
	wireBytes       = 4   // of a parameter: fp32, as islands send it
)

// wireBytes is the model on the wire, one way.
func (s *search) wireBytes() float64 {
	if s.q.Exchange.WireBytes > 0 {
		return s.parameters * s.q.Exchange.WireBytes
	}
	return s.parameters * wireBytes
}

// hosted is what a choice needs in hosts without chips.
type hosted struct {
	syncers Syncers
	lines   []Line
	hourly  float64
}

// host settles what every choice needs, and leaves out those for which the syncers' memory
// is not enough.
func (s *search) host() error {
	s.hosts = map[choice]hosted{}
	var kept []choice
	var err error
	for _, c := range s.choices {
		y, short := s.syncers(c)
		if short != nil {
			err = short
			continue
		}
		h := hosted{syncers: y, lines: s.fixed(y.Count)}
		for _, l := range h.lines {
			h.hourly += l.Hourly
		}
		s.hosts[c], kept = h, append(kept, c)
	}
	if s.choices = kept; len(kept) > 0 {
		return nil
	}
	return err
}

// fragments are as many as keep one small.
func (s *search) fragments() int {
	if s.q.Exchange.Fragments > 0 {
		return s.q.Exchange.Fragments
	}
	return max(fewFragments, int(math.Ceil(s.parameters/mostOfAFragment)))
}

// exchanging is a choice in the words of what hosts keep.
func (s *search) exchanging(c choice) plan.Exchanging {
	return plan.Exchanging{Parameters: int64(s.parameters), Fragments: s.fragments(), Islands: c.islands}
}

// onHost is the memory that an island of some chips takes on each of its hosts while it
// exchanges with others.
func (s *search) onHost(g *ground, chips int) float64 {
	x := s.exchanging(choice{})
	x.Hosts = max(1, chips/g.host)
	x.Ranks = chips / x.Hosts
	return plan.Sum(x.HostMemory().Island)
}

// crowded: hosts are known to have less.
func (s *search) crowded(g *ground, chips int) bool {
	return g.memory > 0 && s.onHost(g, chips) > g.memory
}

// syncers are as many hosts as their memory asks for.
func (s *search) syncers(c choice) (Syncers, error) {
	if c.period == 0 {
		return Syncers{}, nil
	}
	f := s.q.Fleet.Syncers
	if f == nil {
		f = &fleet.Hosts{}
	}
	for n := 1; ; n++ {
		x := s.exchanging(c)
		x.Syncers = n
		each := plan.Sum(x.HostMemory().Syncer)
		if f.Memory == 0 || each <= f.Memory {
			return Syncers{n, float64(n) * each}, nil
		}
		if n == f.Count || n >= mostSyncers {
			return Syncers{}, &fault.Input{Where: s.q.Fleet.File + ": syncers.memory", Value: scaled(f.Memory),
				Problem: fmt.Sprintf("is not enough for %d islands: each of %d syncers needs %s", c.islands, n, scaled(each)), Next: "add hosts or memory, or allow fewer islands"}
		}
	}
}

// scaled writes bytes.
func scaled(bytes float64) string { return anatomy.Scaled(bytes, "B", "kB", "MB", "GB", "TB") }

const mostSyncers = 4096

// fixed are the lines of hosts without chips.
func (s *search) fixed(syncers int) []Line {
	var all []Line
	if h := s.q.Fleet.Controllers; h != nil {
		all = append(all, s.line("controllers", h, max(1, h.Count)))
	}
	if syncers > 0 {
		h := s.q.Fleet.Syncers
		if h == nil {
			h = &fleet.Hosts{}
		}
		all = append(all, s.line("syncers", h, syncers))
	}
	return all
}

func (s *search) line(name string, h *fleet.Hosts, count int) Line {
	l := Line{Name: name, Formula: fmt.Sprintf("%d hosts", count)}
	if h.Price == nil {
		l.Unknown = "the fleet file gives no price of them"
		return l
	}
	each, err := s.q.Fleet.Convert(h.Price.Amount, h.Price.Currency)
	if err != nil {
		l.Unknown = err.Error()
		return l
	}
	l.Hourly = float64(count) * each
	l.Formula += fmt.Sprintf(" × %g an hour", each)
	return l
}

// money is what a combination costs, line by line.
func (s *search) money(c combination) []Line {
	var all []Line
	hours := c.seconds / 3600
	for _, o := range c.options {
		g := s.grounds[o.ground]
		line := Line{Name: g.name, Hourly: o.hourly, Amount: hours * o.hourly, Formula: fmt.Sprintf("%d chips × %g an hour", o.count*o.chips, g.hourly)}
		if s.unpriced {
			line = Line{Name: g.name, Formula: fmt.Sprintf("%d chips", o.count*o.chips), Unknown: "not all pools have a price"}
		}
		all = append(all, line)
	}
	for _, l := range s.hosts[c.choice].lines {
		l.Amount = hours * l.Hourly
		all = append(all, l)
	}
	if c.choice.period == 0 {
		return all
	}
	periods := s.periods(c)
	for _, o := range c.options {
		if g := s.grounds[o.ground]; o.once > 0 {
			all = append(all, Line{Name: "traffic of " + g.name, Amount: periods * o.once,
				Formula: fmt.Sprintf("%.0f exchanges × %d islands × 2 × %.4g GB × %g a GB", periods, o.count, s.wireBytes()/1e9, g.path.price*1e9)})
		}
	}
	return all
}
