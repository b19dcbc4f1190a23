package corpus

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/mistura-project/mistura/internal/fault"
)

// Spec says which text a run trains on.
type Spec struct {
	// Paths are text files, folders and JSON Lines files. Empty: the source tree of
	// the installed Go toolchain.
	Paths []string
	// ValidShare is the part of the text to hold back for validation, 0 < share <= 0.5.
	ValidShare float64
	// Seq is the tokens of a training sequence. Both parts must hold Seq+1 tokens.
	Seq int
	// Strict refuses JSON Lines that have no text, with file and line; otherwise they
	// are left out and counted.
	Strict bool
}

// validate checks the numbers.
func (s Spec) validate() error {
	switch {
	case !(s.ValidShare > 0 && s.ValidShare <= 0.5):
		return &fault.Input{Where: "data.valid_share", Value: fmt.Sprint(s.ValidShare),
			Problem: "must be above 0 and at most 0.5", Next: "leave it out for the default"}
	case s.Seq < 1:
		return &fault.Input{Where: "train.sequence_tokens", Value: fmt.Sprint(s.Seq),
			Problem: "must be at least 1", Next: "leave it out for the default"}
	}
	return nil
}

// input identifies the spec in an index.
func (s Spec) input(source string) (input, error) {
	in := input{Source: source, Paths: []string{}, ValidShare: s.ValidShare, Strict: s.Strict, HeldOut: byDocument}
	for _, p := range s.Paths {
		full, err := filepath.Abs(p)
		if err != nil {
			return input{}, fmt.Errorf("absolute path of %s: %w", p, err)
		}
		in.Paths = append(in.Paths, full)
	}
	return in, nil
}

// same tells whether two inputs ask for the same tokens.
func (in input) same(o input) bool {
	return slices.Equal(in.Paths, o.Paths) && in.ValidShare == o.ValidShare && in.Strict == o.Strict
}

// tooShort refuses text that gives no training window or no held-out window.
func tooShort(source string, seq int, has int64) error {
	return &fault.Input{Where: source, Problem: fmt.Sprintf(
		"has %d tokens, needs %d: one sequence of %d tokens to train on and one held back for validation", has, 2*(seq+1), seq+1),
		Next: "add text with --data or lower train.sequence_tokens"}
}
