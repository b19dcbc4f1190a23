package corpus

import "github.com/mistura-project/mistura/internal/rng"

// Order is the order in which a run goes through the windows of a corpus: sample
// numbers 0, 1, 2 … without end, each epoch a new permutation of all windows. It is
// a pure function of the run's seed, so a resumed run and every island agree on it.
type Order struct {
	seed    uint64
	windows uint64
}

// NewOrder is the order of a run over so many windows, at least one.
func NewOrder(seed uint64, windows int64) Order {
	if windows < 1 {
		panic("corpus: an order needs at least one window")
	}
	return Order{seed: seed, windows: uint64(windows)}
}

// Window is the window that a sample number stands for.
func (o Order) Window(sample uint64) int64 {
	epoch, place := sample/o.windows, sample%o.windows
	return int64(rng.Permute(o.seed, rng.SampleOrder, epoch, o.windows, place))
}
