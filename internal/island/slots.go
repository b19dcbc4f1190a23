package island

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// What a saved state holds one value of for each weight: a slot. A state lies in its file
// tensor by tensor as the run names them, whole, so that it does not matter how many
// ranks held which part of them, nor which engine.
const (
	weightsSlot = "weights"
	firstSlot   = "moment1" // mean of the gradients
	secondSlot  = "moment2" // mean of their squares
)

// slotNames are all of them in the order of the file.
func slotNames() []string { return []string{weightsSlot, firstSlot, secondSlot} }

// savedSlot is a slot that a state has.
type savedSlot struct {
	Name   string `json:"name"`
	Digest string `json:"gathered_sha256"`
}

// slotsProblem tells what no state can say of its slots, or nothing.
func slotsProblem(slots []savedSlot, format int) string {
	if format < slotsFormat {
		if len(slots) > 0 {
			return fmt.Sprintf("slots in format %d", format)
		}
		return ""
	}
	names := slotNames()
	for i, s := range slots {
		at := slices.Index(names, s.Name)
		if at < 0 || i == 0 && at != 0 || len(s.Digest) != 2*sha256.Size && s.Digest != "" {
			return fmt.Sprintf("slot %d is %q with digest %q", i, s.Name, s.Digest)
		}
		names = names[at+1:]
	}
	if len(slots) == 0 {
		return "it has no weights"
	}
	return ""
}

// slotTensors views a flat vector as a slot's tensors.
func slotTensors(slot string, table []model.Tensor, flat []float32) []store.Tensor {
	out := make([]store.Tensor, len(table))
	for i, t := range table {
		out[i] = store.Tensor{Name: slot + "." + t.Name, Shape: t.Shape, F32: flat[t.Offset : t.Offset+t.Size()]}
	}
	return out
}

// digestsOf are those of all slots that are among the tensors of a state.
func digestsOf(tensors []store.Tensor) []savedSlot {
	var out []savedSlot
	for _, slot := range slotNames() {
		var own []store.Tensor
		for _, t := range tensors {
			if strings.HasPrefix(t.Name, slot+".") {
				own = append(own, t)
			}
		}
		if len(own) > 0 {
			out = append(out, savedSlot{slot, gathered.Digest(own)})
		}
	}
	return out
}
