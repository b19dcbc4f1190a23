package attach

import (
	"fmt"
	"math"
)

// What an Action does with the state of an island: weights and what the optimizer keeps
// of each of them, slot by slot through the same memory as the fragments.
const (
	Save    = "save"    // for each slot: out ← slot, Slot
	Restore = "restore" // for each slot: Load, slot ← in, out ← slot, Slot
)

// Keeping says more about Save and Restore.
type Keeping struct {
	Checkpoint uint64   `json:"checkpoint"` // 0 of Restore
	Slots      []string `json:"slots"`      // in this order
	Steps      uint64   `json:"steps"`      // Restore: of the optimizer
	Scale      Number   `json:"scale"`      // Restore: of dynamic loss scaling; 0: none
	ScaleSteps int      `json:"scale_steps"`
	Folder     string   `json:"folder"` // Save: for what the trainer saves itself
	Files      []File   `json:"files"`  // Restore: what it saved itself
}

// File is a file that a rank has saved itself.
type File struct {
	Rank int    `json:"rank"`
	Path string `json:"path"`
}

// Slot: the rank's pieces of a slot are in its out-area. It waits for Taken, for what
// comes next goes to the same place.
type Slot struct {
	Checkpoint uint64 `json:"checkpoint"` // of the action
	Slot       string `json:"slot"`
	Steps      uint64 `json:"steps"` // of the optimizer
	Scale      Number `json:"scale"` // of dynamic loss scaling; 0: none
	ScaleSteps int    `json:"scale_steps"`
}

// Taken answers Slot.
type Taken struct{}

// Load asks for the rank's pieces of a slot in its in-area; Loaded says that they are there.
type Load struct {
	Slot string `json:"slot"`
}

// Loaded answers Load.
type Loaded struct{}

// Kept: what the rank has saved itself for a checkpoint; an empty path: nothing. It is
// said once for each Save, at the boundary behind it at the latest.
type Kept struct {
	Checkpoint uint64 `json:"checkpoint"`
	Path       string `json:"path"`
}

func (s *Slot) problem() string {
	if s.ScaleSteps < 0 || !(s.Scale >= 0 && s.Scale <= math.MaxFloat32) {
		return fmt.Sprintf("scale %v of %d steps", float64(s.Scale), s.ScaleSteps)
	}
	return ""
}
