package search

import (
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/fleet"
)

// Defaults of an exchange.
const (
	mostFragments = 64
	wireBytes     = 1 // of a parameter: int8
)

// wireBytes is the model on the wire, one way.
func (s *search) wireBytes() float64 {
	if s.q.Exchange.WireBytes > 0 {
		return s.parameters * s.q.Exchange.WireBytes
	}
	return s.parameters * wireBytes
}

// syncers is what an exchange needs: as many hosts as their memory asks for.
func (s *search) syncers(c choice) Syncers {
	if c.period == 0 {
		return Syncers{}
	}
	y := Syncers{Count: 1, Bytes: syncerBytes * s.parameters}
	if f := s.q.Fleet.Syncers; f != nil {
		if f.Memory > 0 {
			y.Count = int(math.Ceil(y.Bytes / f.Memory))
		}
		if f.Count > 0 {
			y.Count = min(y.Count, f.Count)
		}
	}
	return y
}

// syncerBytes are those of a parameter: value, momentum and residual in fp32, with a copy.
const syncerBytes = 2 * 3 * 4

// hourly is what is paid whatever islands there are.
func (s *search) hourly(c choice) float64 {
	sum := 0.0
	for _, l := range s.fixed(c) {
		sum += l.Hourly
	}
	return sum
}

// fixed are the lines of hosts without chips.
func (s *search) fixed(c choice) []Line {
	var all []Line
	if h := s.q.Fleet.Controllers; h != nil {
		all = append(all, s.hosts("controllers", h, max(1, h.Count)))
	}
	if n := s.syncers(c).Count; n > 0 {
		h := s.q.Fleet.Syncers
		if h == nil {
			h = &fleet.Hosts{}
		}
		all = append(all, s.hosts("syncers", h, n))
	}
	return all
}

func (s *search) hosts(name string, h *fleet.Hosts, count int) Line {
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
	for _, l := range s.fixed(c.choice) {
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
