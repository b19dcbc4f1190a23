package search

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
)

// ground is a pool as plans are made on it.
type ground struct {
	name     string
	chips    int
	host     int   // chips of one
	sizes    []int // chips that an island may have
	hardware plan.Hardware
	space    *space
	model    *plan.Model
	bounds   [2]*plan.Model // at the highest and the lowest share of the peak, where the user gives a range; nil: none
	hourly   float64        // of a chip
	lasts    float64        // seconds from the start for which it can be had
	path     path
	beside   path    // with the syncers beside it
	memory   float64 // bytes of a host for what an island keeps there; 0: not known
	assumed  []string
}

// path is how an island reaches the syncers.
type path struct {
	ok    bool
	host  float64 // bytes/s of a chip's part of its hosts' network
	link  float64 // bytes/s that all islands of the pool share; 0: nothing but their hosts' network
	price float64 // of a byte
}

// grounds are the pools that can be planned with, and what became of each.
func (q Question) grounds() ([]*ground, []Judged, error) {
	var all []*ground
	judged := make([]Judged, len(q.Fleet.Pools))
	for i, p := range q.Fleet.Pools {
		judged[i] = Judged{Pool: p.Name, Chip: p.Chip.Name, Chips: p.Count}
		g, err := q.ground(p)
		if reason := (*fault.Input)(nil); errors.As(err, &reason) && !errors.As(err, new(missing)) {
			judged[i].Rejected = reason.Error()
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		judged[i].Assumed = g.assumed
		all = append(all, g)
	}
	return all, judged, nil
}

// missing is a price without which nothing can be planned.
type missing struct{ error }

func (m missing) Unwrap() error { return m.error }

func (q Question) ground(p fleet.Pool) (*ground, error) {
	h, err := q.hardware(p)
	if err != nil {
		return nil, err
	}
	hourly, err := q.Fleet.ChipHour(p)
	if err != nil && q.money() {
		return nil, missing{err}
	} else if err != nil {
		hourly = math.NaN()
	}
	g := &ground{name: p.Name, chips: p.Count, host: h.NodeChips, hardware: h, hourly: hourly, lasts: math.Inf(1)}
	g.space = newSpace(q.Task, h, q.KVCopies)
	if err := g.predict(q); err != nil {
		return nil, err
	}
	if !q.Start.IsZero() && !p.Until.IsZero() {
		g.lasts = p.Until.Sub(q.Start).Seconds()
	}
	if !q.Start.IsZero() && p.From.After(q.Start) || g.lasts <= 0 {
		return nil, &fault.Input{Where: p.Name, Value: q.Start.Format(time.DateOnly), Problem: "is not when the pool can be had", Next: "start " + window(p)}
	}
	g.beside, g.memory = beside(p, h), p.HostMemory
	g.path, err = q.path(p, g.beside)
	g.assumed = slices.Concat(h.Assumed, p.Assumed())
	if len(g.model.Assumed) > 0 {
		g.assumed = append(g.assumed, "constants not fitted to this chip: "+strings.Join(g.model.Assumed, ", "))
	}
	return g, err
}

// window is when a pool can be had.
func window(p fleet.Pool) string {
	switch {
	case p.Until.IsZero():
		return "on " + p.From.Format(time.DateOnly) + " or later"
	case p.From.IsZero():
		return "before " + p.Until.Format(time.DateOnly)
	}
	return "from " + p.From.Format(time.DateOnly) + " on and before " + p.Until.Format(time.DateOnly)
}

// hardware is the pool's chip in numbers.
func (q Question) hardware(p fleet.Pool) (plan.Hardware, error) {
	h, err := plan.HardwareOf(p.Chip, q.Sisters...)
	if err != nil {
		return h, err
	}
	if e := p.Efficiency; e != nil {
		h.Share = &plan.Range{Low: e.Low, Mid: e.Mid(), High: e.High}
		h.Assumed = append(h.Assumed, fmt.Sprintf("products reach %.3g to %.3g of the peak, %s", e.Low, e.High, cmp.Or(e.By, "as the fleet file says")))
	}
	return h, nil
}

// predict makes what predicts the pool's chips.
func (g *ground) predict(q Question) (err error) {
	prepare := func(h plan.Hardware) (*plan.Model, error) {
		return plan.PrepareFor(q.Task, h, q.Constants, g.space.tps...)
	}
	h, share := g.hardware, g.hardware.Share
	g.bounds = [2]*plan.Model{}
	if g.model, err = prepare(h); err != nil || share == nil || share.Low == share.High {
		return err
	}
	for i, x := range []float64{share.High, share.Low} {
		h.Share = &plan.Range{Low: x, Mid: x, High: x}
		if g.bounds[i], err = prepare(h); err != nil {
			return err
		}
	}
	return nil
}

// took is the time of an island's step, with its range: what published runs lay in, and
// what the share of the peak may be, are off independently of each other.
func (g *ground) took(f found) plan.Range {
	r := plan.Range{Low: f.step.Low, Mid: f.step.Seconds, High: f.step.High}
	if g.bounds[0] == nil {
		return r
	}
	quick, slow := g.bounds[0].For(f.batch).Time(f.Layout).Seconds, g.bounds[1].For(f.batch).Time(f.Layout).Seconds
	r.Low = r.Mid * math.Exp(-math.Hypot(math.Log(r.Mid/r.Low), math.Log(r.Mid/quick)))
	r.High = r.Mid * math.Exp(math.Hypot(math.Log(r.High/r.Mid), math.Log(slow/r.Mid)))
	return r
}

// near is the place where the syncers stand.
func (q Question) near() string {
	if place := q.placed(); place != "" {
		return place
	}
	return q.Fleet.Pools[0].Name
}

// placed is where the fleet file says that they stand; empty: nowhere.
func (q Question) placed() string {
	f := q.Fleet
	if f.Syncers != nil && f.Syncers.Near != "" {
		return f.Syncers.Near
	}
	for _, l := range f.Links {
		if slices.Contains(l.Between[:], fleet.SyncersPlace) {
			return fleet.SyncersPlace
		}
	}
	return ""
}

// beside is the way to syncers that stand beside the pool.
func beside(p fleet.Pool, h plan.Hardware) path {
	if p.Network > 0 {
		return path{ok: true, host: p.Network / float64(h.NodeChips)}
	}
	return path{ok: true, host: h.NIC}
}

func (q Question) path(p fleet.Pool, way path) (path, error) {
	near := q.near()
	if p.Name == near {
		return way, nil
	}
	link, ok := q.Fleet.Link(p.Name, near)
	if !ok {
		return path{}, nil
	}
	way.link = link.Rate
	if link.Price != nil {
		each, err := q.Fleet.Convert(link.Price.Amount, link.Price.Currency)
		if err != nil && q.money() {
			return path{}, missing{err}
		} else if err != nil {
			each = math.NaN()
		}
		way.price = each / 1e9
	}
	return way, nil
}
