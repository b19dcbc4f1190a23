package gate

import (
	"github.com/mistura-project/mistura/internal/rng"
)

// A probe is small: the gate is to cost a learner no more than about one step.
const (
	Rows            = 4
	LongestSequence = 256 // inputs of a row at most
)

// Probe is what a learner computes at the gate: Rows sequences, each of one more token
// than it has inputs. No token but one in each row ends a document, so that rows have
// equally many targets and a mean over rows is one over tokens.
type Probe struct {
	Rows       int     `json:"rows"`
	Tokens     []int32 `json:"tokens"` // [Rows, T+1]
	Boundaries bool    `json:"boundaries"`
	EndToken   int32   `json:"end_token"` // unused without Boundaries
}

// NewProbe draws the probe of a run from its seed. Its tokens are of no text: so they
// are the same whatever the run is trained on, also when that is data of its islands'
// own, and they reach every part of a vocabulary. Sequence is the length of a sample in
// tokens.
func NewProbe(seed uint64, vocab, sequence int, boundaries bool, endToken int32) Probe {
	length := min(max(sequence, 2), LongestSequence)
	p := Probe{Rows: Rows, Boundaries: boundaries, EndToken: endToken}
	for row := range p.Rows {
		draws := rng.New(seed, rng.Gate, uint64(row))
		end := (row + 1) * length / (p.Rows + 1)
		for i := range length + 1 {
			token := int32(draws.Uint64() % uint64(vocab))
			switch {
			case !boundaries:
			case i == end:
				token = endToken
			case token == endToken:
				token = (endToken + 1) % int32(vocab)
			}
			p.Tokens = append(p.Tokens, token)
		}
	}
	return p
}

// Inputs is the number of tokens that a choice of experts is made for, by layer.
func (p Probe) Inputs() int { return len(p.Tokens) - p.Rows }
