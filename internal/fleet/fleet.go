package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/chip"
)

// Fleet is what there is to plan with.
type Fleet struct {
	File     string // as errors name it
	Name     string
	Currency string // of the plan; empty when there is no price
	Rates    []Rate
	Pools    []Pool
	Links    []Link
	Syncers  *Hosts // nil: not said
	// Controllers are hosts that are paid beside the chips whatever they do: the
	// coordinator's, a cloud's own. Nil: none.
	Controllers *Hosts
	Exchange    Exchange
}

// Exchange is what islands may give up for not waiting for each other. More islands
// and longer periods are always cheaper, so that a plan needs a bound of both, the
// losses of a rehearsal, or the numbers themselves.
type Exchange struct {
	Islands    int   // this many; 0: not said
	Period     int64 // this many fleet tokens between two merges of a fragment; 0: not said
	MaxIslands int   // at most; 0: not said
	MaxPeriod  int64 // fleet tokens; 0: not said
	// Losses are what a rehearsal measured, one row a choice; only those rows may be
	// chosen whose loss is at most MaxLoss.
	Losses  []Loss
	MaxLoss float64
}

// Loss is the validation loss of a rehearsed choice, in nats.
type Loss struct {
	Islands int
	Period  int64
	Loss    float64
}

// Pool is some chips of one kind that stand together.
type Pool struct {
	Name  string
	Chip  chip.Chip // of the catalogue, with the pool's own figures over it
	Count int       // chips
	// Prices are the offers, at most one of each kind; Use is the kind that is planned
	// with, empty without any.
	Prices []Price
	Use    Kind
	// From and Until are the days between which it can be had; zero: not said, always.
	From, Until time.Time
	// Efficiency is the share of the peak that products reach, as the user says; nil:
	// the model's own.
	Efficiency *Span
	// Network is bytes/s of a host to the hosts of other islands of the pool, one
	// direction; 0: as the chips' network cards.
	Network float64
	// HostMemory is bytes of each host for what an island keeps there beside others; 0:
	// not said.
	HostMemory float64
	// Own are the figures that the file states in place of the catalogue's, in its
	// order; of those marked so Assumed is true.
	Own []Own

	where string // file, line and place in it
}

// Own is a figure of a pool's own, as it is written.
type Own struct {
	Key     string
	Text    string // with its unit
	Assumed bool
	Source  string
}

// Span is a number that lies somewhere between two.
type Span struct {
	Low, High float64
	Likely    float64 // what it is most likely; 0: nobody says, and the middle is taken
	By        string  // who says so, in words; empty: the fleet file
}

// Mid is what to reckon with.
func (s Span) Mid() float64 { return cmp.Or(s.Likely, (s.Low+s.High)/2) }

// Kind is how chips are paid for.
type Kind string

// Kinds of prices.
const (
	OnDemand Kind = "on-demand"
	Spot     Kind = "spot"
	Reserved Kind = "reserved"
	Owned    Kind = "owned"
)

// Kinds lists them all.
func Kinds() []Kind { return []Kind{OnDemand, Spot, Reserved, Owned} }

// Price is an offer.
type Price struct {
	Amount   float64 // of an hour of a chip, of an hour of a host, or of a GB, as its place says; 0 for owned chips only
	Currency string
	Kind     Kind // of chips
	Date     time.Time
	Source   string
}

// Rate turns an amount of one currency into another.
type Rate struct {
	From, To string
	Rate     float64 // of To for one of From
	Date     time.Time
}

// Hosts are machines without chips.
type Hosts struct {
	Count  int     // at most, of syncers; 0: as many as are needed
	Memory float64 // bytes of each; 0: not said
	Link   float64 // bytes/s of each, one direction; 0: not said
	Near   string  // the pool beside which they stand; empty: the links say how far they are
	Price  *Price  // of a host for an hour; nil: not said
}

// SyncersPlace stands for the syncers in a link.
const SyncersPlace = "syncers"

// Link joins two pools, or a pool and the syncers.
type Link struct {
	Between [2]string
	Rate    float64 // bytes/s, one direction
	Price   *Price  // of a GB that crosses it; nil: not said, which costs nothing
}

// Price is the offer that the pool is planned with.
func (p Pool) Price() (Price, bool) {
	for _, offer := range p.Prices {
		if offer.Kind == p.Use {
			return offer, true
		}
	}
	return Price{}, false
}

// Assumed are the keys of the pool's own figures that its owner only assumes.
func (p Pool) Assumed() []string {
	var some []string
	for _, own := range p.Own {
		if own.Assumed {
			some = append(some, own.Key)
		}
	}
	return some
}

// Link is what joins two places, in either direction.
func (f Fleet) Link(a, b string) (Link, bool) {
	i := slices.IndexFunc(f.Links, func(l Link) bool {
		return l.Between == [2]string{a, b} || l.Between == [2]string{b, a}
	})
	if i < 0 {
		return Link{}, false
	}
	return f.Links[i], true
}
