package footprint

import (
	"strings"

	"github.com/mistura-project/mistura/internal/runfile"
)

// What a rank of the reference learner takes beside tensors of the model: Python and
// PyTorch as they are loaded, and with a device also its driver's part. Measured on the
// CPU with torch 1.13 (228 MB); releases for other devices are larger.
const (
	torchBytes       = 300 << 20
	torchDeviceBytes = 2 << 30
)

// reference is all ranks of the reference learner that a torch island starts. Only what
// lies in this machine's own memory counts: with a device, weights and activations do not.
func reference(run runfile.Run, i runfile.Island) int64 {
	if i.Engine != runfile.Torch {
		return 0
	}
	ranks := int64(max(1, i.Ranks))
	if kind, _, _ := strings.Cut(i.Device, ":"); kind != "" && kind != "cpu" {
		return ranks * torchDeviceBytes
	}
	model := 4 * int64(run.Size())
	return ranks * (torchBytes +
		4*model + // weights, gradients, two moments
		3*model + // of a step: AdamW's root and quotient, gradients on their way
		activations(run))
}

// activations are the values that PyTorch keeps of one forward pass for the backward one,
// of one pass. About: for each token and layer, the
// residual stream and what norms, queries, keys, values and MLPs are made of, and the
// scores of every head with their shares.
func activations(run runfile.Run) int64 {
	c, t := run.Model.Config, run.Train
	floats := 24*c.Dim + 6*(c.TopK*c.ExpertFFN+c.SharedFFN()+c.DenseFFN) + 4*c.Heads*t.SequenceTokens
	return 4 * int64(t.BatchSequences) * int64(t.SequenceTokens) * int64(c.Layers*floats+6*c.Vocab)
}
