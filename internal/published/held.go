package published

import (
	"strconv"
	"strings"
)

// Held is memory of a chip by what it holds, in bytes, as a source gives it apart.
type Held struct {
	Activations Amount // of the first stage
	State       Amount // weights, gradients and optimizer's
}

// Held reads rows of activation memory, whose notes have the state.
func (r Run) Held() Held {
	const gib = 1 << 30
	if r.Metric != "activation_memory" || r.Unit != "GiB/chip" || !r.Measured.Known {
		return Held{}
	}
	h := Held{Activations: Amount{r.Measured.Value * gib, true}}
	_, rest, _ := strings.Cut(r.Notes, "weights+optimizer=")
	number, _, ok := strings.Cut(rest, " GiB/chip")
	if v, err := strconv.ParseFloat(number, 64); ok && err == nil {
		h.State = Amount{v * gib, true}
	}
	return h
}
